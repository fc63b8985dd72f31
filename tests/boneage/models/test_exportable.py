import keras
import numpy as np
import pytest

from boneage.bundles.save import export_onnx, load_keras_model
from boneage.configuration.networks import Application
from boneage.models.build import build_application, build_model
from boneage.models.exportable import make_exportable
from boneage.models.fused_batch_norm import fuse_batch_norm
from boneage.models.head import gelu
from boneage.training import initialise as initialising
from boneage.training.initialise import initialise

SLOW = ("EfficientNetV2B0", "EfficientNetB0", "DenseNet121")
LARGE = ("ConvNeXtTiny", "EfficientNetV2S", "ResNet50V2")


def randomise(model):
    """Give every weight a value that shows: as initialised, many are 0, 1 or 1e-6."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32":
            near_one = "variance" in weight.name or "gamma" in weight.name
            scale = 0.5 / max(1, np.prod(weight.shape[:-1])) ** 0.5
            weight.assign(rng.normal(0, scale, weight.shape) if not near_one else rng.uniform(0.5, 1.5, weight.shape))


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
        *(pytest.param(name, marks=pytest.mark.release) for name in LARGE),
    ],
)
def test_make_exportable_of_keras_applications(name, tmp_path, monkeypatch):
    """ImageNet weights give the features of the original, and the network is trained, saved and exported."""
    source = build_application(Application(name), weights=None, input_shape=(64, 64, 3))
    randomise(source)
    monkeypatch.setattr(initialising, "_load_application", lambda _: source)
    model = build_model(f"keras:{name}", input_size=64, head_units=(4,))
    initialise(model, "imagenet")

    image = np.random.default_rng(1).random((2, 64, 64, 1), np.float32)
    original = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    if name == "EfficientNetB0":  # with ImageNet weights it has one more layer, which the rescaling stands for
        original = source
    else:
        original.set_weights(source.get_weights())
    preprocess = keras.applications.densenet.preprocess_input if name.startswith("DenseNet") else lambda rgb: rgb
    if name.startswith("ResNet"):
        preprocess = keras.applications.resnet_v2.preprocess_input
    rgb = preprocess(np.repeat(image * 255, 3, axis=-1))
    if name == "EfficientNetB0":
        rgb = model.layers[1].get_layer("rescale")(np.repeat(image, 3, axis=-1))
    expected = np.asarray(original(rgb, training=False))
    assert expected.std() > 1e-6
    np.testing.assert_allclose(model.layers[1](image, training=False), expected, rtol=1e-3, atol=1e-4 * expected.std())

    inputs = {"image": image, "male": np.ones((2, 1), np.float32)}
    trained = fuse_batch_norm(model)
    np.testing.assert_allclose(trained(inputs, training=False), model(inputs, training=False), rtol=1e-4, atol=1e-3)
    assert export_onnx(model, tmp_path / "model.onnx") < 0.01
    model.save(tmp_path / "model.keras")
    loaded = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs, training=False), model(inputs, training=False), rtol=1e-5, atol=1e-4)


def block(*, size=32):
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Normalization(mean=0.5, variance=0.1, name="fixed")(image)
    x = keras.layers.Normalization(name="adapted")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="gelu", name="stem")(x)
    x = keras.layers.Conv2D(8, 5, padding="same", groups=8, name="depthwise")(x)
    return keras.Model(image, keras.layers.Activation("gelu", name="gelu")(x), name="backbone")


def test_make_exportable_replaces_layers_by_equal_ones(tmp_path):
    backbone = block()
    randomise(backbone)
    backbone.get_layer("adapted").finalize_state()  # as keras does after loading
    replaced = make_exportable(backbone)
    assert isinstance(replaced.get_layer("depthwise"), keras.layers.DepthwiseConv2D)
    assert {replaced.get_layer(name).activation for name in ("stem", "gelu")} == {gelu}
    assert [layer.name for layer in replaced.layers] == [layer.name for layer in backbone.layers]
    image = np.random.default_rng(1).random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(replaced(image), backbone(image), rtol=1e-4, atol=1e-5)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(replaced.output)
    assert export_onnx(keras.Model({"image": replaced.input}, pooled), tmp_path / "model.onnx") < 1e-4


def test_make_exportable_leaves_other_backbones_alone():
    image = keras.Input((8, 8, 3), name="image")
    backbone = keras.Model(image, keras.layers.Conv2D(4, 3, groups=1, activation="relu", name="conv")(image))
    assert make_exportable(backbone) is backbone
