"""Reading one radiograph: the bundle's own preprocessing, then the networks, without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from boneage.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, Bundle, BundleError, load_bundle, seal
from boneage.config import build
from boneage.intervals import span_interval
from boneage.reference import Reference, load_reference
from preprocessing.hand import Hand
from preprocessing.pipeline import PreprocessingConfig, fingerprint, process
from preprocessing.radiograph import Radiograph, UnreadableImage
from tfrecords.schema import SEXES, male_from_sex, sex_from_male

# How sure the image must be of the other sex before the recorded one is called into question, and of a sex that nobody
# recorded before the interval leaves out the other.
SEX_DOUBT_SHARE = 0.95


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What was read in a radiograph.

    Args:
        bone_age_months: The bone age, in months.
        low_months: Lower end of its interval, never below 0; NaN where the bundle knows none. Where the sex is told by
            the image, and not surely, the interval spans those of both sexes.
        high_months: Upper end.
        sex: The sex that it holds for, `"female"`, `"male"`, or None where the network asks for none.
        male_share: Probability of a boy by the image, in [0, 1]; NaN without a network that tells it.
        sds: Standard deviation score of the bone age by the reference table; NaN where age or sex is not
            known, or the table does not reach so far.
        warnings: `sex_looks_wrong`, `sex_from_image`.
        hand: What was found of the hand; None for a network of whole frames.
        crop: What the network saw, shape `(size, size)`, uint8.
    """

    bone_age_months: float
    low_months: float
    high_months: float
    sex: str | None
    male_share: float
    sds: float
    warnings: tuple[str, ...]
    hand: Hand | None
    crop: UInt8[np.ndarray, "size size"]


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
    """A bundle that reads bone age, and one that tells the sex, ready to read radiographs.

    Args:
        age: The bundle for bone age.
        sex: The bundle that tells the sex, or None.
        config: The preprocessing of both.
        reference: By which a bone age is judged, given the age of the child.
    """

    age: Bundle
    sex: Bundle | None
    config: PreprocessingConfig
    reference: Reference

    @property
    def digest(self) -> str:
        """Name the bundles and the reference table by all that the answers depend on."""
        return "-".join([*(seal(each.metadata)[:16] for each in (self.age, self.sex) if each), self.reference.digest])

    def read(
        self,
        radiograph: Radiograph,
        *,
        path: Path,
        sex: str | None,
        views: str | None = None,
        chronological_age_months: float | None = None,
    ) -> Reading:
        """Read one radiograph.

        Args:
            radiograph: The radiograph.
            path: Its file, named in errors.
            sex: The recorded sex, `"female"`, `"male"`, or None where it is not known.
            views: A key of `boneage.views.VIEWS`; the one that the bundle names without it.
            chronological_age_months: Age of the child, in months, or None.

        Raises:
            UnreadableImage: If the hand cannot be trusted, or the sex is needed and not known.
        """
        if sex is None and self.sex is None and self.age.metadata["use_sex"]:
            raise UnreadableImage(
                f"{path.name}: the sex is not known; give it to `boneage predict` by --sex or --table, or give a DICOM "
                "file with PatientSex.",
                reason="no_sex",
            )
        prepared = process(radiograph, self.config, path=path)
        male_share, warnings = float("nan"), []
        plausible: tuple[str | None, ...] = (sex,)
        if self.sex is not None:
            # A network without a sex input is never shown the value given here.
            look = self.sex.fit(prepared.image)[None]
            male_share = float(self.sex.predict_batch(look, np.zeros((1, 1), np.float32))[0])
            if sex is None:
                sex = sex_from_male(male_share)
                warnings.append("sex_from_image")
                plausible = (sex,) if max(male_share, 1 - male_share) > SEX_DOUBT_SHARE else SEXES
            elif (1 - male_share if sex == "male" else male_share) > SEX_DOUBT_SHARE:
                warnings.append("sex_looks_wrong")
        looks = np.repeat(self.age.fit(prepared.image)[None], len(plausible), axis=0)
        male = np.array([[male_from_sex(each) if each else 0.0] for each in plausible], np.float32)
        answers = dict(zip(plausible, self.age.predict_batch(looks, male, views=views).tolist(), strict=True))
        low, high = float("nan"), float("nan")
        if interval := self.age.metadata.get("interval"):
            low, high = span_interval(interval["half_width_months"], answers)
        months = answers[sex]
        return Reading(
            bone_age_months=months,
            low_months=low,
            high_months=high,
            sex=sex,
            male_share=male_share,
            sds=self.reference.score(months, chronological_age_months=chronological_age_months, sex=sex),
            warnings=tuple(warnings),
            hand=prepared.hand,
            crop=prepared.image,
        )


