"""Bundles: a trained network with all that is needed to use it, in one folder.

A bundle holds `model.keras` and `metadata.json`. The metadata name the preprocessing and carry a hash of the model,
so that neither can be exchanged for another unnoticed.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from tfrecords.errors import BoneAgeError
from tfrecords.info import read_info
from tfrecords.read import name_damage, read_records
from tfrecords.write import write_json

BUNDLE_VERSION = 2
MODEL_FILE = "model.keras"
METADATA_FILE = "metadata.json"
INTENDED_USE = "Research. Not a medical device: no diagnosis or treatment may rest on its output."


class BundleError(BoneAgeError):
    """A bundle that is missing, damaged, or does not fit the records it is used on."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Args:
        folder: Where it was loaded from.
        model: The network: images float32 `(batch, size, size, 1)` in [0, 1] and, if it uses sex, `male` float32
            `(batch, 1)`, to bone age in months, float32 `(batch, 1)`.
        metadata: Content of `metadata.json`.
    """

    folder: Path
    model: keras.Model
    metadata: dict[str, Any]

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return self.metadata["input_size"]

    def predict_batch(self, images: np.ndarray, male: np.ndarray) -> np.ndarray:
        """Predict bone age; where the metadata say so, as the mean over each image and its mirror image.

        Args:
            images: Shape `(batch, size, size, 1)`, uint8.
            male: Shape `(batch, 1)`, float32, 1 for male, 0 for female.

        Returns:
            Bone age in months, shape `(batch,)`, float32.
        """
        inputs = {"image": tf.constant(images, tf.float32) / 255, "male": tf.constant(male, tf.float32)}
        wanted = {tensor.name: inputs[tensor.name] for tensor in self.model.inputs}
        months = self.model(wanted, training=False)
        if self.metadata["average_mirrored"]:
            mirrored = {**wanted, "image": wanted["image"][:, :, ::-1]}
            months = (months + self.model(mirrored, training=False)) / 2
        return months.numpy().astype(np.float32)[:, 0]

    def predict_records(self, data: str | Path, *, split: str, batch_size: int = 64) -> pd.DataFrame:
        """Predict one split of a record folder.

        Args:
            data: The record folder.
            split: `"train"`, `"validation"` or `"test"`.
            batch_size: Records predicted at a time.

        Returns:
            Columns `id`, `sex`, `bone_age_months` (NaN where missing), `predicted_months`.

        Raises:
            BundleError: If the records were preprocessed differently from the bundle's training data.
        """
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
                            "sex": np.where(batch["male"][:, 0] > 0.5, "male", "female"),
                            "bone_age_months": batch["bone_age_months"][:, 0],
                            "predicted_months": self.predict_batch(batch["image"], batch["male"]),
                        }
                    )
                )
        return pd.concat(frames, ignore_index=True)


def save_bundle(folder: str | Path, model: keras.Model, metadata: dict[str, Any]) -> Path:
    """Save a bundle; an older one in its place stays whole until the new one is complete.

    Args:
        folder: Where it goes.
        model: The network.
        metadata: What `metadata.json` tells beside the version and the model's hash.

    Returns:
        The folder.
    """
    folder = Path(folder)
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    model.save(beside / MODEL_FILE)
    own = {
        "bundle_version": BUNDLE_VERSION,
        "boneage_version": importlib.metadata.version("boneage"),
        "model_sha256": hashlib.sha256((beside / MODEL_FILE).read_bytes()).hexdigest(),
        "value_range": [0.0, 1.0],
        "unit": "months",
        "intended_use": INTENDED_USE,
    }
    sealed = {**metadata, **own}
    write_json(beside / METADATA_FILE, {**sealed, "seal": _seal(sealed)})
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        os.replace(folder, old)
        os.replace(beside, folder)
        shutil.rmtree(old)
    else:
        os.replace(beside, folder)
    return folder


def _seal(metadata: dict[str, Any]) -> str:
    """Hash of the metadata, so that a changed line is noticed."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Read and check `metadata.json` of a bundle, without loading the model.

    Raises:
        BundleError: If it is missing, unreadable, changed, or of another version.
    """
    path = Path(folder) / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder}: no {METADATA_FILE} here; name the `bundle` folder of a training run.") from None
    except ValueError as error:
        raise BundleError(f"{path}: not readable as JSON ({error}); restore the bundle.") from error
    if metadata.get("bundle_version") != BUNDLE_VERSION:
        raise BundleError(f"{path}: version {metadata.get('bundle_version')} is not {BUNDLE_VERSION}; train again.")
    if metadata.pop("seal", None) != _seal(metadata):
        raise BundleError(
            f"{path}: changed since it was written; restore the bundle, since its predictions rest on it."
        )
    return metadata


def load_bundle(folder: str | Path) -> Bundle:
    """Load a bundle; no code of the caller's is needed and none from the bundle is run.

    Raises:
        BundleError: If the model or the metadata are missing, damaged or changed.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    path = folder / MODEL_FILE
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != metadata["model_sha256"]:
        raise BundleError(
            f"{path}: missing, or not the model that {METADATA_FILE} was written for; restore the bundle."
        )
    return Bundle(folder, keras.saving.load_model(path, compile=False, safe_mode=True), metadata)
