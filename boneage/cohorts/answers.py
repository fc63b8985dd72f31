"""The answers of a system for labelled radiographs: a bundle reads them, or a table of predictions names them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boneage.base.errors import check_choice
from boneage.base.limits import cpu_count
from boneage.bundles.seen import Overlap, find_overlap, hash_radiographs, read_seen
from boneage.cohorts.labelled import CohortError, Labelled
from boneage.configuration.training import TTA_TRANSFORMS
from boneage.evaluation.conformal import COVERAGE_SHARE
from boneage.inference.loading import load
from boneage.inference.reader import Reader
from boneage.preprocessing.io.isolated import start_decoder
from boneage.preprocessing.io.radiograph import hash_pixels
from boneage.preprocessing.jobs.resumable import resume_key, run_resumable
from boneage.preprocessing.sources.names import FileIndex
from boneage.preprocessing.sources.rejections import InvalidEntryError
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.sources.tables import MAX_AGE_MONTHS, TABLE_SUFFIXES
from boneage.registry.resolve import pin_bundle, resolve_bundle
from boneage.studies.columns import BONE_AGE, HIGH, ID, LOW, MONTHS_PER_UNIT, Column, read_columns

NO_ANSWER = "no_answer"
"""The reason of a radiograph that a table of predictions leaves out or blank."""
COLUMNS = ("id", "predicted_months", "low_months", "high_months", "reasons")
# Starting another process takes longer than reading this many.
_FILES_PER_PROCESS = 25
# Tables of `boneage evaluate` have label and prediction: the latter is looked for first.
_TABLE_COLUMNS = {
    "id": ID,
    "file": Column(("file", "filename", "path", "image")),
    "predicted_months": Column(("predicted", "prediction", "predictedboneage"), MONTHS_PER_UNIT, high=MAX_AGE_MONTHS),
    "bone_age_months": BONE_AGE,
    "low_months": LOW,
    "high_months": HIGH,
    "reasons": Column(("reasons", "reason")),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a system.

    Args:
        name: The system, as it was given.
        frame: One row for each labelled radiograph: `id`; `predicted_months`, NaN where refused; `low_months` and
            `high_months`, NaN without an interval; `reasons`, joined by `;`, why there is no answer; and, of a bundle
            that uses the chronological age, `without_age`, whether it answered without.
        coverage_share: What its intervals promise to cover, in [0, 1]; None if that is not known.
        overlap: Radiographs among them that it has seen before; none of a table.
    """

    name: str
    frame: pd.DataFrame
    coverage_share: float | None = None
    overlap: tuple[Overlap, ...] = ()


def is_table(system: str | Path) -> bool:
    """Return whether a system is given as a table of its predictions, not as a bundle."""
    return Path(system).suffix.lower() in TABLE_SUFFIXES


def read_answers(system: str | Path, labelled: Labelled) -> Answers:
    """Read the predictions of a system from a table and join them by id.

    Args:
        system: CSV or Excel file that `boneage predict --out` or `boneage evaluate --out` wrote, or any with `id` (or
            `file`) and `predicted_months` or `bone_age_months` (or years); a blank prediction is a refusal.
        labelled: The labelled radiographs.

    Raises:
        CohortError: If a column is missing, a radiograph has two rows, none has any, or the bone ages are the labels.
        BoneAgeError: If the table cannot be read, or a cell is no age.
    """
    path = Path(system)
    table = read_columns(path, _TABLE_COLUMNS)
    predicted = next((name for name in ("predicted_months", "bone_age_months") if name in table), None)
    keys = [name for name in ("id", "file") if name in table]
    if predicted is None or not keys:
        raise CohortError(
            f"{path}: needs the columns id and predicted_months or bone_age_months. Of its columns these are used: "
            f"{', '.join(map(str, table.columns)) or 'none'}."
        )
    index = FileIndex((case.id, Path(case.name or case.id)) for case in labelled.cases)
    rows: dict[str, int] = {}
    for number in table.index:
        try:
            named = (index.find(text) for text in table.loc[number, keys] if text)
            id = next(filter(None, named), None)
        except InvalidEntryError as error:
            raise CohortError(f"{path} row {number}: {error}") from error
        if id in rows:
            raise CohortError(f"{path}: rows {rows[id]} and {number} are both of {id!r}; keep one.")
        if id is not None:
            rows[id] = number
    if not rows:
        raise CohortError(
            f"{path}: no row is of a radiograph of {labelled.name}, such as {labelled.cases[0].id!r}; the ids of both "
            "must be the same."
        )
    frame = pd.DataFrame({"id": [case.id for case in labelled.cases]})
    places = frame["id"].map(rows)
    if predicted == "bone_age_months" and len(rows) > 1:
        labels = np.array([case.bone_age_months for case in labelled.cases], float)
        if np.array_equal(places.map(table[predicted]).dropna(), labels[places.notna()]):
            raise CohortError(
                f"{path}: its bone ages are the labels themselves; name the column of the predictions predicted_months."
            )
    for name, source in {
        "predicted_months": predicted,
        "low_months": "low_months",
        "high_months": "high_months",
    }.items():
        frame[name] = places.map(table[source]) if source in table else float("nan")
    reasons = places.map(table["reasons"]).fillna("") if "reasons" in table else pd.Series("", index=frame.index)
    frame["reasons"] = reasons.where(reasons != "", NO_ANSWER).where(frame["predicted_months"].isna(), "")
    return Answers(str(system), frame[list(COLUMNS)])


