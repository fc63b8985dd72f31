"""Bundles: a trained network with all that is needed to use it, in one folder, and without TensorFlow.

A bundle holds `model.onnx`, by which it answers, `metadata.json`, and `model.keras`, by which it can be trained on;
those in the package hold `weights.npz` instead, half as large. The metadata name the preprocessing and carry a hash of
each model, so that nothing can be exchanged for something else unnoticed.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from PIL import Image

from boneage.views import VIEWS, take_view
from tfrecords.errors import BoneAgeError, check_choice
from tfrecords.info import read_info
from tfrecords.schema import sex_from_male

BUNDLE_VERSION = 3
# The models that ship with the package, for bone age and for the sex, each with its card.
DEFAULT_BUNDLE = Path(__file__).parent / "models" / "default"
DEFAULT_SEX_BUNDLE = Path(__file__).parent / "models" / "default_sex"
ONNX_FILE = "model.onnx"
KERAS_FILE = "model.keras"
WEIGHTS_FILE = "weights.npz"
METADATA_FILE = "metadata.json"


class BundleError(BoneAgeError):
    """A bundle that is missing, damaged, or does not fit the records it is used on."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Args:
        folder: Where it was loaded from.
        session: The network: images float32 `(batch, size, size, 1)` in [0, 1] and, if it uses sex, `male` float32
            `(batch, 1)`, to bone age in months, or to the probability of a boy if its task is the sex, float32
            `(batch, 1)`.
        metadata: Content of `metadata.json`.
    """

    folder: Path
    session: onnxruntime.InferenceSession
    metadata: dict[str, Any]

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return self.metadata["input_size"]

    def predict_batch(self, images: np.ndarray, male: np.ndarray, *, views: str | None = None) -> np.ndarray:
        """Predict bone age, calibrated where the bundle is, or the probability of a boy.

        Args:
            images: Shape `(batch, size, size, 1)`, uint8.
            male: Shape `(batch, 1)`, float32, 1 for male, 0 for female.
            views: A key of `VIEWS`; the one that the bundle names without it.

        Returns:
            Bone age in months or the probability, shape `(batch,)`, float32.
        """
        chosen = self.metadata["views"] if views is None else views
        check_choice("views", chosen, tuple(VIEWS))
        answers = [
            self._run(take_view(images, angle_degrees=angle, mirrored=mirrored), male)
            for angle, mirrored in VIEWS[chosen]
        ]
        answer = np.mean(answers, axis=0)
        if calibration := self.metadata.get("calibration"):
            slope, offset = np.where(male > 0.5, calibration["male"], calibration["female"]).T
            answer = answer * slope + offset
        return answer.astype(np.float32)

    def _run(self, images: np.ndarray, male: np.ndarray) -> np.ndarray:
        known = {"image": images.astype(np.float32) / 255, "male": male.astype(np.float32)}
        return self.session.run(None, {each.name: known[each.name] for each in self.session.get_inputs()})[0][:, 0]

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Resize a prepared square to the network's input, as reading records does.

        Args:
            image: Shape `(side, side)`, uint8.

        Returns:
            Shape `(size, size, 1)`, uint8.
        """
        size = self.input_size
        if image.shape[0] == size:
            return image[..., None]
        resized = Image.fromarray(image.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        return np.rint(np.clip(np.asarray(resized), 0, 255)).astype(np.uint8)[..., None]

    def predict_records(
        self, data: str | Path, *, split: str, batch_size: int = 64, views: str | None = None
    ) -> pd.DataFrame:
        """Predict one split of a record folder.

        Args:
            data: The record folder.
            split: `"train"`, `"validation"` or `"test"`.
            batch_size: Records predicted at a time.
            views: As in `predict_batch`.

        Returns:
            Columns `id`, `sex`, `bone_age_months` (NaN where missing), and `predicted_months`, or `male_share` if the
            task is the sex.

        Raises:
            BundleError: If the records were preprocessed differently from the bundle's training data.
        """
        # Reading records takes TensorFlow, which answering for files does not.
        from tfrecords.read import name_damage, read_records

        answer = "male_share" if self.metadata["task"] == "sex" else "predicted_months"
        found = read_info(data)["fingerprint"]
        if found != self.metadata["fingerprint"]:
            raise BundleError(
                f"{data}: preprocessed as {found}, but {self.folder} was trained on {self.metadata['fingerprint']}; "
                f"prepare the records with this bundle's settings: {self.metadata['preprocessing']}."
            )
        frames = []
        with name_damage(data):
            for batch in read_records(data, split=split, input_size=self.input_size, batch_size=batch_size):
                batch = {key: value.numpy() for key, value in batch.items()}
                frames.append(
                    pd.DataFrame(
                        {
                            "id": [id.decode() for id in batch["id"]],
                            "sex": [sex_from_male(male) for male in batch["male"][:, 0]],
                            "bone_age_months": batch["bone_age_months"][:, 0],
                            answer: self.predict_batch(batch["image"], batch["male"], views=views),
                        }
                    )
                )
        return pd.concat(frames, ignore_index=True)


def find_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle; that of a model in MLflow's registry, `models:/boneage@champion`, is fetched.

    Raises:
        BoneAgeError: If it cannot be fetched.
    """
    if not str(bundle).startswith("models:/"):
        return Path(bundle)
    from boneage.leaderboard import fetch_bundle

    return fetch_bundle(str(bundle))


def seal(metadata: dict[str, Any]) -> str:
    """Hash of the metadata, so that a changed line is noticed."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Read and check `metadata.json` of a bundle, without loading the model.

    Raises:
        BundleError: If it is missing, unreadable, changed, or of another version.
    """
    folder = find_bundle(folder)
    path = folder / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder}: no {METADATA_FILE} here; name the `bundle` folder of a training run.") from None
    except ValueError as error:
        raise BundleError(f"{path}: not readable as JSON ({error}); restore the bundle.") from error
    if metadata.get("bundle_version") != BUNDLE_VERSION:
        raise BundleError(f"{path}: version {metadata.get('bundle_version')} is not {BUNDLE_VERSION}; train again.")
    if metadata.pop("seal", None) != seal(metadata):
        raise BundleError(
            f"{path}: changed since it was written; restore the bundle, since its predictions rest on it."
        )
    return metadata


def check_model(folder: Path, metadata: dict[str, Any], name: str) -> Path:
    """Return the path of one of a bundle's models, once its hash is what the metadata say.

    Raises:
        BundleError: If the model is missing or another one.
    """
    path = folder / name
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != metadata["sha256"].get(name):
        raise BundleError(
            f"{path}: missing, or not the model that {METADATA_FILE} was written for; restore the bundle."
        )
    return path


def load_bundle(folder: str | Path, *, num_threads: int = 0) -> Bundle:
    """Load a bundle; no code of the caller's is needed and none from the bundle is run.

    Args:
        folder: The bundle.
        num_threads: Threads that the network uses; 0 for one per core.

    Raises:
        BundleError: If the model or the metadata are missing, damaged or changed.
    """
    folder = find_bundle(folder)
    metadata = read_metadata(folder)
    path = check_model(folder, metadata, ONNX_FILE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return Bundle(folder, onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), metadata)
