"""A bundle on the records of one split, by columns of a table that is joined by id."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boneage.bundles.bundle import load_bundle
from boneage.cohorts.cohort import Cohort, measure_group, measure_groups
from boneage.cohorts.labelled import BLANK, RESERVED, CohortError
from boneage.cohorts.notes import find_whole_years_share, list_notes
from boneage.cohorts.significance import add_determination
from boneage.evaluation.evaluate import evaluate_bundle
from boneage.evaluation.metrics import Evaluation
from boneage.preprocessing.sources.names import FileIndex
from boneage.preprocessing.sources.rejections import InvalidEntryError
from boneage.preprocessing.sources.tables import read_table
from boneage.registry.resolve import resolve_bundle


def measure_records(
    bundle: str | Path,
    *,
    data: str | Path,
    split: str,
    table: str | Path,
    by: Sequence[str],
    tta: str | None,
    num_resamples: int,
    seed: int,
) -> tuple[Cohort, pd.DataFrame]:
    """Measure a bundle on one split of a record folder, by columns of a table.

    The records have no radiographs that were refused when they were prepared.

    Args:
        bundle: The bundle.
        data: Folder of records.
        split: Split of the records.
        table: CSV or Excel file with the ids of the records and the columns; a record without a row is in the group
            `BLANK`.
        by: The columns to group by; `sex` is that of the records.
        tta: Test-time augmentation (default: as saved in the bundle).
        num_resamples: Bootstrap resamples per group.
        seed: Seed of the resampling.

    Returns:
        The cohort, and the predictions with the columns.

    Raises:
        CohortError: If the bundle predicts the sex, a column has the name of one that is always there, two rows are of
            one record, or no row is of a record.
        BoneAgeError: If the records, the table or the bundle cannot be used.
    """
    if taken := [name for name in by if name in RESERVED]:
        raise CohortError(f"a column to group by must not be called {taken[0]!r}; give it another name in the table.")
    loaded = load_bundle(resolve_bundle(bundle))
    if loaded.metadata["task"] != "age":
        raise CohortError(f"{bundle}: predicts the sex, which is not measured by group; leave out --by.")
    further = [name for name in by if name != "sex"]
    rows = read_table(Path(table), columns=further)
    evaluation, frame = evaluate_bundle(
        loaded,
        data=data,
        split=split,
        tta=tta,
        out=None,
        num_resamples=num_resamples,
        seed=seed,
        describe=add_determination,
    )
    if not isinstance(evaluation, Evaluation):
        raise TypeError("a bundle of the task 'age' has an evaluation of ages")
    index = FileIndex((id, Path(id)) for id in frame["id"])
    cells: dict[str, tuple[str, ...]] = {}
    for row in rows:
        try:
            id = next(filter(None, (index.find(text) for text in (*row.files, row.sop_instance_uid) if text)), None)
        except InvalidEntryError as error:
            raise CohortError(f"{row.location}: {error}") from error
        if id is not None and cells.setdefault(id, row.columns) != row.columns:
            raise CohortError(f"{row.location}: {id!r} has another row with other values; keep the correct one.")
    if not cells:
        raise CohortError(f"{table}: no row is of a record of {data}, such as {frame['id'].iloc[0]!r}.")
    for number, name in enumerate(further):
        frame[name] = [cells[id][number] or BLANK if id in cells else BLANK for id in frame["id"]]
    frame["reasons"] = ""
    columns = tuple(dict.fromkeys(by))
    cohort = Cohort(
        system=str(bundle),
        evaluation=evaluation,
        overall=measure_group(frame, num_resamples=num_resamples, seed=seed),
        by=measure_groups(frame, columns, num_resamples=num_resamples, seed=seed),
        beside={},
        left_out={},
        whole_years_share=find_whole_years_share(frame["bone_age_months"]),
        notes=list_notes(frame, columns, num_resamples=num_resamples, seed=seed),
    )
    return cohort, frame
