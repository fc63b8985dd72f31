import keras
import pytest

from boneage.bundles.bundle import BundleError, read_metadata
from boneage.bundles.export_check import check_exportable
from boneage.bundles.save import load_network
from boneage.configuration import networks
from boneage.configuration.networks import register_backbone
from boneage.configuration.training import TrainConfig
from boneage.training.initialise import initialise
from boneage.training.train import train


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(networks, "_registered", {})


def tiny(image):
    x = keras.layers.Conv2D(8, 5, strides=4, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.layers.Conv2D(8, 3, groups=8, padding="same", activation="gelu", name="depthwise")(x)


class Unknown(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2


def test_check_exportable_trusts_the_networks_of_the_package(monkeypatch):
    monkeypatch.delattr("boneage.bundles.export_check.build_network")
    check_exportable(TrainConfig(init="none"))


def test_check_exportable_takes_a_function_of_layers():
    register_backbone("tiny", tiny)
    check_exportable(TrainConfig(network="tiny", init="none", head_units=(4,)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: keras.layers.Conv2D(8, 3, groups=4, name="conv")(keras.layers.Conv2D(8, 3)(image)), "ONNX"),
        (lambda image: Unknown()(image), "cannot be saved and exported"),
    ],
)
def test_check_exportable_names_what_fails_in_one_line(function, message):
    register_backbone("mine", function)
    with pytest.raises(BundleError, match=f"^network 'mine': .*{message}") as raised:
        check_exportable(TrainConfig(network="mine", init="none"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_check_exportable_wants_a_feature_map():
    register_backbone("mine", lambda image: image[:, 0])
    with pytest.raises(ValueError, match=r"must return a feature map .* Received: shape \(None, 32, 3\)"):
        check_exportable(TrainConfig(network="mine", init="none"))


def test_train_checks_the_export_before_anything_is_written(prepared, tmp_path):
    register_backbone("mine", lambda image: Unknown()(image))
    with pytest.raises(BundleError, match="choose another network"):
        train(
            "default",
            data=prepared.folder,
            run=tmp_path / "run",
            tracking_uri="none",
            overrides=["network=mine", "init=none"],
        )
    assert not (tmp_path / "run").exists()


def test_train_with_a_registered_backbone(prepared, tmp_path):
    register_backbone("tiny", tiny, scale=2.0, offset=-1.0)
    settings = ["network=tiny", "input_size=32", "epochs=1", "warmup_epochs=0", "batch_size=8", "head_units=[4]"]
    options = {"data": prepared.folder, "tracking_uri": "none"}
    made = train("default", run=tmp_path / "run", overrides=[*settings, "init=none"], **options)
    assert read_metadata(made.bundle)["network"] == "tiny"
    tuned = train("default", run=tmp_path / "tuned", overrides=[*settings, f"init={made.bundle}"], **options)
    assert load_network(tuned.bundle).get_layer("tiny").get_layer("depthwise").depth_multiplier == 1
    with pytest.raises(ValueError, match="must not be 'imagenet' for the registered backbone 'tiny'"):
        initialise(load_network(made.bundle), "imagenet")
