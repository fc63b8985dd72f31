import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig
from boneage.training.augmentation import (
    DRAWS,
    add_noise,
    augment,
    blur,
    build_augmentation,
    change_local_contrast,
    change_tones,
    draw,
    to_values,
    warp,
)

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


def draw_batch(size, *, seed=3):
    return draw(seed, step=tf.constant(4, tf.int64), batch_size=size)


def drawn(size, *, seed=3):
    return dict(zip(DRAWS, tf.unstack(draw_batch(size, seed=seed), axis=1), strict=True))


def alter(**ranges):
    return AugmentConfig(**{**vars(STILL), **ranges})


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(1, 256, (3, 16, 16, 1), dtype=np.uint8)


# Not the noise: XLA has its own generator of normal numbers.
@pytest.mark.parametrize(
    "config", [dataclasses.replace(ALL_OPS, noise_share=0.0), AugmentConfig(), STILL], ids=["all", "default", "none"]
)
def test_augment_is_the_same_eagerly_and_compiled(config, images):
    draws = draw_batch(3)
    eager, compiled = augment(tf.constant(images), draws, config), build_augmentation(config)(images, draws)
    # A pixel whose grey lies between two levels may be rounded to either.
    assert np.abs(eager - compiled).mean() < 1e-4
    assert compiled.shape == images.shape and compiled.dtype == tf.float32
    assert np.allclose(compiled, images / 255, atol=1e-6) == (config is STILL)


def test_augment_depends_on_the_draws_of_the_radiograph_alone(images):
    draws, compiled = draw_batch(3), build_augmentation(ALL_OPS)
    whole = compiled(images, draws).numpy()
    order = [2, 0]
    np.testing.assert_allclose(compiled(images[order], tf.gather(draws, order)), whole[order], atol=1e-6)
    same = compiled(np.repeat(images[:1], 3, axis=0), draws).numpy()
    assert not np.allclose(same[0], same[1], atol=1e-3)
    assert not np.allclose(whole, compiled(images, draw_batch(3, seed=4)), atol=1e-3)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_draw_gives_each_worker_its_part(num_workers):
    step = tf.constant(7, tf.int64)
    whole = draw(5, step=step, batch_size=8)
    assert whole.shape == (8, len(DRAWS)) and 0 <= whole.numpy().min() < whole.numpy().max() < 1
    for worker in range(num_workers):
        part = draw(5, step=step, batch_size=8, worker=worker, num_workers=num_workers)
        np.testing.assert_array_equal(part, whole[worker::num_workers])
    assert not np.allclose(whole, draw(5, step=step + 1, batch_size=8))
    assert not np.allclose(whole, draw(6, step=step, batch_size=8))


def test_augment_stays_within_the_grey_range(images):
    strong = AugmentConfig(
        contrast_share=1, brightness_share=1, noise_share=1, gamma_share=4, clip_share=0.9, local_contrast_share=4
    )
    result = augment(tf.constant(images), draw_batch(3), strong).numpy()
    assert result.min() >= 0
    assert result.max() <= 1


def test_augment_computes_nothing_that_has_a_range_of_zero(images):
    graph = tf.function(lambda images, draws: augment(images, draws, STILL)).get_concrete_function(
        tf.TensorSpec((3, 16, 16, 1), tf.uint8), tf.TensorSpec((3, len(DRAWS)))
    )
    kinds = {operation.type for operation in graph.graph.get_operations()}
    assert not kinds & {"GatherV2", "Pow", "Cos", "ResizeBilinear", "AvgPool", "StatelessRandomNormalV2", "Softmax"}


def test_warp_mirrors_left_to_right_exactly(images):
    result = warp(tf.constant(images), alter(flip_share=1.0), drawn(3)).numpy()
    np.testing.assert_array_equal(result, images[:, :, ::-1])


def test_warp_is_the_bilinear_warp_of_tensorflow():
    """The op of TensorFlow, which XLA cannot compile, and which takes the inverse transform too."""
    images = np.random.default_rng(1).integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)
    config, values, middle = AugmentConfig(), drawn(5), 11.5
    result = warp(tf.constant(images), config, values).numpy()
    between = {name: 2 * value.numpy() - 1 for name, value in values.items()}
    angle = np.radians(config.rotation_degrees) * between["angle"]
    zoom = 1 + config.zoom_share * between["zoom"]
    narrow = 1 - config.narrow_share * (1 - values["narrow"].numpy())
    shift_x, shift_y = (24 * config.shift_share * between[name] for name in ("shift_x", "shift_y"))
    inverse_x = np.where(values["flip"].numpy() < config.flip_share, -1, 1) / (zoom * narrow)
    a, b = inverse_x * np.cos(angle), -inverse_x * np.sin(angle)
    c, d = np.sin(angle) / zoom, np.cos(angle) / zoom
    offsets = (middle - one * (middle + shift_x) - two * (middle + shift_y) for one, two in ((a, b), (c, d)))
    offset_x, offset_y = offsets
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=images.astype(np.float32),
        transforms=np.stack([a, b, offset_x, c, d, offset_y, 0 * a, 0 * a], axis=1).astype(np.float32),
        output_shape=[24, 24],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    np.testing.assert_allclose(result, expected, atol=0.51)