def settle_sex(recorded: str | None, given: str | None, *, path: Path) -> str | None:
    """Return the sex that a reading holds for: as recorded, else as given, None where nobody tells.

    Args:
        recorded: What the file or its table says, `"female"`, `"male"` or None.
        given: What whoever asks says.
        path: The file, named in the error.

    Raises:
        UnreadableImage: If they disagree (`sex_conflict`).
    """
    if recorded and given and recorded != given:
        raise UnreadableImage(
            f"{path.name}: the header says {recorded}, the request {given}; find out which is right.",
            reason="sex_conflict",
        )
    return recorded or given


def load_reader(
    bundle: str | Path | None = None,
    *,
    sex_bundle: str | Path | None = None,
    reference: str | Path | None = None,
) -> Reader:
    """Load bundles to read radiographs with.

    Args:
        bundle: Folder of the bundle for bone age; the one that ships with the package without it.
        sex_bundle: Folder of a bundle that tells the sex; the one that ships, if `bundle` is left out as well, else
            none.
        reference: CSV with a reference table, see `boneage.reference.load_reference`; the one that ships without it.

    Raises:
        UnusableReference: If the reference table cannot be used.
        BundleError: If a bundle is damaged, cannot be reproduced, is for something else, or the two want other
            preprocessing.
    """
    if bundle is None and sex_bundle is None:
        sex_bundle = DEFAULT_SEX_BUNDLE
    # One thread: radiographs are many, and each process works on one of its own.
    age = load_bundle(DEFAULT_BUNDLE if bundle is None else bundle, num_threads=1)
    if age.metadata["task"] != "age":
        raise BundleError(f"{bundle}: tells the sex; name a bundle for bone age, and this one by --sex-bundle.")
    sex = None if sex_bundle is None else load_bundle(sex_bundle, num_threads=1)
    if sex is not None and sex.metadata["task"] != "sex":
        raise BundleError(f"{sex_bundle}: tells no sex; train one with task = 'sex'.")
    if sex is not None and sex.metadata["fingerprint"] != age.metadata["fingerprint"]:
        raise BundleError(f"{sex_bundle}: wants other preprocessing than {age.folder}; train both on the same records.")
    return Reader(age, sex, preprocessing_of(age), load_reference(reference))


def preprocessing_of(bundle: Bundle) -> PreprocessingConfig:
    """Return the preprocessing that a bundle was trained on.

    Raises:
        BundleError: If this version of the package would prepare other pixels than the bundle was trained on.
    """
    config = build(PreprocessingConfig, bundle.metadata["preprocessing"], where=f"{bundle.folder} preprocessing")
    if fingerprint(config) != bundle.metadata["fingerprint"]:
        raise BundleError(
            f"{bundle.folder}: trained on pixels preprocessed as {bundle.metadata['fingerprint']}, this version makes "
            f"{fingerprint(config)}; install boneage {bundle.metadata['boneage_version']} or train again."
        )
    return config


@dataclasses.dataclass(frozen=True)
class Model:
    """Which model answers.

    Args:
        name: Folder of the bundle and name of its network.
        digest: First 12 digits of the SHA-256 of the network.
        error_months: Mean absolute error on validation, in months; None where the bundle does not tell.
        coverage_share: Share of validation whose reading lay in the interval; None where the bundle knows none.
        has_sex_network: Whether the sex is told from the image.
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


def describe(reader: Reader) -> Model:
    """Describe the model of a reader."""
    metadata: dict[str, Any] = reader.age.metadata
    interval = metadata.get("interval") or {}
    network = metadata.get("network")
    return Model(
        name=f"{reader.age.folder.resolve().name}{f' ({network})' if network else ''}",
        digest=metadata["sha256"]["model.onnx"][:12],
        error_months=metadata.get("validation_error"),
        coverage_share=interval.get("measured_coverage_share"),
        has_sex_network=reader.sex is not None,
    )
