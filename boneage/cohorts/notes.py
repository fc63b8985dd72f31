"""Notes on a cohort: what may lie behind figures that are worse than expected, one short line each."""

import numpy as np
import pandas as pd

from boneage.cohorts.cohort import split_groups
from boneage.evaluation.bootstrap import Estimate, Images, Metrics, bootstrap, find_groups

MAX_BIAS_MONTHS = 6.0
"""A mean error beyond which the labels probably follow another standard or reader: half a year, the finest step of the
atlas of Greulich and Pyle over most of childhood."""
MAX_WHOLE_YEARS_SHARE = 0.5
"""A share of whole years beyond which the reader's habit is noted; ages spread evenly over months would have 8%."""
MAX_REFUSED_SHARE = 0.1
"""A share of refusals beyond which the figures of those answered say little of all."""
MIN_IMAGES = 10
"""Radiographs that a group, and all others, must have for its bias to be compared."""


def find_whole_years_share(labels: pd.Series) -> float:
    """Return the share of labels, in months, that are whole years, in [0, 1]."""
    months = labels.to_numpy(float)
    return float(np.mean(np.abs(months - 12 * np.round(months / 12)) < 0.05))


def list_notes(frame: pd.DataFrame, columns: tuple[str, ...], *, num_resamples: int, seed: int) -> list[str]:
    """List the notes on a cohort: its bias, that of its groups, refusals, unknown sexes, and the habit of its reader.

    Args:
        frame: From `boneage.cohorts.cohort.join_answers`, with an answer at least.
        columns: The columns to group by.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.
    """
    notes = []
    answered = frame[frame["predicted_months"].notna()].sort_values("id")
    bias = _find_bias(answered, np.ones(len(answered)), num_resamples=num_resamples, seed=seed)
    if _exceeds(bias):
        notes.append(
            f"bias {bias.format('+.1f')} months, beyond {MAX_BIAS_MONTHS:g}: the labels follow another standard or "
            "reader than those that the system was made by, or have another unit; `boneage calibrate` corrects a "
            "constant bias"
        )
    for column in columns:
        groups = split_groups(answered, column)
        for level, rows in groups.items() if len(groups) > 1 else ():
            difference = _find_difference(answered, rows, num_resamples=num_resamples, seed=seed)
            if difference and _exceeds(difference):
                notes.append(
                    f"{column} {level}: bias {difference.format('+.1f')} months beside that of the others, beyond "
                    f"{MAX_BIAS_MONTHS:g}: another reader, standard, device or population"
                )
    refused = {
        "all": frame,
        **{f"{column} {level}": rows for column in columns for level, rows in split_groups(frame, column).items()},
    }
    for name, rows in refused.items():
        share = float(rows["predicted_months"].isna().mean())
        if share > MAX_REFUSED_SHARE and len(rows) >= MIN_IMAGES:
            notes.append(
                f"{name}: {share:.0%} refused, beyond {MAX_REFUSED_SHARE:.0%}: the errors of those answered are not "
                "those of all"
            )
    if num_unknown := int(frame["sex"].isna().sum()):
        notes.append(
            f"{num_unknown:,} of {len(frame):,} labelled radiographs have no sex: a bundle then predicts it from the "
            "image, or answers with the mean for both"
        )
    whole = find_whole_years_share(frame["bone_age_months"])
    if whole > MAX_WHOLE_YEARS_SHARE:
        notes.append(
            f"{whole:.0%} of the labels are whole years, beyond {MAX_WHOLE_YEARS_SHARE:.0%}: the reader names plates "
            "of an atlas or rounds, so that labels alone are off by up to half a year"
        )
    return notes


def _find_difference(answered: pd.DataFrame, rows: pd.DataFrame, *, num_resamples: int, seed: int) -> Estimate | None:
    """Return the bias of a group minus that of the others, in months; None where either are few."""
    member = answered["id"].isin(rows["id"]).to_numpy()
    if min(member.sum(), (~member).sum()) < MIN_IMAGES:
        return None
    return _find_bias(answered, member.astype(float), num_resamples=num_resamples, seed=seed)


def _find_bias(answered: pd.DataFrame, member: Images, *, num_resamples: int, seed: int) -> Estimate:
    """Return the bias of the members minus that of the others, if there are others, in months."""
    has_others = not member.all()

    def compute(error: Images, is_member: Images) -> Metrics:
        others = 1 - is_member
        with np.errstate(divide="ignore", invalid="ignore"):
            bias = (error * is_member).sum(axis=-1) / is_member.sum(axis=-1)
            return {"bias": bias - (error * others).sum(axis=-1) / others.sum(axis=-1) if has_others else bias}

    error = (answered["predicted_months"] - answered["bone_age_months"]).to_numpy(float)
    groups = find_groups(answered)
    return bootstrap(compute, error, member, num_resamples=num_resamples, seed=seed, groups=groups)["bias"]


def _exceeds(bias: Estimate) -> bool:
    """Whether a bias is beyond the limit, and its interval does not contain zero."""
    return abs(bias.value) > MAX_BIAS_MONTHS and (bias.low > 0 or bias.high < 0)
