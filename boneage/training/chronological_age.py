"""The chronological age as an input of a network: which records have it, and its tensors."""

from pathlib import Path

import tensorflow as tf

from boneage.configuration.training import AGE_INPUTS, TrainConfig
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import RecordsError, read_info

DROPPED_SHARE = 0.2
"""Share of the radiographs in training of which a network with the setting `"input"` is not told the age, so that it
learns to answer without: a choice of this package."""


def read_target(data: str | Path, config: TrainConfig) -> dict[str, float]:
    """Return mean and standard deviation of what the head of a network predicts, over the train split.

    Args:
        data: The record folder, whose splits `train` and `validation` have every bone age.
        config: The table `[train]` of the experiment.

    Returns:
        `mean_months` and `std_months`: of the bone age, or, for the chronological age `"relative"`, of its difference
        from that.

    Raises:
        RecordsError: If the records have not the ages that the network needs: one at least for `"input"`, every one
            for `"relative"`.
    """
    described = read_info(data)["splits"]["train"]
    target = {name: described[name] for name in ("mean_months", "std_months")}
    if config.chronological_age == "none":
        return target
    train, validation = (read_identities(data, split=split) for split in ("train", "validation"))
    known = train["chronological_age_months"].notna()
    fix = "prepare the records from a source with ages, or set chronological_age=none."
    if not known.any():
        raise RecordsError(f"{data}: no record of the split 'train' has a chronological age; {fix}")
    if config.chronological_age == "input":
        return target
    for split, records in {"train": train, "validation": validation}.items():
        if missing := int(records["chronological_age_months"].isna().sum()):
            raise RecordsError(
                f"{data}: {missing:,} of {len(records):,} records of the split {split!r} have no chronological age, "
                f"which chronological_age=relative needs; set chronological_age=input, or {fix}"
            )
    differences = train["bone_age_months"] - train["chronological_age_months"]
    return {"mean_months": float(differences.mean()), "std_months": float(differences.std(ddof=0))}


def to_age_inputs(ages_months: tf.Tensor, config: TrainConfig, drawn: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
    """Convert the chronological ages of a batch to inputs of a network.

    Args:
        ages_months: In months, NaN where unknown, float32 `(batch, 1)`.
        config: The table `[train]` of the experiment.
        drawn: Uniform in [0, 1), by which ages are left out, float32 `(batch, 1)` (default: none is).

    Returns:
        The inputs of `boneage.configuration.training.AGE_INPUTS`, float32 `(batch, 1)`.
    """
    is_known = tf.math.is_finite(ages_months)
    if drawn is not None and config.chronological_age == "input":
        is_known &= drawn >= DROPPED_SHARE
    inputs = {
        "chronological_age_months": tf.where(is_known, ages_months, 0.0),
        "age_is_known": tf.cast(is_known, tf.float32),
    }
    return {name: inputs[name] for name in AGE_INPUTS[config.chronological_age]}
