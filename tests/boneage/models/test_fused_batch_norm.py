import keras
import numpy as np
import pytest

from boneage.models.fused_batch_norm import FusedBatchNormalization, fuse_batch_norm


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    image, male = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="male")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9, name="norm")(x)
    backbone = keras.Model(image, keras.layers.BatchNormalization(scale=False, name="plain_norm")(x), name="backbone")
    outer = keras.Input((8, 8, 1), name="image")
    pooled = keras.layers.GlobalMaxPooling2D(name="pool")(backbone(outer))
    joined = keras.layers.Concatenate(name="join")([pooled, male])
    return keras.Model({"image": outer, "male": male}, keras.layers.Dense(1, name="months")(joined))


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return {"image": rng.normal(3, 2, (16, 8, 8, 1)).astype(np.float32), "male": np.ones((16, 1), np.float32)}


def test_gives_the_same_output_and_the_same_moving_statistics(inputs):
    plain = network()
    fused = fuse_batch_norm(plain)
    assert isinstance(fused.get_layer("backbone").get_layer("norm"), FusedBatchNormalization)
    for training in (False, True):
        np.testing.assert_allclose(fused(inputs, training=training), plain(inputs, training=training), atol=1e-4)
    num_values = 16 * 8 * 8
    for weight, mine, theirs in zip(plain.weights, fused.get_weights(), plain.get_weights(), strict=True):
        # The fused operation divides the variance by n - 1.
        tolerance = 2 / num_values if "variance" in weight.path else 1e-5
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=1e-5)


def test_trains_to_the_same_weights(inputs):
    plain = network()
    fused = fuse_batch_norm(plain)
    for model in (plain, fused):
        model.compile(keras.optimizers.SGD(1e-3), loss="mae")
        model.fit(inputs, np.full((16, 1), 5, np.float32), epochs=2, batch_size=16, verbose=0, shuffle=False)
    for mine, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=5e-3, atol=1e-4)


def test_a_frozen_layer_keeps_its_statistics(inputs):
    fused = fuse_batch_norm(network())
    fused.trainable = False
    before = fused.get_weights()
    fused(inputs, training=True)
    for mine, theirs in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
