"""Check before a training that its network can be exported: hours of training must not end without a bundle."""

import dataclasses
import tempfile
from pathlib import Path

import keras

from boneage.bundles.bundle import KERAS_FILE, ONNX_FILE, BundleError
from boneage.bundles.save import check_difference, export_onnx, load_keras_model, probe
from boneage.configuration.networks import NETWORKS, get_network
from boneage.configuration.training import TrainConfig
from boneage.models.build import build_network

# About those of the RSNA data, so that differences are in months.
_TARGET_MONTHS = {"target_mean_months": 127.0, "target_std_months": 41.0}


def check_exportable(config: TrainConfig) -> None:
    """Save and export a network with random weights and the smallest input, and compare the outputs.

    The package's own networks are tested with it and not checked again.

    Args:
        config: The table `[train]` of the experiment.

    Raises:
        BundleError: If the network cannot be saved, loaded or exported, or an output differs by more than 0.1 months.
    """
    if config.network in NETWORKS:
        return
    small = dataclasses.replace(config, input_size=get_network(config.network).min_input_size)
    model = build_network(small, **_TARGET_MONTHS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(model, Path(folder) / ONNX_FILE)
            path = Path(folder) / KERAS_FILE
            model.save(path)
            probes, expected = probe(model)
            check_difference(keras.ops.convert_to_numpy(load_keras_model(path)(probes)), expected, path=path)
    except Exception as error:  # of Keras, tf2onnx or ONNX Runtime: any may fail on a layer in its own way
        reason = " ".join(str(error).split())[:300]
        raise BundleError(
            f"network {config.network!r}: cannot be saved and exported to ONNX, which predictions need "
            f"({type(error).__name__}: {reason}); choose another network or replace its layers."
        ) from error
