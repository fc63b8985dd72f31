"""Prediction from raw files: every file answered for, in one table."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boneage.heatmap import write_heat_map
from boneage.reader import Reader, load_reader
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
    "sds",
    "sex",
    "accepted",
    "reasons",
    "warnings",
    "male_share",
    "file",
    "detail",
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
    out: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict bone age from radiograph files. With `out`, a killed run goes on where it was.

    Args:
        inputs: Files and folders.
        bundle: Folder of the trained bundle; the one that ships with the package without it.
        sex_bundle: Folder of a bundle that tells the sex, to warn where the recorded one looks wrong and to answer
            where it is not known; the one that ships beside the packaged bundle where that is used.
        sex: Sex of all the children, `"female"` or `"male"`; DICOM files bring their own.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`.
        views: `"one"`, `"mirrored"` or `"ten"` looks at each radiograph; what the bundle names without it.
        reference: CSV with a reference table, see `boneage.reference`; the Brush Foundation's without it.
        pictures: Folder for a picture, `<id>.png`, of each hand that is answered for: the crop, and what the answer
            rests on in it.
        out: CSV to write.
        workers: Number of processes; without it one per core, but none for fewer than 25 files.
        progress: Called with the number of finished and of all files.

    Returns:
        One row for each file, and for each row of the table without a file: `id`; `bone_age_months`, NaN where not
        accepted; `low_months` and `high_months`, the interval, NaN where the bundle knows none; `sds`, the standard
        deviation score by the reference table, NaN where the child's age is not known; `sex`; `accepted`;
        `reasons` (codes); `warnings` (`sex_looks_wrong`, `sex_from_image`); `male_share`, the probability of a boy, NaN
        without a network that tells it; `file`; `detail` (one line that names the fix).

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
    _load.cache_clear()  # another bundle may have taken the place of the last one
    digest = _load(bundle, sex_bundle, reference).digest
    folder = None if pictures is None else Path(pictures)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PredictionError(f"{folder}: {error.strerror}; name another folder by --pictures.") from error
    cases, rejections = find_cases(inputs, table=table)
    rows = [_row(each.id, file=each.file, reasons=each.reason, detail=each.detail) for each in rejections]
    request = _Request(bundle, sex_bundle, reference, digest=digest, sex=sex, views=views, pictures=folder)
    named = {name_work(case, work=(request, case.sex, case.chronological_age_months)): case for case in cases}
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
    """What is asked of every file, for processes that load the bundles themselves; see `predict`.

    The digest of the bundles is here for the notes: what another bundle answered is not taken up.
    """

    bundle: str | Path | None
    sex_bundle: str | Path | None
    reference: str | Path | None
    digest: str
    sex: str | None
    views: str | None
    pictures: Path | None


@functools.lru_cache(maxsize=1)
def _load(bundle: str | Path | None, sex_bundle: str | Path | None, reference: str | Path | None) -> Reader:
    """Load the bundles and the reference table once in each process."""
    return load_reader(bundle, sex_bundle=sex_bundle, reference=reference)


def _answer(job: tuple[str, Case], *, request: _Request) -> dict[str, object]:
    """Return the row of one radiograph."""
    _, case = job
    reader = _load(request.bundle, request.sex_bundle, request.reference)
    try:
        radiograph = read_radiograph(case.path)
        recorded = case.sex or radiograph.sex
        if request.sex and recorded and request.sex != recorded:
            raise UnreadableImage(
                f"{case.path.name}: the header says {recorded}, the request {request.sex}; find out which is right.",
                reason="sex_conflict",
            )
        age_months = case.chronological_age_months
        reading = reader.read(
            radiograph,
            path=case.path,
            sex=recorded or request.sex,
            views=request.views,
            chronological_age_months=radiograph.chronological_age_months if age_months is None else age_months,
        )
    except UnreadableImage as error:
        return _row(case.id, file=case.path.name, reasons=error.reason, detail=str(error))
    if request.pictures is not None:
        male = male_from_sex(reading.sex) if reading.sex else 0.0
        write_heat_map(reader.age, reading.crop, request.pictures / f"{Path(case.id).name}.png", male=male)
    return {
        **_row(case.id, file=case.path.name),
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


def _row(id: str, *, file: str, reasons: str = "", detail: str = "") -> dict[str, object]:
    nothing = float("nan")
    return {
        "id": id,
        "bone_age_months": nothing,
        "low_months": nothing,
        "high_months": nothing,
        "sds": nothing,
        "sex": "",
        "accepted": False,
        "reasons": reasons,
        "warnings": "",
        "male_share": nothing,
        "file": file,
        "detail": detail,
    }
