import dataclasses
import re
import runpy
import subprocess
import sys
import urllib.error
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from boneage.bundles.save import _build_from_weights, average_networks, write_weights
from boneage.configuration.networks import NETWORKS
from boneage.configuration.training import TrainConfig
from boneage.models.build import build_model
from boneage.training.initialise import LITE0_WEIGHTS, WeightsUnavailableError, initialise, load_imagenet_weights

LITE0 = "efficientnet_lite0"
ALL_NETWORKS = [name if name == LITE0 else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]


def make_batch(input_size, *, use_sex=True):
    rng = np.random.default_rng(0)
    batch = {"image": rng.random((2, input_size, input_size, 1), dtype=np.float32)}
    if use_sex:
        batch["male"] = np.array([[0.0], [1.0]], np.float32)
    return batch


def predict(model, batch):
    return keras.ops.convert_to_numpy(model(batch, training=False))


def check_model(model, *, folder):
    """Names and shapes, one training step, saving and loading: what must hold for every network."""
    backbone = model.layers[1]
    batch = make_batch(backbone.input.shape[1])

    assert list(model.input) == ["image", "male"]
    assert model.output_names == ["bone_age_months"]
    assert model.output.shape == (None, 1)
    assert model.output.dtype == "float32"
    assert model.get_layer("pool").input.shape[-1] == backbone.output.shape[-1]
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers + backbone.layers)

    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mae", run_eagerly=True)
    model.fit(batch, np.array([[30.0], [150.0]], np.float32), batch_size=2, epochs=1, verbose=0)
    changed = [not np.array_equal(old, new) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert np.mean(changed) > 0.9

    expected = model.predict(batch, verbose=0)
    assert expected.shape == (2, 1)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()

    model.save(folder / "model.keras", include_optimizer=False)
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    np.testing.assert_allclose(predict(loaded, batch), expected, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module", params=ALL_NETWORKS)
def network(request):
    """Name and random model of one network after the other."""
    input_size = NETWORKS[request.param].min_input_size
    return request.param, build_model(request.param, input_size=input_size)


def test_network_trains_saves_and_loads(network, tmp_path):
    name, model = network
    assert [layer.units for layer in model.layers if layer.name.startswith("head_")] == list(NETWORKS[name].head_units)
    check_model(model, folder=tmp_path)


def test_tower_sees_what_it_was_trained_on(network):
    name, model = network
    backbone = model.get_layer(name)
    image = make_batch(NETWORKS[name].min_input_size)["image"]
    rgb = np.repeat(image, 3, axis=-1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    output = backbone.get_layer("rescale").output
    if name == "efficientnetb4":  # its own two layers are part of the chain, with the statistics of the ImageNet file
        (normalization,) = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization)]
        normalization.set_weights([mean, std, np.array(0)])
        normalization.finalize_state()  # as keras does after loading
        output = normalization.output
    expected = {
        LITE0: lambda: (rgb * 255 - 127) / 128,
        "efficientnetb4": lambda: (rgb - mean) / std,
        "inceptionv3": lambda: keras.applications.inception_v3.preprocess_input(rgb * 255),
        "resnet50": lambda: keras.applications.resnet50.preprocess_input(rgb * 255),
    }[name]()
    np.testing.assert_allclose(predict(keras.Model(backbone.input, output), image), expected, rtol=1e-4, atol=1e-4)


def test_without_sex_the_image_is_the_only_input():
    model = build_model(LITE0, input_size=32, use_sex=False, head_units=(), dropout=0.5)
    names = ["image", LITE0, "pool", "dropout", "standardized_bone_age", "bone_age_months"]
    assert [layer.name for layer in model.layers] == names
    assert predict(model, make_batch(32, use_sex=False)).shape == (2, 1)


def test_any_head_can_be_built():
    head = {"pooling": "both", "activation": "gelu", "sex_units": 3, "sex_joins": "after", "head_units": (5,)}
    model, batch = build_model(LITE0, input_size=64, **head), make_batch(64)
    names = ["image", LITE0, "pool", "pool_max", "average_and_max", "male", "head_1", "sex", "image_and_sex"]
    assert [layer.name for layer in model.layers][:-2] == names
    assert model.get_layer("pool_max").input is model.get_layer("pool").input
    assert model.get_layer("image_and_sex").output.shape == (None, 5 + 3)
    assert predict(model, batch).shape == (2, 1)
    pooled = predict(keras.Model(model.input["image"], model.get_layer("average_and_max").output), batch["image"])
    feature_map = predict(model.get_layer(LITE0), batch["image"])
    assert feature_map.shape[1:3] == (2, 2)
    expected = np.concatenate([feature_map.mean(axis=(1, 2)), feature_map.max(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_sex_changes_the_prediction():
    keras.utils.set_random_seed(0)  # some random weights hardly use the sex
    model = build_model(LITE0, input_size=32)
    image = np.repeat(make_batch(32)["image"][:1], 2, axis=0)
    female, male = predict(model, {"image": image, "male": np.array([[0.0], [1.0]])})
    assert abs(female - male) > 1e-3


def test_target_is_standardized_inside_the_model():
    model = build_model(LITE0, input_size=32, target_mean_months=127.0, target_std_months=41.0)
    batch = make_batch(32)
    standardized = keras.Model(model.input, model.get_layer("standardized_bone_age").output)
    np.testing.assert_allclose(predict(model, batch), 127 + 41 * predict(standardized, batch), rtol=1e-6)


@pytest.fixture
def mixed_bfloat16():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_answers_in_float32(mixed_bfloat16):
    model = build_model(LITE0, input_size=32)
    assert model.get_layer("pool").compute_dtype == "bfloat16"
    assert model.get_layer(LITE0).get_layer("rescale").output.dtype == "float32"
    assert model(make_batch(32)).dtype == "float32"


def test_packaged_imagenet_weights_give_the_features_of_the_original():
    row, column = np.mgrid[:64, :64]
    image = (0.5 + 0.5 * np.sin(row / 5) * np.cos(column / 7)).astype(np.float32)[None, ..., None]
    model = initialise(build_model(LITE0, input_size=64), "imagenet")
    features = predict(keras.Model(model.input["image"], model.get_layer("pool").output), image)[0]
    # From PyTorch 2.13 and efficientnet-lite-pytorch 0.1.0 with the float32 weights that the packaged file rounds.
    channels = [0, 79, 171, 241, 330, 441, 542, 604]
    expected = [1.7155, 0.9991, 2.3390, 0.9972, 1.5398, 2.3543, 1.1795, 3.4918]
    np.testing.assert_allclose(features[channels], expected, atol=0.03)
    assert np.linalg.norm(features) == pytest.approx(59.028, rel=2e-3)


def test_conversion_transposes_kernels_and_names_every_weight():
    class State(dict):
        def __missing__(self, name):
            self[name] = np.zeros((2,) if "_bn" in name else (5, 4, 3, 2), np.float32)
            return self[name]

    state = State({"_blocks.3._expand_conv.weight": np.full((5, 4, 3, 2), 7, np.float32)})
    script = Path(__file__).parents[3] / "tools" / "convert_lite0.py"
    arrays = runpy.run_path(str(script))["convert"](state)
    with np.load(LITE0_WEIGHTS, allow_pickle=False) as packaged:
        assert set(arrays) == set(packaged.files)
    assert len(state) == 49 * 5
    assert arrays["top_conv/kernel"].shape == (3, 2, 4, 5)
    assert arrays["block7a_depthwise_conv/kernel"].shape == (3, 2, 5, 4)
    assert [key for key, array in arrays.items() if (array == 7).all()] == ["block3a_expand_conv/kernel"]


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_an_earlier_run_are_loaded(suffix, tmp_path):
    model, path, batch = build_model(LITE0, input_size=32), tmp_path / f"best{suffix}", make_batch(32)
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    again = initialise(build_model(LITE0, input_size=32, dropout=0.2), path)
    np.testing.assert_allclose(predict(again, batch), predict(model, batch), rtol=1e-6)


@pytest.mark.parametrize("different", [{"use_sex": False}, {"head_units": (256, 256)}])
def test_weights_of_another_network_are_refused(different, tmp_path):
    path = tmp_path / "best.weights.h5"
    build_model(LITE0, input_size=32).save_weights(path)
    with pytest.raises(ValueError, match="does not fit `bone_age_efficientnet_lite0`"):
        initialise(build_model(LITE0, input_size=32, **different), path)


@pytest.mark.parametrize("name", ["damaged.weights.h5", "damaged.keras", "missing.keras"])
def test_unusable_weights_file_is_named(name, tmp_path):
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(WeightsUnavailableError, match=f"^Weights file .*{name} (is damaged|does not exist)"):
        initialise(build_model(LITE0, input_size=32), tmp_path / name)


def write_legacy_h5(path, model):
    """Write weights in the format of the files that `keras.applications` downloads."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"] = b"2.0"
        file.attrs["backend"] = b"tensorflow"
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{weight.name}".encode() for weight in layer.weights]
            for weight in layer.weights:
                group[f"{layer.name}/{weight.name}"] = weight.numpy()


def test_downloaded_imagenet_weights_are_loaded(tmp_path, monkeypatch):
    original = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    write_legacy_h5(tmp_path / "resnet50.h5", original)
    monkeypatch.setattr(keras.utils, "get_file", lambda **_: str(tmp_path / "resnet50.h5"))
    image = make_batch(32)["image"]
    features = predict(initialise(build_model("resnet50", input_size=32), "imagenet").get_layer("resnet50"), image)
    rgb = keras.applications.resnet50.preprocess_input(np.repeat(image, 3, axis=-1) * 255)
    np.testing.assert_allclose(features, predict(original, rgb), rtol=1e-4, atol=1e-4)


def test_offline_message_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    def refuse(*, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")  # as get_file

    monkeypatch.setattr(keras.utils, "get_file", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError) as raised:
        initialise(build_model("resnet50", input_size=32), "imagenet")
    message, application = str(raised.value), NETWORKS["resnet50"].application
    assert "\n" not in message
    assert f"Download {application.weights_url} (MD5 {application.weights_md5})" in message
    assert f"to {tmp_path / 'models'}" in message


@pytest.mark.parametrize(
    ("name", "file"), [("VGG16", "vgg16_weights_.*_notop.h5"), ("NASNetMobile", "NASNet-mobile-no-top.h5")]
)
def test_offline_message_names_the_file_that_keras_downloads(name, file, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError) as raised:
        load_imagenet_weights(keras.Sequential(name=f"keras_{name}"))
    message = str(raised.value)
    assert "\n" not in message
    assert re.search(f"Download https://\\S+{file} to {tmp_path / 'models'}", message)
    assert ("as nasnet_mobile_no_top.h5, or" in message) == (name == "NASNetMobile")


def test_other_failures_of_the_download_are_not_disguised(monkeypatch):
    def fail(**_):
        raise TypeError("wrong argument")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(TypeError, match="wrong argument"):
        initialise(build_model("resnet50", input_size=32), "imagenet")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("efficientnet_lite", {}, "one of efficientnet_lite0, .*Did you mean 'efficientnet_lite0'"),
        ("zzz", {}, "Received: 'zzz'.$"),
        (LITE0, {"pooling": "mean"}, "`pooling` must be one of average, max, both, gem"),
        (LITE0, {"head": "classes"}, "`head` must be one of regression, distribution"),
        (LITE0, {"sex_joins": "between"}, "`sex_joins` must be one of before, after"),
        (LITE0, {"input_size": 31}, "at least 32 for efficientnet_lite0. Received: input_size=31"),
        ("inceptionv3", {"input_size": 74}, "at least 75 for inceptionv3"),
        (LITE0, {"target_std_months": 0.0}, "`target_std_months` must be positive. Received: target_std_months=0.0"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **{"input_size": 75, **arguments})


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("imagnet", "'none', 'default', the folder of a bundle, or a path .* Received: init='imagnet'"),
        (Path("best.h5"), "ends in .weights.h5 or .keras"),
    ],
)
def test_initialise_refuses_what_is_no_init(init, message):
    with pytest.raises(ValueError, match=message):
        initialise(build_model(LITE0, input_size=32), init)


def test_names_of_the_networks_come_without_keras():
    code = "import sys, boneage.configuration.networks; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("sizes_px", [(32,), (32, 32), (32, 40)])
def test_weights_in_half_precision_bring_the_network_back(sizes_px, tmp_path):
    config = TrainConfig(input_size=32, head_units=(8,))
    target = {"mean_months": 120.0, "std_months": 40.0}
    models = [
        build_model(LITE0, input_size=size, head_units=(8,), target_mean_months=120.0, target_std_months=40.0)
        for size in sizes_px
    ]
    model = average_networks(models) if len(sizes_px) > 1 else models[0]
    write_weights(model, tmp_path / "weights.npz")
    metadata = {"experiment": {"train": dataclasses.asdict(config)}, "target": target}
    if len(sizes_px) > 1:
        metadata["members"] = [{"network": LITE0, "input_size": size} for size in sizes_px]
    again = _build_from_weights(metadata, tmp_path / "weights.npz")
    shape = (2, max(sizes_px), max(sizes_px), 1)
    batch = {"image": np.random.default_rng(0).random(shape, np.float32), "male": np.float32([[0], [1]])}
    np.testing.assert_allclose(again(batch), model(batch), atol=0.1)
    assert (tmp_path / "weights.npz").stat().st_size < 2.1 * model.count_params()
