import sys

import keras
import numpy as np
import pytest

from boneage.bundles.bundle import DEFAULT_BUNDLE, BundleError
from boneage.bundles.export import ExportError, export
from boneage.bundles.save import load_network, save_bundle
from boneage.cli.main import main
from boneage.configuration.training import ACTIVATIONS
from boneage.models.head import add_bone_age_output, add_distribution_output, add_hidden_layers, add_pooling


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    inputs = {"image": keras.Input((32, 32, 1), name="image"), "male": keras.Input((1,), name="male")}
    keras.utils.set_random_seed(0)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs["image"])
    x = keras.layers.Concatenate(name="join")([keras.layers.GlobalAveragePooling2D(name="pool")(x), inputs["male"]])
    x = keras.layers.Rescaling(40.0, 120.0, name="months")(keras.layers.Dense(1, name="dense")(x))
    metadata = {"task": "age", "input_size": 32, "use_sex": True, "tta": "none", "fingerprint": "0" * 16}
    return save_bundle(tmp_path_factory.mktemp("run") / "bundle", keras.Model(inputs, x), metadata)


@pytest.mark.parametrize(("format", "name"), [("onnx", "a.onnx"), ("saved_model", "a"), ("tflite", "a.tflite")])
def test_a_written_network_answers_as_in_keras(format, name, bundle, tmp_path):
    out = tmp_path / "new" / name
    assert export(bundle, out=out, format=format) < 0.01
    assert [path.name for path in out.parent.iterdir()] == [name]
    with pytest.raises(ExportError, match="already exists"):
        export(bundle, out=out, format=format)


@pytest.mark.parametrize(
    ("activation", "pooling", "output"),
    [*((activation, "both", "regression") for activation in ACTIVATIONS), ("relu", "gem", "distribution")],
)
def test_every_head_is_saved_and_written(activation, pooling, output, tmp_path):
    image, male = keras.Input((16, 16, 1), name="image"), keras.Input((1,), name="male")
    pooled = add_pooling(keras.layers.Conv2D(4, 3, name="conv")(image), pooling)
    head = {"head_units": (5,), "dropout": 0.1, "sex_units": 3, "sex_joins": "after"}
    x = add_hidden_layers(pooled, male, activation=activation, **head)
    is_regression = output == "regression"
    x = add_bone_age_output(x, mean_months=120.0, std_months=40.0) if is_regression else add_distribution_output(x)
    model = keras.Model({"image": image, "male": male}, x)
    metadata = {"task": "age", "input_size": 16, "use_sex": True, "tta": "none", "fingerprint": "0" * 16}
    folder = save_bundle(tmp_path / "bundle", model, metadata)
    for format in ("onnx", "tflite"):
        assert export(folder, out=tmp_path / f"a.{format}", format=format) < 0.01
    inputs = {"image": np.random.default_rng(0).random((2, 16, 16, 1), np.float32), "male": np.float32([[0], [1]])}
    np.testing.assert_allclose(load_network(folder)(inputs), model(inputs), rtol=1e-6)
    values = np.linspace(-4, 4, 9, dtype=np.float32)
    expected = keras.activations.get(activation)(values)
    np.testing.assert_allclose(model.get_layer("head_1").activation(values), expected, atol=1e-6)


@pytest.mark.slow
def test_openvino_where_it_is_installed(tmp_path):
    """The packaged network: a shallow one does not show what half precision would cost."""
    pytest.importorskip("openvino", reason="needs openvino")
    assert export(DEFAULT_BUNDLE, out=tmp_path / "a.xml", format="openvino") < 0.001
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]


def test_openvino_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match="pip install openvino"):
        export(DEFAULT_BUNDLE, out=tmp_path / "a.xml", format="openvino")


def test_a_network_that_answers_otherwise_is_not_written(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("boneage.bundles.save.MAX_DIFFERENCE_MONTHS", -1.0)
    with pytest.raises(BundleError, match="output differs from Keras by"):
        export(bundle, out=tmp_path / "a.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_tells_the_difference(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["boneage", "export", str(bundle), "--out", str(tmp_path / "a.onnx")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "largest difference from Keras: 0.0000" in capsys.readouterr().out


def test_an_unknown_format_is_named(bundle, tmp_path):
    with pytest.raises(ValueError, match="'onnx'"):
        export(bundle, out=tmp_path / "a", format="onxx")


def test_saved_models_take_batches(bundle, tmp_path):
    tf = pytest.importorskip("tensorflow")
    export(bundle, out=tmp_path / "a", format="saved_model")
    inputs = {"image": np.zeros((3, 32, 32, 1), np.float32), "male": np.ones((3, 1), np.float32)}
    loaded = tf.saved_model.load(tmp_path / "a")
    assert loaded.serve(inputs).shape == (3, 1)
