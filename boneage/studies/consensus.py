"""One label for each radiograph from the readings of several readers."""

import numpy as np
import pandas as pd

from boneage.base.errors import check_choice
from boneage.studies.readings import MODEL

METHODS = ("mean", "median", "weighted")
# A reader who agrees with the others by chance must not count for everything.
_LEAST_VARIANCE_SHARE = 0.25


def find_consensus(readings: pd.DataFrame, *, method: str) -> pd.DataFrame:
    """Join the readings of each radiograph to one label; those of a model do not count.

    Args:
        readings: From `boneage.studies.readings.read_readings`. Several sessions of one reader are averaged first.
        method: `"mean"`, `"median"`, or `"weighted"`: the mean, each reader weighted by the inverse variance of the
            differences from the mean of the others, bias taken off; no variance counts as less than a quarter of the
            mean one.

    Returns:
        One row for each radiograph, sorted by id: `id`, `bone_age_months`, `num_readers`, `sd_months` (standard
        deviation between readers, NaN of one alone), then `sex` if the readings have it and agree on it. `boneage
        prepare --table` takes it.

    Raises:
        ValueError: If `method` is unknown.
    """
    check_choice("consensus", method, METHODS)
    people = readings[readings["reader"] != MODEL]
    wide = people.pivot_table(index="id", columns="reader", values="months", aggfunc="mean")
    labels = wide.median(axis=1) if method == "median" else wide.mean(axis=1)
    if method == "weighted":
        labels = _weigh(wide)
    table = pd.DataFrame(
        {"bone_age_months": labels, "num_readers": wide.notna().sum(axis=1), "sd_months": wide.std(axis=1)}
    )
    if "sex" in people.columns:
        sexes = people[people["sex"] != ""].groupby("id")["sex"]
        table["sex"] = sexes.first().where(sexes.nunique() == 1).reindex(table.index)
    return table.reset_index()


def _weigh(wide: pd.DataFrame) -> pd.Series:
    """Return the means weighted by reader; readers who share too few radiographs with others count as the mean one."""
    variances = pd.Series(
        {name: (wide[name] - wide.drop(columns=name).mean(axis=1)).var() for name in wide.columns}, dtype=float
    )
    usual = variances.mean()
    if not usual > 0:  # also of one reader alone
        return wide.mean(axis=1)
    weights = 1 / variances.fillna(usual).clip(lower=_LEAST_VARIANCE_SHARE * usual)
    # The bias of each reader stays: its weight must not shift the labels of the radiographs that it read.
    centred = wide - wide.sub(wide.mean(axis=1), axis=0).mean()
    present = wide.notna() * weights
    labels: pd.Series = (centred.fillna(0) * weights).sum(axis=1) / present.sum(axis=1).to_numpy(np.float64)
    return labels
