"""Initialise a network with pretrained weights: from ImageNet, a bundle or a weights file."""

import dataclasses
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from boneage.base.errors import BoneAgeError
from boneage.base.files import restore_folder
from boneage.base.training_weights import require_training_weights
from boneage.bundles.bundle import read_metadata
from boneage.bundles.save import list_members, load_network
from boneage.configuration.experiment import Experiment
from boneage.configuration.networks import Application, get_network, layer_of_network, network_of_layer
from boneage.models.build import build_application
from boneage.models.fused_batch_norm import assign_weights
from boneage.registry.resolve import names_bundle, pin_bundle, resolve_bundle

LITE0_WEIGHTS = Path(__file__).parents[1] / "models" / "weights" / "efficientnet_lite0_imagenet.npz"
WEIGHTS_SUFFIXES = (".weights.h5", ".keras")


class WeightsUnavailableError(BoneAgeError):
    """A weights file is missing or damaged, or its download failed."""


def initialise(model: keras.Model, init: str | Path) -> keras.Model:
    """Initialise a network with pretrained weights. No code in a file or a bundle is executed.

    Args:
        model: A model of `boneage.models.build.build_model`.
        init: `"imagenet"`: ImageNet weights for the backbone, packaged for `"efficientnet_lite0"` and downloaded once
            for the other networks, also those of `keras.applications`. `"none"`: random weights. The path of a
            `.weights.h5` or `.keras` file of the same network: all weights. A bundle of the same network, see
            `boneage.registry.resolve.resolve_bundle`: the weights of the backbone and, if its layers are the same, of
            the head, which then keeps the bundle's target mean and standard deviation.

    Returns:
        The same model.

    Raises:
        ValueError: If `init` is none of these, or the weights file or bundle is for a different network.
        WeightsUnavailableError: If the weights file is missing or damaged, or the download fails.
        BundleError: If the bundle is missing, damaged or changed.
        TrainingWeightsError: If packaged weights are not installed.
    """
    restore_folder(Path(init))
    if init == "imagenet":
        load_imagenet_weights(_backbone_of(model))
    elif str(init).endswith(WEIGHTS_SUFFIXES):
        load_weights_file(model, path=Path(init))
    elif names_bundle(init):
        load_bundle_weights(model, backbone=_backbone_of(model).name, folder=resolve_bundle(init))
    elif init != "none":
        raise ValueError(
            f"`init` must be 'imagenet', 'none', 'default', the folder of a bundle, or a path that ends in "
            f"{' or '.join(WEIGHTS_SUFFIXES)}. Received: init={str(init)!r}."
        )
    return model


def pin_init(experiment: Experiment) -> Experiment:
    """Name the commit of initial weights that a branch or a tag on the hub names: it may move during a training.

    Raises:
        BoneAgeError: If they cannot be downloaded.
    """
    init = pin_bundle(experiment.train.init)
    return dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, init=init))


def find_inherited_licence(init: str) -> str | None:
    """Return the licence of the weights that a training starts from, which is that of its bundle too.

    Raises:
        BundleError: If the bundle that `init` names is damaged.
    """
    if not names_bundle(init):
        return None
    licence: str | None = read_metadata(resolve_bundle(init)).get("licence")
    return licence


def _backbone_of(model: keras.Model) -> keras.Model:
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def load_imagenet_weights(backbone: keras.Model) -> None:
    """Load ImageNet weights into a backbone; they are packaged, or downloaded on first use.

    Args:
        backbone: The backbone of `build_model`, whose name tells its network.

    Raises:
        WeightsUnavailableError: If the download fails; the message contains the URL and the target folder.
        TrainingWeightsError: If it is `"efficientnet_lite0"` and its weights are not installed.
        ValueError: If it is a backbone of `boneage.register_backbone`.
    """
    network = get_network(network_of_layer(backbone.name))
    if network.function is not None:
        raise ValueError(
            f"`init` must not be 'imagenet' for the registered backbone {backbone.name!r}: its function can load "
            "weights of its own, which init='none' leaves as they are. Received: init='imagenet'."
        )
    if network.application is None:
        _assign_arrays(backbone, path=require_training_weights(LITE0_WEIGHTS))
    elif network.application.weights_url:
        backbone.load_weights(_download(network.application))
    else:
        _copy_weights(backbone, _load_application(network.application))


def load_weights_file(model: keras.Model, *, path: Path) -> None:
    """Load all weights of a model from a file of the same network. No code in the file is executed.

    Args:
        model: A model of `build_model`.
        path: A `.weights.h5` file, or a `.keras` file, from which only the weights are read.

    Raises:
        WeightsUnavailableError: If the file is missing or damaged.
        ValueError: If the weights are for a different network.
    """
    if not path.is_file():
        raise WeightsUnavailableError(f"Weights file {path} does not exist. Check the path given as `init`.")
    try:
        with warnings.catch_warnings():
            # For a file of a different network Keras warns for every layer before it raises an error.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            model.load_weights(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsUnavailableError(
            f"Weights file {path} is damaged or not a weights file. Save or copy it again."
        ) from error
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Weights file {path} does not fit `{model.name}`. "
            "Build the model with the same name, use_sex and head_units as the one that was saved."
        ) from error


