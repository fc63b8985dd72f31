"""Save bundles, and load the Keras network of a bundle."""

import contextlib
import dataclasses
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime

from boneage.base.errors import BoneAgeError
from boneage.base.files import make_folder_beside, write_bytes
from boneage.base.garbage import collect_early
from boneage.bundles.bundle import (
    CARD_FILE,
    KERAS_FILE,
    ONNX_FILE,
    SEEN_FILE,
    WEIGHTS_FILE,
    BundleError,
    check_model,
    has_model,
    read_metadata,
)
from boneage.bundles.complete import complete_bundle
from boneage.bundles.seen import Hashes, encode_seen
from boneage.configuration.build import build
from boneage.configuration.training import TrainConfig
from boneage.models.build import build_network
from boneage.models.fused_batch_norm import assign_weights
from boneage.models.head import gelu
from boneage.models.shrink import Shrink

MAX_DIFFERENCE_MONTHS = 0.1
_NUM_PROBES = 4


def save_bundle(
    folder: str | Path, model: keras.Model, metadata: dict[str, Any], *, seen: Mapping[str, Hashes] | None = None
) -> Path:
    """Save a bundle; an existing bundle is replaced only once the new one is complete.

    Two processes must not save one bundle: lock it first, see `boneage.base.locks.lock_output`.

    Args:
        folder: The folder of the bundle.
        model: The network.
        metadata: Content of `metadata.json` in addition to the version and the checksums of the models.
        seen: Hashes of the radiographs that it has seen, see `boneage.bundles.seen` (default: unknown).

    Returns:
        The folder.

    Raises:
        BundleError: If the output of the network in ONNX differs from Keras.
    """
    folder = Path(folder)
    beside = make_folder_beside(folder)
    model.save(beside / KERAS_FILE)
    export_onnx(model, beside / ONNX_FILE)
    if seen:
        write_bytes(beside / SEEN_FILE, encode_seen(seen))
    return complete_bundle(beside, folder, metadata)


def copy_bundle(
    folder: str | Path, source: str | Path, *, seen: Mapping[str, Hashes] | None = None, **changes: Any
) -> Path:
    """Save a copy of a bundle with some metadata changed; it is locked by the caller, as for `save_bundle`.

    The copy of a packaged bundle contains the weights for training only if they are installed.

    Args:
        folder: The folder of the bundle.
        source: The bundle to copy.
        seen: Hashes of the radiographs that the copy has seen (default: those of the bundle).
        **changes: The changed metadata.

    Returns:
        The folder.
    """
    folder, source = Path(folder), Path(source)
    metadata = read_metadata(source)
    beside = make_folder_beside(folder)
    for name in metadata["sha256"]:
        if has_model(source, name):
            shutil.copyfile(check_model(source, metadata, name), beside / name)
    if seen:
        write_bytes(beside / SEEN_FILE, encode_seen(seen))
    if (source / CARD_FILE).exists():
        shutil.copyfile(source / CARD_FILE, beside / CARD_FILE)
    return complete_bundle(beside, folder, {**metadata, **changes})


def load_network(folder: str | Path) -> keras.Model:
    """Load the Keras network of a bundle, for training. No code from the bundle is executed.

    Raises:
        BundleError: If the bundle is damaged or contains no network for training.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    if WEIGHTS_FILE in metadata["sha256"]:
        return _build_from_weights(metadata, check_model(folder, metadata, WEIGHTS_FILE))
    if KERAS_FILE not in metadata["sha256"]:
        raise BundleError(
            f"{folder}: contains no {KERAS_FILE}, which training needs; use the `bundle` folder of a training run."
        )
    path = check_model(folder, metadata, KERAS_FILE)
    try:
        return load_keras_model(path)
    except TypeError as error:
        # Keras's message is a page with the whole configuration of the layer.
        raise BundleError(
            f"{path}: contains layers that are unknown here; register those of a backbone of your own first, by "
            "keras.saving.register_keras_serializable."
        ) from error


def load_keras_model(path: Path) -> keras.Model:
    """Load a saved network; no code in the file is executed.

    Raises:
        TypeError: If it contains layers of a class that is unknown here.
    """
    return keras.saving.load_model(path, custom_objects={"gelu": gelu}, compile=False, safe_mode=True)


def write_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a network of `boneage.models.build_model`, or of an ensemble of them, as an `.npz` file.

    Kernels are stored in half precision.
    """
    halved = (weight.astype(np.float16) if weight.ndim > 1 else weight for weight in model.get_weights())
    np.savez_compressed(path, **{f"{number:04d}": weight for number, weight in enumerate(halved)})


