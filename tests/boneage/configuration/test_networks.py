import inspect
import sys

import keras
import numpy as np
import pytest

from boneage.configuration import networks
from boneage.configuration.networks import (
    KERAS_NETWORKS,
    NETWORKS,
    get_network,
    layer_of_network,
    network_of_layer,
    register_backbone,
)
from boneage.configuration.training import TrainConfig


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(networks, "_registered", {})


def test_get_network_knows_every_model_of_keras():
    functions = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert {name.removeprefix("keras:") for name in KERAS_NETWORKS} == functions


@pytest.mark.parametrize("name", KERAS_NETWORKS)
def test_keras_networks_scale_as_keras_does(name):
    """Where `preprocess_input` changes nothing, the model does it: tests/boneage/models/test_exportable.py."""
    network = get_network(name)
    constructor = getattr(keras.applications, network.application.constructor)
    preprocess = sys.modules[constructor.__module__].preprocess_input
    grey = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None].repeat(3, axis=-1)
    expected = preprocess(grey * 255)
    if np.array_equal(expected, grey * 255):
        pytest.skip("the model itself scales its input")
    np.testing.assert_allclose(grey * np.float32(network.scale) + np.float32(network.offset), expected, atol=1e-4)


@pytest.mark.parametrize("name", [*NETWORKS, "keras:ConvNeXtTiny", "keras:VGG16"])
def test_network_of_layer_is_the_inverse(name):
    assert network_of_layer(layer_of_network(name)) == name
    assert ":" not in TrainConfig(network=name).backbone


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keras:ConvNextTiny", "Did you mean 'keras:ConvNeXtTiny'"),
        ("ConvNeXtTiny", "such as keras:ConvNeXtTiny.* Did you mean 'keras:ConvNeXtTiny'"),
        ("os:system", "register_backbone. Received: 'os:system'"),
    ],
)
def test_get_network_names_the_closest(name, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(network=name)


def test_register_backbone_makes_its_name_known():
    register_backbone("mine", lambda image: image, scale=2.0, offset=-1.0, min_input_size=16, head_units=(8,))
    assert TrainConfig(network="mine").hidden_units == (8,)
    assert (get_network("mine").scale, get_network("mine").offset) == (2.0, -1.0)


@pytest.mark.parametrize("name", ["resnet50", "a:b", "", "two words", "keras_VGG16"])
def test_register_backbone_refuses_names(name):
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        register_backbone(name, lambda image: image)