def predict_answers(
    system: str | Path,
    labelled: Labelled,
    *,
    tta: str | None = None,
    progress_file: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Let a bundle read labelled radiographs as `boneage.predict` does: hand stage, gate, test-time augmentation.

    Args:
        system: The bundle, see `boneage.load`.
        labelled: The radiographs, whose files exist.
        tta: Test-time augmentation (default: as saved in the bundle).
        progress_file: Finished readings, from which an interrupted run resumes; None keeps none.
        workers: Number of worker processes (default: one per CPU core; one for fewer than 25 files).
        progress: Called with the number of finished and of all radiographs (default: a bar in a notebook).

    Raises:
        BoneAgeError: If the bundle cannot be used.
    """
    name = pin_bundle(str(system))
    reader, request = prepare_reading(name, tta=tta)
    named = {
        resume_key(case, work=(request, reader.digest, case.sex, case.chronological_age_months)): case
        for case in labelled.cases
    }
    rows = run_resumable(
        functools.partial(_read, request=request),
        named,
        progress_file=progress_file,
        workers=workers or min(cpu_count(), 1 + len(named) // _FILES_PER_PROCESS),
        progress=progress,
    )
    read = pd.DataFrame(rows).set_index("id").loc[[case.id for case in labelled.cases]].reset_index()
    frame = read[list(COLUMNS)].astype(dict.fromkeys(COLUMNS[1:4], float))
    if reader.age_bundle.chronological_age == "input":
        frame["without_age"] = read["without_age"]
    metadata, folder = reader.age_bundle.metadata, reader.age_bundle.folder
    hashes = hash_radiographs(read["pixel_sha256"].dropna())
    overlap = find_overlap(metadata, read_seen(folder, metadata), digest="", split="", hashes=hashes)
    interval: Mapping[str, Any] = metadata.get("interval") or {}
    share = interval.get("coverage_share", COVERAGE_SHARE) if interval else None
    return Answers(name, frame, share, tuple(overlap))


@dataclasses.dataclass(frozen=True)
class Request:
    """What worker processes need to load a model.

    Args:
        bundle: Folder of the bundle.
        tta: Test-time augmentation.
    """

    bundle: Path
    tta: str | None


def prepare_reading(system: str | Path, *, tta: str | None) -> tuple[Reader, Request]:
    """Load a model in this process, and return what other processes need to load the same.

    Raises:
        ValueError: If `tta` is unknown.
        BoneAgeError: If the bundle cannot be used.
    """
    if tta is not None:
        check_choice("tta", tta, tuple(TTA_TRANSFORMS))
    start_decoder()
    request = Request(resolve_bundle(system), tta)
    load_reader.cache_clear()  # `load` finds out whether the bundle in the same folder has been replaced
    return load_reader(request), request


@functools.lru_cache(maxsize=1)
def load_reader(request: Request) -> Reader:
    """Load a model once per process."""
    return load(request.bundle)


def _read(job: tuple[str, Case], *, request: Request) -> dict[str, Any]:
    _, case = job
    radiograph, reading = load_reader(request).read_case(case, tta=request.tta)
    is_read = reading.accepted
    return {
        "id": case.id,
        "predicted_months": reading.bone_age_months if is_read else None,
        "low_months": reading.low_months if is_read else None,
        "high_months": reading.high_months if is_read else None,
        "reasons": ";".join(reading.reasons),
        "without_age": "answered_without_age" in reading.warnings,
        "pixel_sha256": None if radiograph is None else hash_pixels(radiograph.pixels),
    }
