import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig
from boneage.training.augmentation import add_noise, augment, blur, change_local_contrast, jitter_intensity, warp

SEED = (3, 4)
STILL = AugmentConfig(
    rotation_degrees=0,
    shift_share=0,
    zoom_share=0,
    narrow_share=0,
    flip_share=0,
    gamma_share=0,
    contrast_share=0,
    brightness_share=0,
)
ALL_OPS = AugmentConfig(blur_px=1.0, noise_share=0.05, clip_share=0.3, local_contrast_share=0.5)
OPS = {
    "warp": lambda images, seed: warp(images, AugmentConfig(), seed=seed),
    "jitter_intensity": lambda images, seed: jitter_intensity(images, AugmentConfig(), seed=seed),
    "change_local_contrast": lambda images, seed: change_local_contrast(images, max_share=1.0, seed=seed),
    "blur": lambda images, seed: blur(images, max_px=1.5, seed=seed),
    "add_noise": lambda images, seed: add_noise(images, max_share=0.1, seed=seed),
    "augment": lambda images, seed: augment(images, ALL_OPS, seed=seed),
}


@pytest.fixture
def images():
    return np.random.default_rng(0).random((3, 16, 16, 1), dtype=np.float32)


@pytest.mark.parametrize("name", OPS)
def test_is_the_same_eagerly_and_inside_tf_data(name, images):
    op = OPS[name]
    eager = op(tf.constant(images), tf.constant(SEED)).numpy()
    inside = next(iter(tf.data.Dataset.from_tensors(images).map(lambda batch: op(batch, tf.constant(SEED))))).numpy()
    np.testing.assert_allclose(eager, inside, atol=1e-6)
    assert eager.shape == images.shape
    assert eager.dtype == np.float32
    assert not np.allclose(eager, images, atol=1e-3)


@pytest.mark.parametrize("name", OPS)
def test_is_a_function_of_its_seed(name, images):
    first, same, other = (OPS[name](tf.constant(images), tf.constant(seed)).numpy() for seed in (SEED, SEED, (3, 5)))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_treats_each_image_of_a_batch_differently(images):
    same = np.repeat(images[:1], 3, axis=0)
    result = augment(tf.constant(same), AugmentConfig(), seed=tf.constant(SEED)).numpy()
    assert not np.allclose(result[0], result[1], atol=1e-3)


def test_stays_within_the_grey_range(images):
    strong = AugmentConfig(
        contrast_share=1, brightness_share=1, noise_share=1, gamma_share=4, clip_share=0.9, local_contrast_share=4
    )
    result = augment(tf.constant(images), strong, seed=tf.constant(SEED)).numpy()
    assert result.min() >= 0
    assert result.max() <= 1


def test_changes_nothing_when_every_range_is_zero(images):
    result = augment(tf.constant(images), STILL, seed=tf.constant(SEED)).numpy()
    np.testing.assert_allclose(result, images, atol=1e-5)


def test_mirrors_left_to_right_exactly(images):
    config = AugmentConfig(**{**vars(STILL), "flip_share": 1.0})
    result = warp(tf.constant(images), config, seed=tf.constant(SEED)).numpy()
    np.testing.assert_allclose(result, images[:, :, ::-1], atol=1e-5)


def test_narrows_the_width_alone():
    images = np.zeros((64, 33, 33, 1), np.float32)
    images[:, 8:25, 8:25] = 1
    config = AugmentConfig(**{**vars(STILL), "narrow_share": 0.5})
    result = warp(tf.constant(images), config, seed=tf.constant(SEED)).numpy()
    widths, heights = result[:, 16, :, 0].sum(axis=1), result[:, :, 16, 0].sum(axis=1)
    np.testing.assert_allclose(heights, 17, atol=1e-3)
    assert widths.min() > 8
    assert widths.max() < 17.5
    assert widths.std() > 1


def test_turns_within_the_range_to_both_sides():
    images = np.zeros((128, 65, 65, 1), np.float32)
    images[:, 5:9, 31:34] = 1  # a mark straight above the middle
    config = AugmentConfig(**{**vars(STILL), "rotation_degrees": 30.0})
    result = warp(tf.constant(images), config, seed=tf.constant(SEED)).numpy()[..., 0]
    columns = (result.sum(axis=1) * np.arange(65)).sum(axis=1) / result.sum(axis=(1, 2))
    rows = (result.sum(axis=2) * np.arange(65)).sum(axis=1) / result.sum(axis=(1, 2))
    degrees = np.degrees(np.arctan2(32 - columns, 32 - rows))
    assert degrees.min() < -20
    assert degrees.max() > 20
    assert np.abs(degrees).max() < 31


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    images = np.random.default_rng(0).random((8, 32, 32, 1), dtype=np.float32)
    result = blur(tf.constant(images), max_px=2.0, seed=tf.constant(SEED)).numpy()
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.02)
    ratio = result.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert ratio.max() <= 1.001  # a width near zero changes nothing
    assert ratio.min() < 0.5


def test_augment_keeps_what_is_outside_the_hand_black(images):
    images[:, :, :6] = 0
    config = AugmentConfig(**{**vars(STILL), "brightness_share": 0.5, "noise_share": 0.5, "blur_px": 2.0})
    result = augment(tf.constant(images), config, seed=tf.constant(SEED)).numpy()
    assert np.all(result[:, :, :6] == 0)
    assert result[:, :, 6:].std() > 0.1


def test_jitter_intensity_burns_out_the_brightest_share():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None, None], (40, 1, 4, 1))
    config = AugmentConfig(**{**vars(STILL), "clip_share": 0.5})
    result = jitter_intensity(tf.constant(ramp), config, seed=tf.constant(SEED)).numpy()
    white_share = (result >= 1).mean(axis=(1, 2, 3))
    assert white_share.max() < 0.52
    assert white_share.max() > 0.4
    assert white_share.min() < 0.1
    # Below white the order of the greys stays, and black stays black.
    assert np.all(np.diff(result, axis=1) >= 0)
    assert np.all(result[:, 0] == 0)


def test_change_local_contrast_keeps_the_mean_and_changes_edges():
    images = np.full((40, 64, 64, 1), 0.3, np.float32)
    images[:, :, 32:] = 0.6
    result = change_local_contrast(tf.constant(images), max_share=1.0, seed=tf.constant(SEED)).numpy()
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), 0.45, atol=0.01)
    overshoot = result.max(axis=(1, 2, 3)) - 0.6
    assert overshoot.max() > 0.08
    # Shrunk contrast has none.
    assert (overshoot < 1e-6).sum() > 5


@pytest.mark.parametrize(("key", "value"), [("rotation_degrees", 181), ("flip_share", -0.1), ("zoom_share", 1.0)])
def test_refuses_a_range_out_of_bounds(key, value):
    with pytest.raises(ValueError, match=f"`{key}` must lie in"):
        AugmentConfig(**{key: value})
