import shutil

import keras
import numpy as np
import pytest

from boneage.bundles.bundle import DEFAULT_BUNDLE, ONNX_FILE, BundleError
from boneage.bundles.save import average_networks, save_bundle
from boneage.models.build import build_model
from boneage.models.freezing import learning_rate_factors, set_trainable
from boneage.models.fused_batch_norm import fuse_batch_norm, to_float32
from boneage.training.initialise import initialise
from boneage.training.optimizer import build_optimizer

LITE0 = "efficientnet_lite0"

# That of the packaged network, whose ONNX file stands for all.
METADATA = {"task": "age", "input_size": 192, "use_sex": True, "tta": "none", "fingerprint": "0" * 16}


def network(head_units=4) -> keras.Model:
    """A backbone of two convolutions with batch normalisations and dropout, and a head."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = image
    for number in (1, 2):
        x = layers.Conv2D(3, 3, name=f"conv_{number}")(x)
        x = layers.Dropout(0.5, name=f"drop_{number}")(layers.BatchNormalization(name=f"norm_{number}")(x))
    backbone = keras.Model(image, x, name="backbone")
    x = layers.GlobalAveragePooling2D(name="pool")(backbone(image))
    x = layers.Dense(head_units, name="head_1")(x)
    return keras.Model(image, layers.Dense(1, name="months")(x))


def learning(model) -> set[str]:
    return {variable.path.split("/")[-2] for variable in model.trainable_variables}


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("all", {"conv_1", "norm_1", "conv_2", "norm_2"}),
        (9, {"conv_1", "norm_1", "conv_2", "norm_2"}),
        (3, {"norm_1", "conv_2", "norm_2"}),
        (2, {"conv_2", "norm_2"}),
        (1, {"norm_2"}),
        ("head", set()),
    ],
)
def test_what_learns_is_the_head_and_the_last_layers_with_weights(trainable, expected):
    model = fuse_batch_norm(network())
    set_trainable(model, backbone="backbone", trainable="head")
    set_trainable(model, backbone="backbone", trainable=trainable)
    assert learning(model) == expected | {"head_1", "months"}


def test_frozen_layers_keep_their_statistics_and_drop_nothing():
    model = fuse_batch_norm(network())
    set_trainable(model, backbone="backbone", trainable="head")
    before, images = model.get_weights(), np.random.default_rng(0).normal(3, 2, (4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(model(images, training=True), model(images, training=False), rtol=1e-6)
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    set_trainable(model, backbone="backbone", trainable=2)
    model(images, training=True)
    backbone = model.get_layer("backbone")
    moved = {name: np.abs(backbone.get_layer(name).moving_mean.numpy()).max() > 0 for name in ("norm_1", "norm_2")}
    assert moved == {"norm_1": False, "norm_2": True}


def test_learning_rates_fall_from_the_head_down():
    model = network()
    factors = learning_rate_factors(model, backbone="backbone", layer_decay=0.5)
    by_layer = {
        variable.path.split("/")[-2]: factor
        for variable, factor in zip(model.trainable_variables, factors, strict=True)
    }
    assert by_layer == {"conv_1": 1 / 16, "norm_1": 1 / 8, "conv_2": 1 / 4, "norm_2": 1 / 2, "head_1": 1, "months": 1}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_factors_of_one_give_the_optimizers_of_keras(name):
    models = [keras.models.clone_model(network()) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    variables = models[0].trainable_variables
    mine = build_optimizer(0.1, optimizer=name, steps=10, warmup_steps=0, weight_decay=0.1)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    theirs = {
        "adamw": keras.optimizers.AdamW(schedule, weight_decay=0.1),
        "adam": keras.optimizers.Adam(schedule),
        "sgd": keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=0.1),
    }[name]
    if name != "adam":
        theirs.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = [rng.normal(size=variable.shape).astype(np.float32) for variable in variables]
        for model, optimizer in zip(models, (mine, theirs), strict=True):
            optimizer.apply(
                [keras.ops.convert_to_tensor(gradient) for gradient in gradients], model.trainable_variables
            )
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_factor_scales_the_step_and_the_weight_decay():
    variables = [keras.Variable(np.ones(2, np.float32), name="kernel") for _ in range(2)]
    optimizer = build_optimizer(0.1, steps=100, warmup_steps=0, weight_decay=0.5, factors=[1.0, 0.1])
    optimizer.apply([keras.ops.ones(2)] * 2, variables)
    whole, tenth = (1 - variable.numpy()[0] for variable in variables)
    assert tenth == pytest.approx(whole / 10, rel=0.05)


def test_a_copy_in_float32_answers_as_the_original():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = network()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    plain, images = to_float32(mixed), np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32)
    assert {layer.compute_dtype for layer in plain.layers + plain.get_layer("backbone").layers} == {"float32"}
    np.testing.assert_allclose(plain(images), np.asarray(mixed(images), np.float32), atol=0.02)


def test_copies_normalise_by_the_statistics_of_the_original():
    image = keras.Input((4, 4, 1), name="image")
    layer = keras.layers.Normalization(name="adapted")
    model = keras.Model(image, layer(image))
    layer.set_weights([np.array([2.0]), np.array([4.0]), np.array(1)])
    layer.finalize_state()
    np.testing.assert_allclose(fuse_batch_norm(model)(np.full((1, 4, 4, 1), 4, np.float32)), 1.0, rtol=1e-5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of a network that knows other ages."""
    keras.utils.set_random_seed(1)
    model = build_model(LITE0, input_size=32, target_mean_months=100.0, target_std_months=30.0)
    with pytest.MonkeyPatch.context() as patch:
        # What answers is not what is trained on; writing it takes seconds.
        patch.setattr(
            "boneage.bundles.save.export_onnx", lambda _, path: shutil.copyfile(DEFAULT_BUNDLE / ONNX_FILE, path)
        )
        return save_bundle(tmp_path_factory.mktemp("bundle") / "bundle", model, {**METADATA, "network": LITE0}), model


