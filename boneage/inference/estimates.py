"""What the networks say of a crop: the child's sex, the bone age for each sex that it may have, and the interval."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from boneage.bundles.bundle import Bundle
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS, prediction_interval
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.tfrecords.schema import male_from_sex, sex_from_male

SEX_CONFIDENCE = 0.95
"""Minimum probability of the other sex before the recorded one is questioned."""


@dataclasses.dataclass(frozen=True)
class JudgedSex:
    """The sex for which a bone age is stated.

    Args:
        sex: The recorded sex, else the likelier one; None if it is not recorded and nothing tells it.
        male_probability: Probability that the child is male, in [0, 1]; None without a sex bundle.
        warnings: Keys of `boneage.inference.messages.WARNINGS`.
    """

    sex: str | None
    male_probability: float | None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The bone age of a crop.

    Args:
        predictions: Months by sex.
        low_months: Lower end of the interval, which spans those of all these sexes; NaN if the bundle has none.
        high_months: Its upper end.
        warnings: Keys of `boneage.inference.messages.WARNINGS`.
    """

    predictions: dict[str, float]
    low_months: float
    high_months: float
    warnings: tuple[str, ...] = ()


def judge_sex(
    bundle: Bundle | None, crop: UInt8[np.ndarray, "size size"], *, sex: str | None, male_probability: float | None
) -> JudgedSex:
    """Choose the sex where none is recorded, and question a recorded one that the hand contradicts.

    Args:
        bundle: The bundle that classifies sex, or None.
        crop: The upright hand, uint8.
        sex: The recorded sex, or None.
        male_probability: Probability that the child is male, from several radiographs (default: predicted from this).
    """
    if bundle is None:
        return JudgedSex(sex, male_probability)
    if male_probability is None:
        # A network without a sex input ignores the zeros.
        image = bundle.resize_to_input(crop)[None]
        male_probability = float(bundle.predict_batch(image, np.zeros((1, 1), np.float32))[0])
    if sex is None:
        return JudgedSex(sex_from_male(male_probability), male_probability, ("sex_from_image",))
    is_doubted = (1 - male_probability if sex == "male" else male_probability) > SEX_CONFIDENCE
    return JudgedSex(sex, male_probability, ("sex_looks_wrong",) if is_doubted else ())


def choose_network_age(bundle: Bundle, age_months: float | None, *, is_unit_stated: bool, path: Path) -> float | None:
    """Return the chronological age that the network is given: not one whose unit is doubtful, or of a grown-up.

    Args:
        bundle: The bone-age bundle.
        age_months: Chronological age in months, or None.
        is_unit_stated: Whether its unit is certain.
        path: The radiograph's file, named in errors.

    Raises:
        UnreadableImageError: If there is none, and the network answers nothing without (`age_missing`).
    """
    use = bundle.chronological_age
    if use == "none":
        return None
    if age_months is not None and is_unit_stated and 0 <= age_months <= MAX_BONE_AGE_MONTHS:
        return age_months
    if use == "relative":
        raise UnreadableImageError(
            f"{path.name}: the model needs the chronological age, 0 to {MAX_BONE_AGE_MONTHS:.0f} months, with its "
            "unit; give it, or use a model that needs none.",
            reason="age_missing",
        )
    return None


def estimate_bone_age(
    bundle: Bundle,
    crop: UInt8[np.ndarray, "size size"],
    *,
    sexes: Sequence[str],
    network_age_months: float | None,
    tta: str | None,
) -> Estimate:
    """Predict the bone age of a crop.

    Args:
        bundle: The bone-age bundle.
        crop: The upright hand, uint8.
        sexes: The sexes that the child may have.
        network_age_months: The age that `choose_network_age` chose.
        tta: A key of `boneage.configuration.training.TTA_TRANSFORMS` (default: as saved in the bundle).
    """
    images = np.repeat(bundle.resize_to_input(crop)[None], len(sexes), axis=0)
    male = np.array([[male_from_sex(sex)] for sex in sexes], np.float32)
    ages = np.full(male.shape, np.nan if network_age_months is None else network_age_months, np.float32)
    answers = bundle.predict_batch(images, male, ages_months=ages, tta=tta)
    predictions = dict(zip(sexes, answers.tolist(), strict=True))
    is_without = bundle.chronological_age == "input" and network_age_months is None
    low, high = float("nan"), float("nan")
    if interval := bundle.metadata.get("interval_without_age" if is_without else "interval"):
        low, high = prediction_interval(interval, predictions)
    return Estimate(predictions, low, high, ("answered_without_age",) if is_without else ())
