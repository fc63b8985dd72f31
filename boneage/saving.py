"""Saving bundles, and getting the Keras network back from one."""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime

from boneage.bundle import (
    BUNDLE_VERSION,
    KERAS_FILE,
    METADATA_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    BundleError,
    check_model,
    find_bundle,
    load_bundle,
    read_metadata,
    seal,
)
from boneage.config import TrainConfig, build
from boneage.models.fused import assign_weights
from boneage.models.head import gelu
from tfrecords.write import write_json

CARD_FILE = "README.md"
INTENDED_USE = "Research. Not a medical device: no diagnosis or treatment may rest on its output."
MAX_DIFFERENCE_MONTHS = 0.1
_NUM_PROBES = 4


def save_bundle(folder: str | Path, model: keras.Model, metadata: dict[str, Any]) -> Path:
    """Save a bundle; an older one in its place stays whole until the new one is complete.

    Args:
        folder: Where it goes.
        model: The network.
        metadata: What `metadata.json` tells beside the version and the models' hashes.

    Returns:
        The folder.

    Raises:
        BundleError: If the network as ONNX answers otherwise than in Keras.
    """
    folder = Path(folder)
    beside = _make_beside(folder)
    model.save(beside / KERAS_FILE)
    export_onnx(model, beside / ONNX_FILE)
    return complete_bundle(beside, folder, metadata)


def copy_bundle(folder: str | Path, source: str | Path, **changes: Any) -> Path:
    """Save a copy of a bundle with some metadata changed.

    Args:
        folder: Where it goes.
        source: The bundle.
        **changes: The metadata that differ.

    Returns:
        The folder.
    """
    folder, source = Path(folder), find_bundle(source)
    metadata = read_metadata(source)
    beside = _make_beside(folder)
    for name in metadata["sha256"]:
        shutil.copyfile(check_model(source, metadata, name), beside / name)
    if (source / CARD_FILE).exists():
        shutil.copyfile(source / CARD_FILE, beside / CARD_FILE)
    return complete_bundle(beside, folder, {**metadata, **changes})


def _make_beside(folder: Path) -> Path:
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def complete_bundle(beside: Path, folder: Path, metadata: dict[str, Any]) -> Path:
    """Write the metadata of the models in a folder, prove that it loads, and put it in its place.

    Args:
        beside: Folder with `model.onnx` and, to be trained on, `model.keras` or `weights.npz`; it is renamed.
        folder: Where it goes.
        metadata: What `metadata.json` tells beside the version and the models' hashes.

    Returns:
        The folder.
    """
    models = [beside / name for name in (ONNX_FILE, KERAS_FILE, WEIGHTS_FILE) if (beside / name).exists()]
    own = {
        "bundle_version": BUNDLE_VERSION,
        "boneage_version": importlib.metadata.version("boneage"),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in models},
        "value_range": [0.0, 1.0],
        "unit": "months",
        "intended_use": INTENDED_USE,
    }
    sealed = {**metadata, **own}
    write_json(beside / METADATA_FILE, {**sealed, "seal": seal(sealed)})
    load_bundle(beside)
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        os.replace(folder, old)
        os.replace(beside, folder)
        shutil.rmtree(old)
    else:
        os.replace(beside, folder)
    return folder


def load_network(folder: str | Path) -> keras.Model:
    """Load the Keras network of a bundle, to train on; no code from the bundle is run.

    Raises:
        BundleError: If the bundle is damaged, or carries no network to train on.
    """
    folder = find_bundle(folder)
    metadata = read_metadata(folder)
    if WEIGHTS_FILE in metadata["sha256"]:
        return _build_from_weights(metadata, check_model(folder, metadata, WEIGHTS_FILE))
    if KERAS_FILE not in metadata["sha256"]:
        raise BundleError(f"{folder}: holds no {KERAS_FILE} to train on; name the `bundle` folder of a training run.")
    path = check_model(folder, metadata, KERAS_FILE)
    return keras.saving.load_model(path, custom_objects={"gelu": gelu}, compile=False, safe_mode=True)


def write_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a network of `boneage.models.build_model`, or of several alike that are joined.

    Kernels are written in half precision, as an `.npz` file.
    """
    halved = (weight.astype(np.float16) if weight.ndim > 1 else weight for weight in model.get_weights())
    np.savez_compressed(path, **{f"{number:04d}": weight for number, weight in enumerate(halved)})


def _build_from_weights(metadata: dict[str, Any], path: Path) -> keras.Model:
    """Build the network that the metadata describe and fill it with weights that `write_weights` wrote."""
    # Imported here, since building may in turn begin from a bundle.
    from boneage.models import build_network

    config = build(TrainConfig, metadata["experiment"]["train"], where=f"{path.parent} experiment")
    months = {f"target_{name}": value for name, value in metadata["target"].items()}
    networks = [build_network(config, init="none", **months) for _ in metadata.get("members", (None,))]
    with np.load(path, allow_pickle=False) as stored:
        weights = [stored[key].astype(np.float32) for key in sorted(stored.files)]
    each = len(weights) // len(networks)
    for number, network in enumerate(networks):
        assign_weights(network, weights[number * each : (number + 1) * each])
    return join_networks(networks) if "members" in metadata else networks[0]


def join_networks(networks: Sequence[keras.Model]) -> keras.Model:
    """Join networks that take the same inputs into one that answers with the mean of theirs.

    Returns:
        The network; its layers `member_1` and so on are the networks.
    """
    inputs = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in networks[0].inputs}
    answers = []
    for number, network in enumerate(networks, start=1):
        member = keras.Model(network.inputs, network.outputs[0], name=f"member_{number}")
        answers.append(member([inputs[tensor.name] for tensor in network.inputs]))
    return keras.Model(inputs, keras.layers.Average(name="mean")(answers), name="ensemble")


def export_onnx(model: keras.Model, path: Path) -> float:
    """Write a bone-age network as ONNX, and compare what it answers to random images.

    Args:
        model: The network.
        path: The file.

    Returns:
        The largest difference, in months.

    Raises:
        BundleError: If it is above 0.1 months.
    """
    probes, expected = probe(model)  # Keras exports only what was called
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return check_difference(session.run(None, probes)[0], expected, path=path)


def probe(model: keras.Model) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ask a network about a few random images.

    Returns:
        Its inputs by their names, float32, and what it answers, float32 `(probes, 1)`.
    """
    rng = np.random.default_rng(0)
    probes = {tensor.name: rng.random((_NUM_PROBES, *tensor.shape[1:]), np.float32) for tensor in model.inputs}
    return probes, np.asarray(model(probes, training=False))


def check_difference(answers: np.ndarray, expected: np.ndarray, *, path: Path) -> float:
    """Return the largest difference between what a written network answers and what it does in Keras, in months.

    Raises:
        BundleError: If it is above 0.1 months.
    """
    difference = float(np.abs(answers - expected).max())
    if not difference <= MAX_DIFFERENCE_MONTHS:
        raise BundleError(
            f"{path}: answers {difference:.2f} months off what the network does in Keras; it is of no use."
        )
    return difference