def convert_to_weights(folder: Path, path: Path) -> bool:
    """Write the weights of the Keras network of a bundle as `write_weights` does, if it can be built from them again.

    Args:
        folder: The bundle, which is whole.
        path: The `.npz` file.

    Returns:
        Whether the file is written. A network with a backbone of the user's own, and an ensemble of different networks,
        cannot be built from weights alone.
    """
    try:
        network = load_network(folder)
        write_weights(network, path)
        probes, expected = probe(network)
        rebuilt = _build_from_weights(read_metadata(folder), path)
        check_difference(np.asarray(rebuilt(probes, training=False)), expected, path=path)
    except (BoneAgeError, KeyError, TypeError, ValueError):
        path.unlink(missing_ok=True)
        return False
    return True


def _build_from_weights(metadata: dict[str, Any], path: Path) -> keras.Model:
    """Build the network of the metadata and load weights written by `write_weights`."""
    config = build(TrainConfig, metadata["experiment"]["train"], where=f"{path.parent} experiment")
    months = {f"target_{name}": value for name, value in metadata["target"].items()}
    sizes = [member.get("input_size", config.input_size) for member in metadata.get("members", ({},))]
    networks = [build_network(dataclasses.replace(config, input_size=size), **months) for size in sizes]
    with np.load(path, allow_pickle=False) as stored:
        weights = [stored[key].astype(np.float32) for key in sorted(stored.files)]
    num_weights = len(weights) // len(networks)
    for number, network in enumerate(networks):
        assign_weights(network, weights[number * num_weights : (number + 1) * num_weights])
    return average_networks(networks) if "members" in metadata else networks[0]


def average_networks(networks: Sequence[keras.Model]) -> keras.Model:
    """Combine networks with the same inputs into one network that predicts their mean.

    The networks may differ by the size of their image: the result takes the largest, and shrinks it for the others.

    Returns:
        The network; its nested models are named `member_1`, `member_2` ...
    """
    sizes = [_image_size(network) for network in networks]
    largest = max(sizes)
    tensors = networks[sizes.index(largest)].inputs
    inputs = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in tensors}
    image = inputs["image"]
    smaller = {size: Shrink(size, name=f"shrink_{size}")(image) for size in sorted(set(sizes) - {largest})}
    outputs = []
    for number, (network, size) in enumerate(zip(networks, sizes, strict=True), start=1):
        member = keras.Model(network.inputs, network.outputs[0], name=f"member_{number}")
        given = {**inputs, "image": smaller.get(size, image)}
        outputs.append(member([given[tensor.name] for tensor in network.inputs]))
    return keras.Model(inputs, keras.layers.Average(name="mean")(outputs), name="ensemble")


def list_members(network: keras.Model, metadata: dict[str, Any]) -> list[keras.Model]:
    """Return the networks that an ensemble averages, or the network itself."""
    if "members" not in metadata:
        return [network]
    return [network.get_layer(f"member_{number}") for number in range(1, len(metadata["members"]) + 1)]


def _image_size(network: keras.Model) -> int:
    return next(int(tensor.shape[1]) for tensor in network.inputs if tensor.name == "image")


def export_onnx(model: keras.Model, path: Path) -> float:
    """Export a network to ONNX, and compare its output on random images with Keras.

    Args:
        model: The network.
        path: The ONNX file.

    Returns:
        The largest difference, in months (in probability for sex classification).

    Raises:
        BundleError: If the difference is above 0.1.
    """
    probes, expected = probe(model)  # Keras can only export a model that was called
    with _silence(), collect_early():  # tf2onnx copies the network, weights included, dozens of times
        model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return check_difference(session.run(None, probes)[0], expected, path=path)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Show nothing of an export: skipped optimisations are logged, and what cannot be converted fails anyway."""
    levels = {log: log.level for log in map(logging.getLogger, ("tf2onnx", "tensorflow"))}
    try:
        for log in levels:
            log.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Keras 3.15 asks NumPy for `np.object`: no user can change it.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def probe(model: keras.Model) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run a network on a few random images.

    Returns:
        The inputs by name, float32, and the output, float32 `(probes, 1)`.
    """
    rng = np.random.default_rng(0)
    probes = {tensor.name: rng.random((_NUM_PROBES, *tensor.shape[1:]), np.float32) for tensor in model.inputs}
    return probes, np.asarray(model(probes, training=False))


def check_difference(output: np.ndarray, expected: np.ndarray, *, path: Path) -> float:
    """Return the largest difference between the output of an exported network and that in Keras.

    Args:
        output: Output of the exported network, shape `(probes, 1)`.
        expected: Output in Keras, same shape.
        path: The exported file, for the error message.

    Raises:
        BundleError: If the difference is above 0.1.
    """
    difference = float(np.abs(output - expected).max())
    if not difference <= MAX_DIFFERENCE_MONTHS:
        raise BundleError(
            f"{path}: output differs from Keras by {difference:.2f} months "
            f"(limit {MAX_DIFFERENCE_MONTHS}); export discarded."
        )
    return difference
