"""What a frozen tower sees in the training split: computed once, kept in a file, used by every search on it.

Every head reads the average and the maximum of a feature map, so these are kept, not the map: of a 500-pixel tower it
would be a hundred times their size.
"""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from boneage.config import Experiment
from boneage.models import build_network
from tfrecords.info import read_info, split_info
from tfrecords.read import name_damage, read_records
from tfrecords.write import write_whole

POOLED = ("average", "max")
_BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a split, by radiograph.

    Args:
        ids: Ids of the radiographs, shape `(radiographs,)`.
        male: 1 for male, 0 for female, float32 `(radiographs, 1)`.
        bone_age_months: float32 `(radiographs, 1)`.
        average: Average of the feature map, float16 `(views, radiographs, channels)`; the second view, if there is one,
            is the mirror image.
        max: Its maximum, alike.
        tower_sha256: SHA-256 of the tower's weights (16 hexadecimal digits).
    """

    ids: np.ndarray
    male: np.ndarray
    bone_age_months: np.ndarray
    average: np.ndarray
    max: np.ndarray
    tower_sha256: str


def read_features(experiment: Experiment, *, data: str | Path, folder: str | Path) -> Features:
    """Read the features of the training split, or compute and keep them.

    Args:
        experiment: Gives the tower, its weights and the size of its input; where it mirrors, the mirror image is
            a second view.
        data: The record folder.
        folder: Where features are kept, one file for each tower, data, and size.

    Raises:
        BoneAgeError: If the records or the tower's weights cannot be read.
    """
    tower = build_tower(experiment)
    info, config = read_info(data), experiment.train
    num_records = split_info(info, "train", folder=data)["num_records"]
    key = {
        "tower": _hash_weights(tower),
        "data": info["digest"],
        "input_size": config.input_size,
        "views": 2 if experiment.augment.flip_share else 1,
    }
    path = Path(folder) / ("-".join(map(str, key.values())) + ".npz")
    arrays = _read(path, key=key, num_records=num_records)
    if arrays is None:
        arrays = _compute(tower, data=data, input_size=config.input_size, num_views=key["views"])
        path.parent.mkdir(parents=True, exist_ok=True)
        contents: dict[str, Any] = {"key": np.array(json.dumps(key)), **arrays}
        with write_whole(path) as file:
            np.savez(file, **contents)
    return Features(**arrays, tower_sha256=key["tower"])


def build_tower(experiment: Experiment) -> keras.Model:
    """Build the tower that an experiment begins with.

    A weights file fits only the network as it is trained, so all of it is built.
    """
    config = experiment.train
    keras.utils.set_random_seed(config.seed)
    model = build_network(config, init=config.init)
    return model.get_layer(config.network)


def _hash_weights(tower: keras.Model) -> str:
    digest = hashlib.sha256(tower.name.encode())
    for weight in tower.get_weights():
        digest.update(str(weight.shape).encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path, *, key: dict[str, Any], num_records: int) -> dict[str, np.ndarray] | None:
    """Read a file of features; None if it is missing, damaged, or of something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            # Each array has a checksum, which reading it verifies.
            arrays = {name: file[name] for name in file.files}
        found = json.loads(str(arrays.pop("key")))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    whole = arrays.keys() == {"ids", "male", "bone_age_months", *POOLED} and found == key
    return arrays if whole and len(arrays["ids"]) == num_records else None


def _compute(tower: keras.Model, *, data: str | Path, input_size: int, num_views: int) -> dict[str, np.ndarray]:
    """Let the tower see the training split."""
    layers = keras.layers
    pooled = [layers.GlobalAveragePooling2D()(tower.output), layers.GlobalMaxPooling2D()(tower.output)]
    extractor = keras.Model(tower.inputs, pooled)

    @tf.function(reduce_retracing=True)
    def extract(images: tf.Tensor) -> list[tf.Tensor]:
        images = tf.cast(images, tf.float32) / 255
        views = [images, tf.reverse(images, axis=[2])][:num_views]
        return [tf.stack(each) for each in zip(*(extractor(view, training=False) for view in views), strict=True)]

    found: dict[str, list[np.ndarray]] = {name: [] for name in ("ids", "male", "bone_age_months", *POOLED)}
    with name_damage(data):
        for batch in read_records(data, split="train", input_size=input_size, batch_size=_BATCH_SIZE):
            found["ids"].append(np.array([id.decode() for id in batch["id"].numpy()]))
            found["male"].append(batch["male"].numpy())
            found["bone_age_months"].append(batch["bone_age_months"].numpy())
            for name, values in zip(POOLED, extract(batch["image"]), strict=True):
                found[name].append(values.numpy().astype(np.float16))
    return {name: np.concatenate(parts, axis=1 if name in POOLED else 0) for name, parts in found.items()}
