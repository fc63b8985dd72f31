"""Read one radiograph: the preprocessing of the bundle, then its networks, without TensorFlow."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from boneage.bundles.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, Bundle, BundleError, load_bundle, metadata_digest
from boneage.configuration.build import build
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS, prediction_interval
from boneage.inference.comparison import UNUSED_AGE, Comparison, compare_ages
from boneage.inference.growth_reference import GrowthReference, load_growth_reference
from boneage.inference.marker import find_marker
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError
from boneage.preprocessing.process import Prepared, process
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.schema import SEXES, male_from_sex, sex_from_male

# Minimum probability of the other sex before the recorded one is questioned.
SEX_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """The result of reading a radiograph.

    Args:
        bone_age_months: Bone age in months.
        low_months: Lower end of the prediction interval in months, never below 0; NaN if the bundle has none. If no sex
            was recorded, the interval covers those of both sexes.
        high_months: Upper end of the prediction interval in months;
            `boneage.evaluation.conformal.MAX_BONE_AGE_MONTHS` where it is open.
        sex: The sex assumed, `"female"` or `"male"`; None if it is unknown.
        male_probability: Predicted probability that the child is male, in [0, 1]; NaN without a sex bundle.
        predictions: Bone age in months by plausible sex: one if the sex was recorded, else two.
        comparison: The bone age beside the chronological age.
        laterality: The side by the header, `"left"`, `"right"` or None.
        marker: `"left"` if a letter L is read on the film, else None.
        warnings: Keys of `boneage.inference.messages.WARNINGS`.
        hand: The detected hand; None for a network of whole frames.
        crop: The network input before resizing, shape `(size, size)`, uint8.
        part: The part of a film of two hands that shows this one, with its side as `laterality`; None where the film
            shows one hand. See `boneage.inference.two_hands`.
        other: Of the left hand of such a film, the reading of the right one.
    """

    bone_age_months: float
    low_months: float
    high_months: float
    sex: str | None
    male_probability: float
    predictions: Mapping[str, float]
    comparison: Comparison
    laterality: str | None
    marker: str | None
    warnings: tuple[str, ...]
    hand: Hand | None
    crop: UInt8[np.ndarray, "size size"]
    part: Radiograph | None = None
    other: "Reading | None" = None

    @property
    def hands(self) -> "tuple[Reading, ...]":
        """The reading of each hand of the film, that of the left one first."""
        return (self,) if self.other is None else (self, self.other)

    @property
    def side(self) -> str | None:
        """The side by the pose of the hand, `"left"` or `"right"`; a right one is mirrored. None for whole frames."""
        return self.hand.pose.side if self.hand and self.hand.pose else None

    @property
    def sds(self) -> float:
        """Standard deviation score of the bone age; NaN if there is none."""
        return self.comparison.sds


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
    """A bone-age bundle and an optional sex bundle, ready to read radiographs.

    Args:
        age_bundle: The bone-age bundle.
        sex_bundle: The bundle that classifies sex, or None.
        config: The preprocessing of both.
        reference: The growth reference for standard deviation scores.
    """

    age_bundle: Bundle
    sex_bundle: Bundle | None
    config: PreprocessingConfig
    reference: GrowthReference

    @property
    def digest(self) -> str:
        """Digest of everything that readings depend on: the metadata of both bundles and the growth reference."""
        return "-".join(
            [
                *(metadata_digest(bundle.metadata)[:16] for bundle in (self.age_bundle, self.sex_bundle) if bundle),
                self.reference.digest,
            ]
        )

    def read(
        self,
        radiograph: Radiograph,
        *,
        path: Path,
        sex: str | None,
        tta: str | None = None,
        chronological_age_months: float | None = None,
        is_age_unit_stated: bool = True,
        male_probability: float | None = None,
    ) -> Reading | Prepared:
        """Read one radiograph.

        Args:
            radiograph: The radiograph.
            path: Its file, named in errors.
            sex: The recorded sex, `"female"`, `"male"`, or None if unknown: the interval then spans those of both
                sexes, and the prediction is that for the likelier sex, or the mean of both without a sex bundle.
            tta: A key of `boneage.configuration.training.TTA_TRANSFORMS` (default: as saved in the bundle).
            chronological_age_months: Chronological age in months, or None.
            is_age_unit_stated: Whether its unit is certain; if not, an age far from the bone age is not used.
            male_probability: Probability that the child is male, in [0, 1], from several radiographs (default:
                predicted from this one).

        Returns:
            The reading; a rejected hand as it was prepared, with its reasons.

        Raises:
            UnreadableImageError: If the network's answer lies outside [0, 240] months (`impossible_answer`).
        """
        prepared = process(radiograph, self.config)
        if prepared.reasons or prepared.image is None:
            return prepared
        warnings = []
        plausible = SEXES if sex is None else (sex,)
        if self.sex_bundle is not None:
            if male_probability is None:
                # A network without a sex input ignores the zeros.
                image = self.sex_bundle.resize_to_input(prepared.image)[None]
                male_probability = float(self.sex_bundle.predict_batch(image, np.zeros((1, 1), np.float32))[0])
            if sex is None:
                sex = sex_from_male(male_probability)
                warnings.append("sex_from_image")
            elif (1 - male_probability if sex == "male" else male_probability) > SEX_CONFIDENCE:
                warnings.append("sex_looks_wrong")
        images = np.repeat(self.age_bundle.resize_to_input(prepared.image)[None], len(plausible), axis=0)
        male = np.array([[male_from_sex(plausible_sex)] for plausible_sex in plausible], np.float32)
        predictions = dict(zip(plausible, self.age_bundle.predict_batch(images, male, tta=tta).tolist(), strict=True))
        low, high = float("nan"), float("nan")
        if interval := self.age_bundle.metadata.get("interval"):
            low, high = prediction_interval(interval, predictions)
        months = predictions[sex] if sex else float(np.mean(list(predictions.values())))
        if not 0 <= months <= MAX_BONE_AGE_MONTHS:  # also rejects NaN
            raise UnreadableImageError(
                f"{path.name}: the model answers {months:.0f} months, outside 0 to {MAX_BONE_AGE_MONTHS:.0f}; use a "
                "radiograph like those that it was trained on, or a better model.",
                reason="impossible_answer",
            )
        if sex is None and np.ptp(list(predictions.values())):
            warnings.append("sex_unknown")
        comparison = compare_ages(
            self.reference,
            predictions,
            bone_age_months=months,
            interval_months=(low, high),
            sex=sex,
            chronological_age_months=chronological_age_months,
            is_unit_stated=is_age_unit_stated,
        )
        if comparison.missing == UNUSED_AGE:  # years taken for months, or a child so ill that its age needs a unit
            warnings.append("age_unit_doubtful")
        elif comparison.is_far:
            warnings.append("age_looks_wrong")
        hand = prepared.hand
        marker = None if hand is None else find_marker(hand.pixels, hand.segmentation.mask)
        sides = {radiograph.laterality, marker, hand.pose.side if hand and hand.pose else None}
        if len(sides - {None}) > 1:
            warnings.append("side_looks_wrong")
        return Reading(
            bone_age_months=months,
            low_months=low,
            high_months=high,
            sex=sex,
            male_probability=float("nan") if male_probability is None else male_probability,
            predictions=predictions,
            comparison=comparison,
            laterality=radiograph.laterality,
            marker=marker,
            warnings=tuple(warnings),
            hand=hand,
            crop=prepared.image,
        )


def load_reader(
    bundle: str | Path | None = None,
    *,
    sex_bundle: str | Path | None = None,
    reference: str | Path | None = None,
) -> Reader:
    """Load a reader.

    Args:
        bundle: Folder of the bone-age bundle (default: the packaged model).
        sex_bundle: Folder of a bundle that classifies sex (default: the packaged one if `bundle` is not given, else
            none).
        reference: CSV with a growth reference, see `boneage.inference.growth_reference.load_growth_reference`
            (default: Brush Foundation table).

    Raises:
        ReferenceTableError: If the reference table cannot be used.
        BundleError: If a bundle is damaged, has the wrong task, or was trained with different preprocessing from the
            other bundle or from this version of the package.
    """
    if bundle is None and sex_bundle is None:
        sex_bundle = DEFAULT_SEX_BUNDLE
    # One thread: several processes read radiographs in parallel.
    age = load_bundle(DEFAULT_BUNDLE if bundle is None else resolve_bundle(bundle), num_threads=1)
    if age.metadata["task"] != "age":
        raise BundleError(f"{bundle}: classifies sex; pass it as --sex-bundle and give a bone-age bundle as --bundle.")
    sex = None if sex_bundle is None else load_bundle(resolve_bundle(sex_bundle), num_threads=1)
    if sex is not None and sex.metadata["task"] != "sex":
        raise BundleError(f"{sex_bundle}: does not classify sex; train a bundle with task = 'sex'.")
    if sex is not None and sex.metadata["fingerprint"] != age.metadata["fingerprint"]:
        raise BundleError(
            f"{sex_bundle}: was trained with different preprocessing from {age.folder}; train both on the same records."
        )
    return Reader(age, sex, load_preprocessing(age), load_growth_reference(reference))


def load_preprocessing(bundle: Bundle) -> PreprocessingConfig:
    """Return the preprocessing that a bundle was trained with.

    Raises:
        BundleError: If this version of the package has different preprocessing.
    """
    config = build(
        PreprocessingConfig, bundle.metadata.get("preprocessing", {}), where=f"{bundle.folder} preprocessing"
    )
    if fingerprint(config) != bundle.metadata["fingerprint"]:
        version = bundle.metadata.get("boneage_version") or "of that time"
        raise BundleError(
            f"{bundle.folder}: was trained with different preprocessing ({bundle.metadata['fingerprint']}) from this "
            f"version ({fingerprint(config)}); install boneage {version} or train again."
        )
    return config


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Description of the model of a reader.

    Args:
        name: Folder name of the bundle and name of its network.
        digest: First 12 digits of the SHA-256 of the network.
        error_months: Mean absolute error on the validation split, in months; None if the bundle does not record it.
        coverage_share: Measured coverage of the prediction interval on validation, in [0, 1]; None without interval.
        has_sex_network: Whether the sex is predicted from the image.
    """

    name: str
    digest: str
    error_months: float | None
    coverage_share: float | None
    has_sex_network: bool

    @property
    def label(self) -> str:
        """Name and digest."""
        return f"{self.name} {self.digest}"


def describe_model(reader: Reader) -> ModelInfo:
    """Describe the model of a reader."""
    metadata: dict[str, Any] = reader.age_bundle.metadata
    interval = metadata.get("interval") or {}
    network = metadata.get("network")
    return ModelInfo(
        name=f"{reader.age_bundle.folder.resolve().name}{f' ({network})' if network else ''}",
        digest=metadata["sha256"]["model.onnx"][:12],
        error_months=metadata.get("validation_error"),
        coverage_share=interval.get("measured_coverage_share"),
        has_sex_network=reader.sex_bundle is not None,
    )