def load_bundle_weights(model: keras.Model, *, backbone: str, folder: Path) -> None:
    """Load the weights of a bundle into the backbone, and into the head if all its layers are the same.

    An initialised head keeps the bundle's target mean and standard deviation. For an ensemble the first member is used.

    Args:
        model: A model of `build_model`.
        backbone: Name of its backbone.
        folder: The bundle.

    Raises:
        BundleError: If the bundle is missing, damaged or changed.
        ValueError: If it is for a different network.
    """
    metadata = read_metadata(folder)
    network = metadata.get("members", (metadata,))[0]["network"]
    if layer_of_network(network) != backbone:
        raise ValueError(f"`init` {folder} is a bundle of {network}. Received: network={network_of_layer(backbone)!r}.")
    theirs = list_members(load_network(folder), metadata)[0]
    assign_weights(model.get_layer(backbone), theirs.get_layer(backbone).get_weights())
    if _describe_head(model, backbone=backbone) == _describe_head(theirs, backbone=backbone):
        assign_weights(model, theirs.get_weights())
        for mine in model.layers:
            if isinstance(mine, keras.layers.Rescaling):
                other = theirs.get_layer(mine.name)
                mine.scale, mine.offset = other.scale, other.offset


def _describe_head(model: keras.Model, *, backbone: str) -> list[tuple[Any, ...]]:
    """Describe the layers of the head by name, class, activation and weight shapes.

    Dropout is left out: it has no effect on predictions.
    """
    return [
        (
            layer.name,
            type(layer).__name__,
            layer.get_config().get("activation"),
            [weight.shape for weight in layer.weights],
        )
        for layer in model.layers
        if layer.name != backbone and not isinstance(layer, keras.layers.Dropout)
    ]


def _assign_arrays(backbone: keras.Model, *, path: Path) -> None:
    """Load the weights of the backbone from an `.npz` file with the keys `<layer>/<weight>`."""
    variables = {f"{layer.name}/{weight.name}": weight for layer in backbone.layers for weight in layer.weights}
    with np.load(path, allow_pickle=False) as arrays:
        if different := variables.keys() ^ set(arrays.files):
            raise ValueError(
                f"{path} must contain the weights of {backbone.name}. "
                f"Received {len(different)} missing or unknown weights, such as {min(different)}."
            )
        for key, variable in variables.items():
            variable.assign(arrays[key].astype(np.float32))


def _download(application: Application) -> str:
    """Return the path of the weights file, which is downloaded if it does not exist."""
    url, md5, folder = application.weights_url, application.weights_md5, _keras_folder()
    try:
        return str(keras.utils.get_file(origin=url, cache_subdir=str(folder), file_hash=md5))
    except Exception as error:
        # get_file raises a bare `Exception` if the server is unreachable, ValueError if the MD5 differs.
        if not isinstance(error, (OSError, ValueError)) and "URL fetch failure" not in str(error):
            raise
        raise WeightsUnavailableError(
            f"ImageNet weights of {application.constructor} are unavailable ({error}). "
            f"Download {url} (MD5 {md5}) to {folder}, or set init='none'."
        ) from error


def _load_application(application: Application) -> keras.Model:
    """Build a model of `keras.applications` with its ImageNet weights, which it downloads if they do not exist."""
    try:
        with warnings.catch_warnings():
            # MobileNets have weights of several input sizes; those of the default size suit any.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            return build_application(application, weights="imagenet")
    except Exception as error:
        url = re.search(r"URL fetch failure on (\S+):", str(error))
        if not isinstance(error, OSError) and not url:
            raise
        what = f"Download {url[1]} to {_keras_folder()}" if url else f"Check the folder {_keras_folder()}"
        # The only files that Keras stores by another name than that of their URL.
        if url and "NASNet" in url[1]:
            what += f" as {Path(url[1]).stem.lower().replace('-', '_')}.h5"
        raise WeightsUnavailableError(
            f"ImageNet weights of {application.constructor} are unavailable ({error}). {what}, or set init='none'."
        ) from error


def _copy_weights(backbone: keras.Model, source: keras.Model) -> None:
    """Copy weights in their order; those of a replaced depthwise convolution have another shape."""
    pairs = zip(source.get_weights(), backbone.weights, strict=True)
    assign_weights(backbone, [value.reshape(weight.shape) for value, weight in pairs])


def _keras_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")).resolve() / "models"
