"""Bundles: a trained network with its metadata in one folder, usable without TensorFlow.

A bundle contains `model.onnx` for inference, `metadata.json`, and `model.keras` for further training. Packaged bundles
have `weights.npz` instead, which is half as large, in a checkout or in the distribution boneage-training-weights;
`seen.npz` has hashes of the radiographs that the bundle has seen. The metadata contain the preprocessing and a checksum
of each other file, so that an exchanged file is detected.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from PIL import Image

from boneage.base.errors import BoneAgeError, check_choice
from boneage.base.files import restore_folder
from boneage.base.json_files import read_json
from boneage.base.limits import cpu_count
from boneage.base.progress import report_progress
from boneage.base.training_weights import find_training_weights, require_training_weights
from boneage.bundles.metadata import find_fault
from boneage.bundles.test_time_augmentation import turn_and_mirror
from boneage.configuration.training import AGE_INPUTS, TTA_TRANSFORMS
from boneage.registry.digest import metadata_digest
from boneage.registry.settings import METADATA_FILE, PACKAGED_BUNDLE
from boneage.tfrecords.info import read_info, split_info
from boneage.tfrecords.quiet import import_tensorflow
from boneage.tfrecords.schema import sex_from_male

BUNDLE_VERSION = 3
# The packaged models for bone age and for the sex, with their model cards.
DEFAULT_BUNDLE = PACKAGED_BUNDLE
DEFAULT_SEX_BUNDLE = Path(__file__).parent / "default_sex"
ONNX_FILE = "model.onnx"
KERAS_FILE = "model.keras"
WEIGHTS_FILE = "weights.npz"
SEEN_FILE = "seen.npz"
CARD_FILE = "README.md"

# Severity of the log of ONNX Runtime.
_FATAL = 4


class BundleError(BoneAgeError):
    """A bundle is missing or damaged, or does not match the records."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Args:
        folder: The folder of the bundle.
        session: The network: `image`, float32 `(batch, size, size, 1)` in [0, 1], and, if it uses the sex, `male`,
            float32 `(batch, 1)`, and, if it uses the chronological age, those of
            `boneage.configuration.training.AGE_INPUTS`, to bone age in months or, for sex classification, the
            probability that the child is male, float32 `(batch, 1)`.
        metadata: Content of `metadata.json`.
    """

    folder: Path
    session: onnxruntime.InferenceSession
    metadata: dict[str, Any]

    def __reduce__(self) -> tuple[Callable[[Path], "Bundle"], tuple[Path]]:
        """Another process loads the bundle from its folder, for one thread."""
        return functools.partial(load_bundle, num_threads=1), (self.folder,)

    @property
    def input_size(self) -> int:
        """Height and width of the network's input, in pixels."""
        return int(self.metadata["input_size"])

    @property
    def chronological_age(self) -> str:
        """How the network uses the chronological age, a key of `boneage.configuration.training.AGE_INPUTS`."""
        return str(self.metadata.get("chronological_age", "none"))

    def predict_batch(
        self,
        images: np.ndarray,
        male: np.ndarray,
        *,
        ages_months: np.ndarray | None = None,
        tta: str | None = None,
    ) -> np.ndarray:
        """Predict bone age, with the bundle's calibration if any, or the probability that the child is male.

        Args:
            images: Shape `(batch, size, size, 1)`, uint8.
            male: Shape `(batch, 1)`, float32, 1 for male, 0 for female.
            ages_months: Chronological ages in months, NaN where unknown, shape `(batch, 1)`, float32 (default: all
                unknown). Without effect on a network that does not use them.
            tta: Test-time augmentation, a key of `TTA_TRANSFORMS` (default: as saved in the bundle).

        Returns:
            Bone age in months or the probability, shape `(batch,)`, float32.

        Raises:
            BundleError: If the network predicts the difference from the chronological age, and one is unknown.
        """
        ages = np.full((len(images), 1), np.nan, np.float32) if ages_months is None else ages_months
        is_known = np.isfinite(ages)
        if self.chronological_age == "relative" and not is_known.all():
            raise BundleError(
                f"{self.folder}: answers only with the chronological age, which {int((~is_known).sum()):,} of "
                f"{len(images):,} radiographs lack; give it, or use a model that needs none."
            )
        inputs = {
            "male": male,
            "chronological_age_months": np.where(is_known, ages, 0.0),
            "age_is_known": is_known,
        }
        chosen = self.metadata["tta"] if tta is None else tta
        check_choice("tta", chosen, tuple(TTA_TRANSFORMS))
        predictions = [
            self._run(turn_and_mirror(images, angle_degrees=angle, mirrored=mirrored), inputs)
            for angle, mirrored in TTA_TRANSFORMS[chosen]
        ]
        predicted: np.ndarray = np.mean(predictions, axis=0)
        if calibration := self.metadata.get("calibration"):
            slope, offset = np.where(male > 0.5, calibration["male"], calibration["female"]).T
            predicted = predicted * slope + offset
        return predicted.astype(np.float32)

    def _run(self, images: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
        known = {"image": images.astype(np.float32) / 255, **inputs}
        used = {tensor.name: known[tensor.name].astype(np.float32, copy=False) for tensor in self.session.get_inputs()}
        output = np.asarray(self.session.run(None, used)[0])
        return output.reshape(-1)

    def _predict_in_parts(
        self, images: np.ndarray, male: np.ndarray, ages_months: np.ndarray, *, tta: str | None
    ) -> np.ndarray:
        """Predict a batch, in halves where the memory does not suffice for all of it."""
        try:
            return self.predict_batch(images, male, ages_months=ages_months, tta=tta)
        except Exception as error:  # ONNX Runtime documents no closed set of errors
            if not _is_out_of_memory(error):
                raise
            if len(images) == 1:
                size = self.input_size
                raise BundleError(
                    f"{self.folder}: out of memory with batch_size=1 at {size} x {size} pixels; close other programs, "
                    "or use a smaller network."
                ) from error
        # Here, since the error holds what fills the memory.
        middle = len(images) // 2
        parts = (slice(middle), slice(middle, None))
        return np.concatenate(
            [self._predict_in_parts(images[part], male[part], ages_months[part], tta=tta) for part in parts]
        )

    def resize_to_input(self, image: np.ndarray) -> np.ndarray:
        """Resize a prepared image to the network's input size, in the same way as the records reader.

        Args:
            image: Shape `(side, side)`, uint8.

        Returns:
            Shape `(size, size, 1)`, uint8.
        """
        size = self.input_size
        if image.shape[0] == size:
            return np.expand_dims(image, -1)
        resized = Image.fromarray(image.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        return np.expand_dims(np.rint(np.clip(np.asarray(resized), 0, 255)).astype(np.uint8), -1)

    def predict_records(
        self, data: str | Path, *, split: str, batch_size: int = 64, tta: str | None = None, with_age: bool = True
    ) -> pd.DataFrame:
        """Predict one split of a record folder; a notebook shows a progress bar.

        Args:
            data: The record folder.
            split: `"train"`, `"validation"` or `"test"`.
            batch_size: Number of records in a batch.
            tta: Test-time augmentation, see `predict_batch`.
            with_age: Whether a network that uses the chronological age is told it.

        Returns:
            Columns `id`, `group` (equal for radiographs of one patient), `sex`, `bone_age_months` and
            `chronological_age_months` (NaN where missing), `predicted_months`, or `male_probability` for sex
            classification, and, of a network that may be given the chronological age, `without_age`, whether it was
            not.

        Raises:
            BundleError: If the records and the bundle's training data have different preprocessing, or the network
                needs chronological ages that the records lack, or the memory does not suffice for one radiograph.
        """
        if tta is not None:
            check_choice("tta", tta, tuple(TTA_TRANSFORMS))
        # Only reading records needs TensorFlow, prediction of files does not.
        import_tensorflow()
        from boneage.tfrecords.reader import read_records, translate_shard_errors

        column = "male_probability" if self.metadata["task"] == "sex" else "predicted_months"
        info = read_info(data)
        if (found := info["fingerprint"]) != self.metadata["fingerprint"]:
            raise BundleError(
                f"{data}: preprocessing {found} does not match {self.metadata['fingerprint']} of {self.folder}; "
                f"prepare the records with the settings {self.metadata['preprocessing']}."
            )
        num_records, frames, finished = split_info(info, split, folder=data)["num_records"], [], 0
        with translate_shard_errors(data), report_progress(None, "Reading") as report:
            for batch in read_records(data, split=split, input_size=self.input_size, batch_size=batch_size):
                batch = {key: value.numpy() for key, value in batch.items()}
                ages = batch["chronological_age_months"]
                given = ages if with_age else np.full_like(ages, np.nan)
                predicted = self._predict_in_parts(batch["image"], batch["male"], given, tta=tta)
                frame = pd.DataFrame(
                    {
                        "id": [id.decode() for id in batch["id"]],
                        "group": [group.decode() for group in batch["group"]],
                        "sex": [sex_from_male(male) for male in batch["male"][:, 0]],
                        "bone_age_months": batch["bone_age_months"][:, 0],
                        "chronological_age_months": ages[:, 0],
                        column: predicted,
                    }
                )
                if self.chronological_age == "input":
                    frame["without_age"] = frame["chronological_age_months"].isna() | (not with_age)
                frames.append(frame)
                finished += len(frames[-1])
                report(finished, num_records)
        return pd.concat(frames, ignore_index=True)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether NumPy or ONNX Runtime, by the words of its errors, could not allocate memory."""
    return isinstance(error, MemoryError) or "alloc" in str(error).lower()


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Read and check `metadata.json` of a bundle, without loading the model.

    Raises:
        BundleError: If it is missing, unreadable, changed, or has another version.
    """
    folder = Path(folder)
    path = folder / METADATA_FILE
    try:
        restore_folder(folder)
        metadata = read_json(path)
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: contains no {METADATA_FILE}; give the `bundle` folder of a training run."
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; give the `bundle` folder of a training run.") from error
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); restore the bundle.") from error
    if metadata.get("bundle_version") != BUNDLE_VERSION:
        raise BundleError(
            f"{path}: bundle version {str(metadata.get('bundle_version'))[:20]} is not supported "
            f"(expected {BUNDLE_VERSION}); train again."
        )
    if metadata.pop("metadata_digest", None) != metadata_digest(metadata):
        raise BundleError(f"{path}: metadata digest does not match, the file was changed; restore the bundle.")
    if fault := find_fault(metadata):
        raise BundleError(f"{path}: {fault}; restore the bundle.")
    return metadata


def check_model(folder: Path, metadata: dict[str, Any], name: str) -> Path:
    """Return the path of one of a bundle's models after checking its checksum.

    Raises:
        BundleError: If the model is missing or its checksum differs.
        TrainingWeightsError: If the model is the weights of a packaged bundle, and they are not installed.
    """
    path = folder / name
    if _is_packaged_weights(folder, name):
        path = require_training_weights(path)
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != metadata["sha256"].get(name):
        raise BundleError(f"{path}: missing, or its checksum does not match {METADATA_FILE}; restore the bundle.")
    return path


def has_model(folder: Path, name: str) -> bool:
    """Return whether a model of a bundle is available: the weights of a packaged bundle may not be installed."""
    return not _is_packaged_weights(folder, name) or find_training_weights(folder / name) is not None


def _is_packaged_weights(folder: Path, name: str) -> bool:
    return name == WEIGHTS_FILE and folder in (DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE)


def load_bundle(folder: str | Path, *, num_threads: int = 0) -> Bundle:
    """Load a bundle. No code from the bundle is executed.

    Args:
        folder: The bundle.
        num_threads: Number of threads of the network; 0 for one per CPU core that this process may use.

    Raises:
        BundleError: If the model or the metadata are missing, damaged or changed.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    path = check_model(folder, metadata, ONNX_FILE)
    try:
        session = start_session(path.read_bytes(), num_threads=num_threads)
    except Exception as error:  # ONNX Runtime documents no closed set of errors
        raise BundleError(
            f"{path}: ONNX Runtime cannot load it ({type(error).__name__}); it must be a network without external data."
        ) from error
    inputs = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    size = metadata["input_size"]
    of_age = AGE_INPUTS[metadata.get("chronological_age", "none")]
    if inputs.keys() - {"male"} != {"image", *of_age} or inputs["image"][1:] != [size, size, 1]:
        ages = f", and {' and '.join(f'`{name}`' for name in of_age)}" if of_age else ""
        raise BundleError(
            f"{path}: needs an input `image` of {size} x {size} pixels, and `male` if it uses the sex{ages}; it has "
            f"{', '.join(sorted(inputs))}."
        )
    return Bundle(folder, session, metadata)


def start_session(content: bytes, *, num_threads: int = 0) -> onnxruntime.InferenceSession:
    """Load a network from the bytes of an ONNX file: weights in other files, which no checksum covers, are not read.

    Args:
        content: The content of the file.
        num_threads: As in `load_bundle`.

    Raises:
        Exception: If it cannot be loaded: ONNX Runtime documents no closed set of errors.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or cpu_count()
    options.log_severity_level = _FATAL  # errors are raised
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
