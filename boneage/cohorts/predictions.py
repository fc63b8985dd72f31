"""The error of predictions whose table has labels too."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boneage.base.errors import printable
from boneage.cohorts.answers import COLUMNS, Answers
from boneage.cohorts.cohort import Group, join_answers, measure_group
from boneage.cohorts.labelled import Labelled
from boneage.preprocessing.sources.patients import resolve_patients
from boneage.preprocessing.sources.sources import find_cases


def measure_predictions(
    frame: pd.DataFrame,
    inputs: str | Path | Sequence[str | Path],
    *,
    table: str | Path,
    age_unit: str | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Group | None:
    """Measure predictions by the labels in the table that they were made with.

    Args:
        frame: What `boneage.predict` returned.
        inputs: Its files and folders.
        table: Its table.
        age_unit: Its unit of ages.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The metrics, or None if no radiograph has a label.

    Raises:
        BoneAgeError: If the inputs or the table have vanished.
    """
    # A row of the table without a file may share its id with a case, but not its file.
    places = {place: number for number, place in enumerate(zip(frame["id"], frame["file"], strict=True))}
    cases = [
        case
        for case in find_cases(inputs, table=table, age_unit=age_unit)[0]
        if case.bone_age_months is not None and (printable(case.id), printable(case.name)) in places
    ]
    if not cases:
        return None
    rows = frame.iloc[[places[printable(case.id), printable(case.name)] for case in cases]]
    answers = rows.rename(columns={"bone_age_months": "predicted_months"})[list(COLUMNS)]
    labelled = Labelled(str(table), resolve_patients(cases)[0], (), {})
    joined = join_answers(labelled, Answers(str(table), answers.assign(id=[case.id for case in cases])))
    return measure_group(joined, num_resamples=num_resamples, seed=seed)
