"""Evaluate a model: on records, or on labelled radiographs as they come, by group and beside other systems."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boneage.base.files import write_text
from boneage.base.locks import lock_folder
from boneage.bundles.bundle import read_metadata
from boneage.cohorts.answers import Answers, is_table, predict_answers, read_answers
from boneage.cohorts.cohort import (
    Cohort,
    join_answers,
    measure_answered,
    measure_beside,
    measure_group,
    measure_groups,
)
from boneage.cohorts.labelled import CohortError, Labelled, find_labelled
from boneage.cohorts.notes import find_whole_years_share, list_notes
from boneage.cohorts.records import measure_records
from boneage.cohorts.significance import add_determination
from boneage.evaluation.evaluate import evaluate_records, make_folder, write_evaluation
from boneage.evaluation.metrics import Evaluation, to_dict
from boneage.evaluation.sex_classification import SexEvaluation
from boneage.registry.resolve import resolve_bundle

_PROGRESS_FILE = "evaluation.part.jsonl"


def evaluate(
    bundle: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "validation",
    files: str | Path | None = None,
    table: str | Path | None = None,
    age_unit: str | None = None,
    by: Sequence[str] = (),
    beside: Sequence[str | Path] = (),
    tta: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Evaluation | SexEvaluation | Cohort:
    """Evaluate a model on one split of a record folder, or on radiograph files and a table of labels.

    With `files` the radiographs go through all that `boneage.predict` does: hand stage, gate, test-time augmentation.
    What is refused is counted apart. Answers and labels are joined by id.

    Args:
        bundle: The model, see `boneage.load`; or a CSV or Excel file of its predictions.
        data: Folder of records, instead of `files`; `table` then only needs their ids and the columns of `by`.
        split: Split of the records: "train", "validation" or "test".
        files: Folder of radiographs. Not needed if all systems are tables.
        table: CSV or Excel file with `id`, `bone_age_months` and `sex`, and optionally `patient`, by which intervals
            are clustered (default: the tables of the RSNA challenge, if `files` has them).
        age_unit: Unit of ages whose column in `table` does not state it: `"months"`, `"years"` or `"auto"`.
        by: Columns of `table` to group by, such as `device`.
        beside: Other systems on the same radiographs, bundles or tables of predictions.
        tta: Test-time augmentation: "none", "mirrored" or "ten" (default: as saved in the bundle).
        out: Folder for `predictions.csv`, `evaluation.json` and `evaluation.png`, or None to write nothing. An
            interrupted evaluation of files resumes from it.
        workers: Number of worker processes for `files` (default: one per CPU core; one for fewer than 25).
        progress: Called with the number of finished and of all radiographs in `files`, for each bundle (default: a bar
            in a notebook).
        num_resamples: Bootstrap resamples per group.
        seed: Seed of the resampling.

    Returns:
        The evaluation of the split, or of the cohort.

    Raises:
        ValueError: If arguments exclude each other, or one is missing.
        BoneAgeError: If a folder, a table or a bundle cannot be used, or no radiograph has both a label and an answer.
    """
    if data is not None:
        if files is not None or beside:
            raise ValueError("`data` excludes `files` and `beside`.")
        if (table is None) == bool(by):
            raise ValueError("with `data`, `table` and `by` go together: records have their own labels.")
        if table is None:
            return evaluate_records(
                bundle,
                data=data,
                split=split,
                tta=tta,
                out=out,
                num_resamples=num_resamples,
                seed=seed,
                describe=add_determination,
            )
        with contextlib.nullcontext() if out is None else lock_folder(make_folder(out)):
            cohort, frame = measure_records(
                bundle, data=data, split=split, table=table, by=by, tta=tta, num_resamples=num_resamples, seed=seed
            )
            if out is not None:
                _write(Path(out), frame.drop(columns="reasons"), cohort)
        return cohort
    systems = [bundle, *beside]
    _check_systems(systems, files=files, table=table, out=out)
    columns = tuple(dict.fromkeys(by))
    labelled = find_labelled(files, table=table, age_unit=age_unit, columns=columns)
    # What is wrong with one system is told before another reads for minutes.
    for system in systems:
        if not is_table(system):
            read_metadata(resolve_bundle(system))
    answers = {str(system): read_answers(system, labelled) for system in systems if is_table(system)}
    with contextlib.nullcontext() if out is None else lock_folder(make_folder(out)):
        for number, system in enumerate(systems):
            if not is_table(system):
                answers[str(system)] = predict_answers(
                    system,
                    labelled,
                    tta=tta,
                    progress_file=None if out is None else Path(out) / f"{number}.{_PROGRESS_FILE}",
                    workers=workers,
                    progress=progress,
                )
        ordered = [answers[str(system)] for system in systems]
        cohort, frame = _measure(labelled, ordered, columns, num_resamples=num_resamples, seed=seed)
        if out is not None:
            _write(Path(out), frame, cohort)
        return cohort


def _check_systems(
    systems: Sequence[str | Path], *, files: str | Path | None, table: str | Path | None, out: str | Path | None
) -> None:
    if files is None and table is None:
        raise ValueError(
            "`data`, `files` and `table` are missing: give records, or radiographs with a table of labels."
        )
    names = [str(system) for system in systems]
    if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"`beside` must not name a system twice. Received: {repeated[0]!r}.")
    for system in systems:
        if files is None and not is_table(system):
            raise ValueError(f"`files` is missing: {system} is a bundle, which needs radiographs to read.")
    if files is not None and out is not None and Path(out).resolve().is_relative_to(Path(files).resolve()):
        raise CohortError(f"{out}: is inside the folder of the radiographs; choose a folder outside {files}.")


def _measure(
    labelled: Labelled, answers: Sequence[Answers], columns: tuple[str, ...], *, num_resamples: int, seed: int
) -> tuple[Cohort, pd.DataFrame]:
    first, *others = answers
    frame = join_answers(labelled, first)
    evaluation = measure_answered(frame, first, name=labelled.name, num_resamples=num_resamples, seed=seed)
    beside, table = {}, frame
    for answered in others:
        other = join_answers(labelled, answered)
        beside[answered.name] = measure_beside(frame, other, columns, num_resamples=num_resamples, seed=seed)
        table = table.merge(
            other[["id", "predicted_months"]].rename(columns={"predicted_months": f"{answered.name} months"}), on="id"
        )
    cohort = Cohort(
        system=first.name,
        evaluation=evaluation,
        overall=measure_group(frame, num_resamples=num_resamples, seed=seed),
        by=measure_groups(frame, columns, num_resamples=num_resamples, seed=seed),
        beside=beside,
        left_out=labelled.left_out,
        whole_years_share=find_whole_years_share(frame["bone_age_months"]),
        notes=list_notes(frame, columns, num_resamples=num_resamples, seed=seed),
    )
    return cohort, table


def to_json(cohort: Cohort) -> str:
    """Serialise a cohort as indented JSON; undefined metrics become null."""
    return json.dumps(to_dict(cohort), indent=2, allow_nan=False) + "\n"


def _write(out: Path, frame: pd.DataFrame, cohort: Cohort) -> None:
    write_evaluation(out, frame, cohort.evaluation)
    write_text(out / "evaluation.json", to_json(cohort))
    for left_over in out.glob(f"*.{_PROGRESS_FILE}"):
        left_over.unlink()