def test_warp_narrows_the_width_alone():
    images = np.zeros((64, 33, 33, 1), np.uint8)
    images[:, 8:25, 8:25] = 255
    result = warp(tf.constant(images), alter(narrow_share=0.5), drawn(64)).numpy() / 255
    widths, heights = result[:, 16, :, 0].sum(axis=1), result[:, :, 16, 0].sum(axis=1)
    np.testing.assert_allclose(heights, 17, atol=1e-3)
    assert widths.min() > 8
    assert widths.max() < 17.5
    assert widths.std() > 1


def test_warp_turns_within_the_range_to_both_sides():
    images = np.zeros((128, 65, 65, 1), np.uint8)
    images[:, 5:9, 31:34] = 255  # a mark straight above the middle
    result = warp(tf.constant(images), alter(rotation_degrees=30.0), drawn(128)).numpy()[..., 0]
    columns = (result.sum(axis=1) * np.arange(65)).sum(axis=1) / result.sum(axis=(1, 2))
    rows = (result.sum(axis=2) * np.arange(65)).sum(axis=1) / result.sum(axis=(1, 2))
    degrees = np.degrees(np.arctan2(32 - columns, 32 - rows))
    assert degrees.min() < -20
    assert degrees.max() > 20
    assert np.abs(degrees).max() < 31


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    images = np.random.default_rng(0).random((8, 32, 32, 1), dtype=np.float32)
    result = blur(tf.constant(images), drawn(8), max_px=2.0).numpy()
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.02)
    ratio = result.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert ratio.max() <= 1.001  # a width near zero changes nothing
    assert ratio.min() < 0.5


def test_add_noise_is_normal_and_of_all_strengths():
    images = np.full((64, 32, 32, 1), 0.5, np.float32)
    noise = add_noise(tf.constant(images), drawn(64), max_share=0.1).numpy() - 0.5
    deviations = noise.std(axis=(1, 2, 3))
    assert deviations.min() < 0.01 and 0.09 < deviations.max() < 0.11
    standard = noise / deviations[:, None, None, None]
    assert np.mean(np.abs(standard) < 1) == pytest.approx(0.683, abs=0.01)
    assert np.abs(np.corrcoef(standard.reshape(64, -1)) - np.eye(64)).max() < 0.2


def test_augment_keeps_what_is_outside_the_hand_black(images):
    images[:, :, :6] = 0
    config = alter(brightness_share=0.5, noise_share=0.5, blur_px=2.0)
    result = augment(tf.constant(images), draw_batch(3), config).numpy()
    assert np.all(result[:, :, :6] == 0)
    assert result[:, :, 6:].std() > 0.1


def test_change_tones_burns_out_the_brightest_share():
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.int32)[None, :, None, None], (40, 1, 4, 1))
    result = change_tones(tf.constant(ramp), alter(clip_share=0.5), drawn(40)).numpy()
    white_share = (result >= 1).mean(axis=(1, 2, 3))
    assert white_share.max() < 0.52
    assert white_share.max() > 0.4
    assert white_share.min() < 0.1
    # Below white the order of the greys stays, and black stays black.
    assert np.all(np.diff(result, axis=1) >= 0)
    assert np.all(result[:, 0] == 0)


def test_change_tones_is_gamma_then_contrast_then_brightness():
    config, values = alter(gamma_share=0.3, contrast_share=0.1, brightness_share=0.2), drawn(5)
    levels = np.arange(256, dtype=np.int32).reshape(1, 16, 16, 1).repeat(5, axis=0)
    result = change_tones(tf.constant(levels), config, values).numpy()
    gamma, contrast, brightness = (
        (2 * values[name].numpy() - 1)[:, None, None, None] for name in ("gamma", "contrast", "brightness")
    )
    expected = ((levels / 255) ** (1.3**gamma) - 0.5) * (1 + 0.1 * contrast) + 0.5 + 0.2 * brightness
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_change_local_contrast_keeps_the_mean_and_changes_edges():
    images = np.full((40, 64, 64, 1), 0.3, np.float32)
    images[:, :, 32:] = 0.6
    result = change_local_contrast(tf.constant(images), drawn(40), max_share=1.0).numpy()
    np.testing.assert_allclose(result.mean(axis=(1, 2, 3)), 0.45, atol=0.01)
    overshoot = result.max(axis=(1, 2, 3)) - 0.6
    assert overshoot.max() > 0.08
    # Shrunk contrast has none.
    assert (overshoot < 1e-6).sum() > 5


def test_to_values_are_those_of_the_runtime():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_values(tf.constant(levels)), levels.astype(np.float32) / 255)


@pytest.mark.parametrize(("key", "value"), [("rotation_degrees", 181), ("flip_share", -0.1), ("zoom_share", 1.0)])
def test_refuses_a_range_out_of_bounds(key, value):
    with pytest.raises(ValueError, match=f"`{key}` must lie in"):
        AugmentConfig(**{key: value})
