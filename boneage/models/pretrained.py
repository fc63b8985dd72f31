"""Fill a network with weights that were trained before: on ImageNet, or by an earlier run."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from boneage.bundle import read_metadata
from boneage.models.fused import assign_weights
from boneage.models.networks import NETWORKS, Application
from boneage.saving import load_network
from tfrecords.errors import BoneAgeError

LITE0_WEIGHTS = Path(__file__).parent / "weights" / "efficientnet_lite0_imagenet.npz"
WEIGHTS_SUFFIXES = (".weights.h5", ".keras")


class WeightsUnavailable(BoneAgeError):
    """A weights file is missing, damaged, or could not be downloaded."""


def load_imagenet_weights(tower: keras.Model) -> None:
    """Fill a tower with ImageNet weights, downloading them on first use unless boneage ships them.

    Args:
        tower: The tower of `build_model`, named like its network.

    Raises:
        WeightsUnavailable: If the download fails; the message names the file to fetch and where to put it.
    """
    application = NETWORKS[tower.name].application
    if application is None:
        _assign_arrays(tower, path=LITE0_WEIGHTS)
    else:
        tower.load_weights(_download(application))


def load_weights_file(model: keras.Model, *, path: Path) -> None:
    """Fill a whole model with weights saved from the same network. No code in the file is run.

    Args:
        model: A model of `build_model`.
        path: A `.weights.h5` file, or a `.keras` file, of which only the weights are read.

    Raises:
        WeightsUnavailable: If there is no such file, or it cannot be read.
        ValueError: If the weights in it are those of another network.
    """
    if not path.is_file():
        raise WeightsUnavailable(f"Weights file {path} does not exist. Check the path given as `init`.")
    try:
        with warnings.catch_warnings():
            # Of another network's file Keras warns once for each layer, before it raises for all of them.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            model.load_weights(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsUnavailable(
            f"Weights file {path} is damaged or of another kind. Save or copy it again."
        ) from error
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Weights file {path} does not fit `{model.name}`. "
            "Build the model with the same name, use_sex and head_units as the one that was saved."
        ) from error


def take_over_bundle(model: keras.Model, *, tower: str, folder: Path) -> None:
    """Fill the tower with the weights of a bundle, and the head too where all of its layers are alike.

    A head that is taken over keeps the mean and standard deviation by which the bundle's turns into months. Of an
    ensemble the first member is taken.

    Args:
        model: A model of `build_model`.
        tower: Name of its tower.
        folder: The bundle.

    Raises:
        BundleError: If the bundle is missing, damaged or changed.
        ValueError: If it is of another network.
    """
    metadata = read_metadata(folder)
    network = metadata.get("members", (metadata,))[0]["network"]
    if network != tower:
        raise ValueError(f"`init` {folder} is a bundle of {network}. Received: network={tower!r}.")
    theirs = load_network(folder)
    if "members" in metadata:
        theirs = theirs.get_layer("member_1")
    assign_weights(model.get_layer(tower), theirs.get_layer(tower).get_weights())
    if _describe_head(model, tower=tower) == _describe_head(theirs, tower=tower):
        assign_weights(model, theirs.get_weights())
        for mine in model.layers:
            if isinstance(mine, keras.layers.Rescaling):
                other = theirs.get_layer(mine.name)
                mine.scale, mine.offset = other.scale, other.offset


def _describe_head(model: keras.Model, *, tower: str) -> list[tuple[Any, ...]]:
    """Tell the layers around the tower apart by name, kind, activation and the shapes of their weights.

    Dropout is left out: how a head was trained does not change what it is.
    """
    return [
        (layer.name, type(layer).__name__, layer.get_config().get("activation"), [each.shape for each in layer.weights])
        for layer in model.layers
        if layer.name != tower and not isinstance(layer, keras.layers.Dropout)
    ]


def _assign_arrays(tower: keras.Model, *, path: Path) -> None:
    """Assign the arrays of an `.npz` file, keyed `<layer>/<weight>`, to the weights of the tower."""
    variables = {f"{layer.name}/{weight.name}": weight for layer in tower.layers for weight in layer.weights}
    with np.load(path, allow_pickle=False) as arrays:
        if different := variables.keys() ^ set(arrays.files):
            raise ValueError(f"{path} must hold the weights of {tower.name}. Received different: {sorted(different)}.")
        for key, variable in variables.items():
            variable.assign(arrays[key].astype(np.float32))


def _download(application: Application) -> str:
    """Return the path of the weights file, which is downloaded unless it is there already."""
    url, md5 = application.weights_url, application.weights_md5
    folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")).resolve() / "models"
    try:
        return keras.utils.get_file(origin=url, cache_subdir=str(folder), file_hash=md5)
    except Exception as error:
        # get_file raises the bare class when the server cannot be reached, ValueError when the MD5 differs.
        if not isinstance(error, (OSError, ValueError)) and "URL fetch failure" not in str(error):
            raise
        raise WeightsUnavailable(
            f"ImageNet weights of {application.constructor} are not available ({error}). "
            f"Download {url} (MD5 {md5}) and put it into {folder}, or build with init='none'."
        ) from error
