"""Prediction from raw files: every file answered for, in one table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boneage.reader import load_reader
from boneage.reports.writer import Reports
from boneage.views import VIEWS
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from preprocessing.sources import Case, find_cases
from tfrecords.errors import BoneAgeError, check_choice
from tfrecords.schema import SEXES, male_from_sex
from tfrecords.write import write_text

COLUMNS = (
    "id",
    "bone_age_months",
    "low_months",
    "high_months",
    "sex",
    "accepted",
    "reasons",
    "warnings",
    "male_share",
    "file",
    "detail",
    "reports",
)


class PredictionError(BoneAgeError):
    """A request for predictions that cannot be met as a whole."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | None = None,
    sex_bundle: str | Path | None = None,
    sex: str | None = None,
    table: str | Path | None = None,
    views: str | None = None,
    pictures: str | Path | None = None,
    dicom: str | Path | None = None,
    fhir: str | Path | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict bone age from radiograph files.

    Args:
        inputs: Files and folders.
        bundle: Folder of the trained bundle; the one that ships with the package without it.
        sex_bundle: Folder of a bundle that tells the sex, to warn where the recorded one looks wrong and to answer
            where it is not known; the one that ships beside the packaged bundle where that is used.
        sex: Sex of all the children, `"female"` or `"male"`; DICOM files bring their own.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`.
        views: `"one"`, `"mirrored"` or `"ten"` looks at each radiograph; what the bundle names without it.
        pictures: Folder for a picture, `<id>.png`, of each hand that is answered for: the crop, and what the answer
            rests on in it.
        dicom: Folder for a structured report and a secondary capture of each DICOM file that is answered for, objects
            of its own study, named by their UIDs.
        fhir: Folder for a FHIR R4 observation of each hand that is answered for, named by a random id.
        out: CSV to write.
        progress: Called with the number of finished and of all files.

    Returns:
        One row for each file, and for each row of the table without a file: `id`; `bone_age_months`, NaN where not
        accepted; `low_months` and `high_months`, the interval, NaN where the bundle knows none; `sex`; `accepted`;
        `reasons` (codes); `warnings` (`sex_looks_wrong`, `sex_from_image`); `male_share`, the probability of a boy, NaN
        without a network that tells it; `file`; `detail` (one line that names the fix, also where
        a DICOM header allows no report); `reports`, the names of the files in `dicom` and `fhir`, joined by `;`.

    Raises:
        BoneAgeError: If the inputs or the table are not there, or the bundle is damaged or cannot be reproduced.
        ValueError: If `sex` is neither, both `sex` and `table` are given, or `views` is unknown.
    """
    if sex is not None and sex not in SEXES:
        raise ValueError(f"`sex` must be 'female' or 'male'. Received: {sex!r}.")
    if sex is not None and table is not None:
        raise ValueError("give `sex` or `table`, not both: the table tells the sex of each child.")
    if views is not None:
        check_choice("views", views, tuple(VIEWS))
    reader = load_reader(bundle, sex_bundle=sex_bundle)
    folder = None if pictures is None else Path(pictures)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PredictionError(f"{folder}: {error.strerror}; name another folder by --pictures.") from error
    reports = Reports(reader, dicom=None if dicom is None else Path(dicom), fhir=None if fhir is None else Path(fhir))
    cases, rejections = find_cases(inputs, table=table)
    rows = [make_row(each.id, file=each.file, reasons=each.reason, detail=each.detail) for each in rejections]
    for finished, case in enumerate(cases, start=1):
        try:
            rows.append(answer_case(case, reports, sex=sex, views=views, pictures=folder))
        except OSError as error:
            raise PredictionError(f"{error.filename}: {error.strerror}; make room, or name another folder.") from error
        if progress:
            progress(finished, len(cases))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["id", "file"], kind="stable", ignore_index=True)
    if out is not None:
        try:
            write_text(Path(out), frame.to_csv(index=False, float_format="%.2f"))
        except OSError as error:
            raise PredictionError(f"{out}: {error.strerror}; name another file by --out.") from error
    return frame


def answer_case(
    case: Case, reports: Reports, *, sex: str | None = None, views: str | None = None, pictures: Path | None = None
) -> dict[str, object]:
    """Answer for one radiograph.

    Args:
        case: The radiograph, and what its source says of it.
        reports: What reads it, and where its reports go.
        sex: As in `predict`.
        views: As in `predict`.
        pictures: As in `predict`.

    Returns:
        Its row, as `predict` describes it.

    Raises:
        OSError: If a picture or a report cannot be written.
    """
    reader = reports.reader
    try:
        radiograph = read_radiograph(case.path)
        recorded = case.sex or radiograph.sex
        if sex and recorded and sex != recorded:
            raise UnreadableImage(
                f"{case.path.name}: the header says {recorded}, the request {sex}; find out which is right.",
                reason="sex_conflict",
            )
        reading = reader.read(radiograph, path=case.path, sex=recorded or sex, views=views)
    except UnreadableImage as error:
        return make_row(case.id, file=case.path.name, reasons=error.reason, detail=str(error))
    if pictures is not None:
        # Imported here: it draws by matplotlib, which takes longer to start than to answer.
        from boneage.heatmap import write_heat_map

        male = male_from_sex(reading.sex) if reading.sex else 0.0
        write_heat_map(reader.age, reading.crop, pictures / f"{Path(case.id).name}.png", male=male)
    row = make_row(case.id, file=case.path.name)
    try:
        names, row["detail"] = reports.write(radiograph, reading, path=case.path)
        row["reports"] = ";".join(names)
    except UnreadableImage as error:  # gone since it was read: the answer is there all the same
        row["detail"] = str(error)
    return {
        **row,
        "bone_age_months": reading.bone_age_months,
        "low_months": reading.low_months,
        "high_months": reading.high_months,
        "sex": reading.sex or "",
        "accepted": True,
        "warnings": ";".join(reading.warnings),
        "male_share": reading.male_share,
    }


def make_row(id: str, *, file: str, reasons: str = "", detail: str = "") -> dict[str, object]:
    """Make the row of a file that is not answered for, as `predict` describes it."""
    nothing = float("nan")
    return {
        "id": id,
        "bone_age_months": nothing,
        "low_months": nothing,
        "high_months": nothing,
        "sex": "",
        "accepted": False,
        "reasons": reasons,
        "warnings": "",
        "male_share": nothing,
        "file": file,
        "detail": detail,
        "reports": "",
    }
