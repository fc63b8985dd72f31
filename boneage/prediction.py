"""Prediction from raw files: every file answered for, in one table."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boneage.heatmap import write_heat_map
from boneage.reader import load_reader, settle_sex
from boneage.reports.writer import Reports
from boneage.views import VIEWS
from preprocessing.notes import name_work, work_noted
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
    "sds",
    "file",
    "detail",
    "reports",
)


# Fewer are read sooner than another process has started.
_FILES_PER_PROCESS = 25


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
    reference: str | Path | None = None,
    pictures: str | Path | None = None,
    dicom: str | Path | None = None,
    fhir: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict bone age from radiograph files. With `out`, a killed run goes on where it was.

    Args:
        inputs: Files and folders.
        bundle: Folder of the trained bundle; the one that ships with the package without it.
        sex_bundle: Folder of a bundle that tells the sex, to warn where the recorded one looks wrong and to answer
            where it is not known; the one that ships where `bundle` is the one that ships.
        sex: Sex of all the children, `"female"` or `"male"`; DICOM files bring their own.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`.
        views: `"one"`, `"mirrored"` or `"ten"` looks at each radiograph; what the bundle names without it.
        reference: CSV with a reference table, see `boneage.reference`; the Brush Foundation's without it.
        pictures: Folder for a picture, `<id>.png`, of each hand that is answered for: the crop, and what the answer
            rests on in it.
        dicom: Folder for a structured report and a secondary capture of each DICOM file that is answered for, objects
            of its own study, named by their UIDs.
        fhir: Folder for a FHIR R4 observation of each hand that is answered for, named by a random id.
        out: CSV to write.
        workers: Number of processes; without it one per core, but none for fewer than 25 files.
        progress: Called with the number of finished and of all files.

    Returns:
        One row for each file, and for each row of the table without a file: `id`; `bone_age_months`, NaN where not
        accepted; `low_months` and `high_months`, the interval, NaN where the bundle knows none; `sds`, the standard
        deviation score by the reference table, NaN where the child's age is not known; `sex`; `accepted`;
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
    folder, dicom, fhir = (None if each is None else Path(each) for each in (pictures, dicom, fhir))
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PredictionError(f"{folder}: {error.strerror}; name another folder by --pictures.") from error
    request = _Request(bundle, sex_bundle, reference, dicom=dicom, fhir=fhir, pictures=folder, sex=sex, views=views)
    _load.cache_clear()  # another bundle may have taken the place of the last one
    digest = _load(request).reader.digest
    cases, rejections = find_cases(inputs, table=table)
    rows = [make_row(each.id, file=each.file, reasons=each.reason, detail=each.detail) for each in rejections]
    named = {name_work(case, work=(request, digest, case.sex, case.chronological_age_months)): case for case in cases}
    notes = None if out is None else Path(f"{out}.part.jsonl")
    workers = workers or min(os.cpu_count() or 1, 1 + len(cases) // _FILES_PER_PROCESS)
    work = functools.partial(_answer, request=request)
    try:
        rows += work_noted(work, named, notes=notes, workers=workers, progress=progress)
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["id", "file"], kind="stable", ignore_index=True)
        if out is not None and notes is not None:
            write_text(Path(out), frame.to_csv(index=False, float_format="%.2f"))
            notes.unlink()
    except OSError as error:
        raise PredictionError(f"{error.filename or out}: {error.strerror}; name another file by --out.") from error
    return frame


@dataclasses.dataclass(frozen=True)
class _Request:
    """What is asked of every file, for processes that load the bundles themselves; see `predict`."""

    bundle: str | Path | None
    sex_bundle: str | Path | None
    reference: str | Path | None
    dicom: Path | None
    fhir: Path | None
    pictures: Path | None
    sex: str | None
    views: str | None


@functools.lru_cache(maxsize=1)
def _load(request: _Request) -> Reports:
    """Load the bundles and the reference table once in each process."""
    reader = load_reader(request.bundle, sex_bundle=request.sex_bundle, reference=request.reference)
    return Reports(reader, dicom=request.dicom, fhir=request.fhir)


def _answer(job: tuple[str, Case], *, request: _Request) -> dict[str, object]:
    _, case = job
    return answer_case(case, _load(request), sex=request.sex, views=request.views, pictures=request.pictures)


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
        age_months = case.chronological_age_months
        reading = reader.read(
            radiograph,
            path=case.path,
            sex=settle_sex(case.sex or radiograph.sex, sex, path=case.path),
            views=views,
            chronological_age_months=radiograph.chronological_age_months if age_months is None else age_months,
        )
    except UnreadableImage as error:
        return make_row(case.id, file=case.path.name, reasons=error.reason, detail=str(error))
    if pictures is not None:
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
        # Finer, it would tell the age to the day.
        "sds": round(reading.sds, 1),
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
        "sds": nothing,
        "file": file,
        "detail": detail,
        "reports": "",
    }