def head_of(model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy() for layer in model.layers if layer.name != LITE0 for weight in layer.weights}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_bundle_gives_tower_head_and_months(dropout, bundle):
    folder, source = bundle
    model = initialise(
        build_model(LITE0, input_size=64, dropout=dropout, target_mean_months=10.0, target_std_months=2.0), folder
    )
    for mine, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    months = model.get_layer("bone_age_months")
    assert (months.scale, months.offset) == (30.0, 100.0)


def test_of_an_ensemble_the_first_member_is_taken(bundle, tmp_path, monkeypatch):
    _, source = bundle
    other = build_model(LITE0, input_size=32, target_mean_months=100.0, target_std_months=30.0)
    monkeypatch.setattr(
        "boneage.bundles.save.export_onnx", lambda _, path: shutil.copyfile(DEFAULT_BUNDLE / ONNX_FILE, path)
    )
    members = [{"network": LITE0, "sha256": {}}] * 2
    folder = save_bundle(
        tmp_path / "both", average_networks([source, other]), {**METADATA, "network": "ensemble", "members": members}
    )
    model = initialise(build_model(LITE0, input_size=64, target_mean_months=10.0, target_std_months=2.0), folder)
    for mine, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert model.get_layer("bone_age_months").offset == 100.0


def test_a_head_of_other_shapes_is_new(bundle):
    folder, source = bundle
    model = initialise(
        build_model(LITE0, input_size=32, head_units=(8,), target_mean_months=10.0, target_std_months=2.0), folder
    )
    for mine, theirs in zip(model.get_layer(LITE0).get_weights(), source.get_layer(LITE0).get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    months = model.get_layer("bone_age_months")
    assert (months.scale, months.offset) == (2.0, 10.0)
    assert not np.array_equal(head_of(model)["sex/kernel"], head_of(source)["sex/kernel"])


@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"pooling": "max"}])
def test_a_head_of_another_kind_is_new(changes, bundle):
    folder, source = bundle
    model = initialise(build_model(LITE0, input_size=32, **changes), folder)
    assert not np.array_equal(head_of(model)["sex/kernel"], head_of(source)["sex/kernel"])


def test_a_folder_without_a_bundle_and_a_bundle_of_another_network_are_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match=r"contains no metadata\.json"):
        initialise(build_model(LITE0, input_size=32), tmp_path)
    with pytest.raises(ValueError, match=r"is a bundle of efficientnet_lite0\. Received: network='inceptionv3'"):
        initialise(build_model("inceptionv3", input_size=75), bundle[0])
