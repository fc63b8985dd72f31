"""A loaded model: the preprocessing of its bundle, then its networks, without TensorFlow."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from boneage.bundles.bundle import Bundle
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.inference.comparison import UNUSED_AGE, compare_ages
from boneage.inference.estimates import choose_network_age, estimate_bone_age, judge_sex
from boneage.inference.growth_reference import GrowthReference
from boneage.inference.images import Image, to_radiograph
from boneage.inference.inputs import predict_input
from boneage.inference.marker import find_marker
from boneage.inference.model_info import ModelInfo, describe_model
from boneage.inference.reading import Reading
from boneage.inference.two_hands import read_hands
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.decisions import describe_rejection
from boneage.preprocessing.hand.gate import list_gate_warnings
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError, resolve_sex
from boneage.preprocessing.process import process
from boneage.preprocessing.sources.sources import Case
from boneage.registry.digest import metadata_digest
from boneage.tfrecords.schema import SEXES

# Name of an image without a file, in errors.
_UNNAMED = Path("image")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Reader:
    """A loaded model: a bone-age bundle and an optional sex bundle, ready to read radiographs.

    `boneage.load` makes it. Several threads may use it at the same time.

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

    def __repr__(self) -> str:
        """Name, digest and error of the model."""
        error = "" if self.info.error_months is None else f", mean absolute error {self.info.error_months:.1f} months"
        return f"Reader({self.info.label}{error})"

    @property
    def info(self) -> ModelInfo:
        """Name, digest and measured errors of the model."""
        return describe_model(self.age_bundle, has_sex_network=self.sex_bundle is not None)

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
    ) -> Reading:
        """Read one radiograph that is in memory.

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
            The reading; that of a rejected hand has its reasons.

        Raises:
            UnreadableImageError: If the network's answer lies outside [0, 240] months (`impossible_answer`), or
                it needs a chronological age (`age_missing`).
        """
        # Before the film is looked at: of two hands the parts would be refused, and then the film for another reason.
        choose_network_age(self.age_bundle, chronological_age_months, is_unit_stated=is_age_unit_stated, path=path)
        prepared = process(radiograph, self.config)
        hand = prepared.hand
        pose = hand.pose if hand else None
        seen = Reading(
            laterality=radiograph.laterality, side=pose.side if pose else None, hand=hand, crop=prepared.image
        )
        if prepared.reasons or prepared.image is None:
            detail = describe_rejection(path, prepared.reasons)
            return dataclasses.replace(seen, reasons=prepared.reasons, detail=detail)
        if hand is not None and "right" in (seen.laterality, seen.side):  # an L can contradict nothing else
            seen = dataclasses.replace(seen, marker=find_marker(hand.pixels, hand.segmentation.mask))
        return self._estimate(
            seen,
            prepared.image,
            path=path,
            sex=sex,
            tta=tta,
            age_months=chronological_age_months,
            is_age_unit_stated=is_age_unit_stated,
            male_probability=male_probability,
        )

    def read_again(
        self, reading: Reading, *, path: Path, sex: str | None, chronological_age_months: float | None
    ) -> Reading:
        """Read an accepted radiograph again with another sex or chronological age, by its crop.

        Args:
            reading: The reading, of any hand of its film; the pixels of its `hand` are not needed.
            path: As in `read`.
            sex: As in `read`.
            chronological_age_months: As in `read`.

        Returns:
            What `read` returns of the same film with this sex and age, with the side of a film of two hands.

        Raises:
            ValueError: If there is no bone age.
            UnreadableImageError: As in `read`.
        """
        if not reading.accepted or reading.crop is None:
            raise ValueError(f"`reading` must be accepted. Received: {reading}.")
        seen = Reading(
            laterality=reading.laterality,
            marker=reading.marker,
            side=reading.side,
            part=reading.part,
            hand=reading.hand,
            crop=reading.crop,
        )
        again = self._estimate(
            seen,
            reading.crop,
            path=path,
            sex=sex,
            age_months=chronological_age_months,
            male_probability=None if np.isnan(reading.male_probability) else reading.male_probability,
        )
        kept = tuple(warning for warning in reading.warnings if warning == "two_hands")
        return dataclasses.replace(again, warnings=(*kept, *again.warnings))

    def _estimate(
        self,
        seen: Reading,
        crop: UInt8[np.ndarray, "size size"],
        *,
        path: Path,
        sex: str | None,
        age_months: float | None,
        tta: str | None = None,
        is_age_unit_stated: bool = True,
        male_probability: float | None = None,
    ) -> Reading:
        """Predict the bone age of what is seen on a film, as `read` does."""
        network_age = choose_network_age(self.age_bundle, age_months, is_unit_stated=is_age_unit_stated, path=path)
        judged = judge_sex(self.sex_bundle, crop, sex=sex, male_probability=male_probability)
        estimate = estimate_bone_age(
            self.age_bundle,
            crop,
            sexes=SEXES if sex is None else (sex,),
            network_age_months=network_age,
            tta=tta,
        )
        predictions = estimate.predictions
        months = predictions[judged.sex] if judged.sex else float(np.mean(list(predictions.values())))
        if not 0 <= months <= MAX_BONE_AGE_MONTHS:  # also rejects NaN
            raise UnreadableImageError(
                f"{path.name}: the model answers {months:.0f} months, outside 0 to {MAX_BONE_AGE_MONTHS:.0f}; use a "
                "radiograph like those that it was trained on, or a better model.",
                reason="impossible_answer",
            )
        gate_warnings = list_gate_warnings(seen.hand.measures, gate=self.config.gate) if seen.hand else ()
        warnings = [*gate_warnings, *judged.warnings, *estimate.warnings]
        if judged.sex is None and np.ptp(list(predictions.values())):
            warnings.append("sex_unknown")
        comparison = compare_ages(
            self.reference,
            predictions,
            bone_age_months=months,
            interval_months=(estimate.low_months, estimate.high_months),
            sex=judged.sex,
            chronological_age_months=age_months,
            is_unit_stated=is_age_unit_stated,
        )
        if comparison.missing == UNUSED_AGE:  # years taken for months, or a child so ill that its age needs a unit
            warnings.append("age_unit_doubtful")
        elif comparison.is_far:
            warnings.append("age_looks_wrong")
        if len({seen.laterality, seen.side, seen.marker} - {None}) > 1:
            warnings.append("side_looks_wrong")
        return dataclasses.replace(
            seen,
            bone_age_months=months,
            low_months=estimate.low_months,
            high_months=estimate.high_months,
            sex=judged.sex,
            male_probability=float("nan") if judged.male_probability is None else judged.male_probability,
            predictions=predictions,
            comparison=comparison,
            network_age_months=network_age,
            warnings=tuple(warnings),
        )

    def predict(
        self,
        x: Image | list[Image] | tuple[Image, ...] | pd.DataFrame,
        *,
        sex: str | Sequence[str | None] | None = None,
        chronological_age_months: float | Sequence[float | None] | None = None,
        tta: str | None = None,
    ) -> Reading | list[Reading] | pd.DataFrame:
        """Read one radiograph, a list of them, or a whole folder or table.

        What is no radiograph, or shows no hand that can be read, gives a reading with `reasons`, not an error. Several
        radiographs are read at the same time, one per CPU core; a notebook shows a progress bar.

        Args:
            x: One radiograph: the path of a file, the bytes of one, an array of shape `(height, width)` or
                `(height, width, 3)`, uint8 or uint16, bright bone, a Pillow image, bright bone, or a pydicom data set.
                Or a list or tuple of these. Or the path of a folder. Or a DataFrame with a column `file` (or `path`,
                `image`, `id`) of paths and, as in the tables of `boneage.predict`, `sex` and
                `chronological_age_months`.
            sex: `"female"` or `"male"` (or F, M); for a list, also one for each. DICOM files and tables have their own;
                if it is unknown, the interval spans those of both sexes.
            chronological_age_months: Chronological age in months for the standard deviation score, and for a model that
                uses it; for a list, also one for each. Without it, that of the DICOM header or of the table is used.
            tta: Test-time augmentation: `"none"`, `"mirrored"` or `"ten"` (default: as saved in the bundle).

        Returns:
            A `Reading` for one radiograph, a list of them for a list, and for a folder or a DataFrame a DataFrame with
            the columns of `boneage.predict`: for a folder one row per file, for a DataFrame its rows and its index.

        Raises:
            ValueError: If `x`, `sex` or `tta` is not understood, or a list has another length than `x`.
            BoneAgeError: If a file or folder does not exist, or a table lacks a column.
        """
        return predict_input(self, x, sex=sex, chronological_age_months=chronological_age_months, tta=tta)

    def read_case(
        self, case: Case, *, sex: str | None = None, tta: str | None = None
    ) -> tuple[Radiograph | None, Reading]:
        """Read the file of a case, which may be unreadable.

        Args:
            case: The file, with the sex and the age that its source gives.
            sex: The sex, instead of that of the source.
            tta: As in `predict`.

        Returns:
            The radiograph, None if the file contains none, and its reading.
        """
        return self.read_image(
            case.path,
            sex=sex or case.sex,
            age_months=case.chronological_age_months,
            is_age_unit_stated=case.is_age_unit_stated,
            tta=tta,
        )

    def read_image(
        self,
        image: Image,
        *,
        sex: str | None,
        age_months: float | None = None,
        is_age_unit_stated: bool = True,
        tta: str | None = None,
    ) -> tuple[Radiograph | None, Reading]:
        """Read one radiograph, which may be unreadable.

        Args:
            image: One radiograph as in `predict`.
            sex: `"female"`, `"male"`, or None if unknown; DICOM files have their own.
            age_months: Chronological age in months, or None: that of a DICOM header is used then.
            is_age_unit_stated: Whether its unit is certain.
            tta: As in `predict`.

        Returns:
            The radiograph, None if there is none in the image, and its reading.

        Raises:
            ValueError: If the image is of an unknown type, shape or dtype.
        """
        path = Path(image) if isinstance(image, str | Path) else _UNNAMED
        radiograph = None
        try:
            radiograph = to_radiograph(image, name=path)
            read = functools.partial(
                self.read,
                path=path,
                tta=tta,
                chronological_age_months=radiograph.chronological_age_months if age_months is None else age_months,
                is_age_unit_stated=is_age_unit_stated,
            )
            reading = read_hands(read, radiograph, sex=resolve_sex(radiograph, sex, path=path))
        except UnreadableImageError as error:
            reading = Reading(reasons=(error.reason,), detail=str(error))
        return radiograph, reading
