"""Augmentation of whole batches: one affine warp, then tone, blur and noise, every range in the configuration.

All draws are stateless functions of a seed, so that a resumed run sees the batches it would have seen.
"""

import math

import tensorflow as tf

from boneage.config import AugmentConfig


def augment(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Augment a batch.

    Args:
        images: Shape `(batch, size, size, 1)`, float32 in [0, 1].
        config: The ranges.
        seed: Shape `(2,)`, int32 or int64; equal seeds give equal results.

    Returns:
        Augmented images, same shape and dtype, in [0, 1].
    """
    seeds = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 4)))
    images = warp(images, config, seed=next(seeds))
    images = change_tone(images, config, seed=next(seeds))
    if config.blur_px:
        images = blur(images, max_px=config.blur_px, seed=next(seeds))
    if config.noise_share:
        images = add_noise(images, max_share=config.noise_share, seed=next(seeds))
    return tf.clip_by_value(images, 0.0, 1.0)


def _uniform(batch: tf.Tensor, low: float, high: float, *, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform((batch,), seed, low, high)


def warp(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Turn, zoom, narrow, shift and mirror each image in one bilinear warp; what comes into view is black.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        config: The ranges.
        seed: Shape `(2,)`.

    Returns:
        Warped images, same shape, float32.
    """
    batch, size = tf.shape(images)[0], tf.cast(tf.shape(images)[1], tf.float32)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    radians = config.rotation_degrees * math.pi / 180
    angle = _uniform(batch, -radians, radians, seed=seeds[0])
    zoom = _uniform(batch, 1 - config.zoom_share, 1 + config.zoom_share, seed=seeds[1])
    narrow = _uniform(batch, 1 - config.narrow_share, 1.0, seed=seeds[2])
    shift_x = _uniform(batch, -config.shift_share, config.shift_share, seed=seeds[3]) * size
    shift_y = _uniform(batch, -config.shift_share, config.shift_share, seed=seeds[4]) * size
    mirror = tf.where(_uniform(batch, 0.0, 1.0, seed=seeds[5]) < config.flip_share, -1.0, 1.0)
    # The op maps target pixels to source pixels, so this is the inverse of: mirror and scale, turn, shift.
    inverse_x, inverse_y = mirror / (zoom * narrow), 1 / zoom
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a, b = inverse_x * cosine, -inverse_x * sine
    c, d = inverse_y * sine, inverse_y * cosine
    middle = (size - 1) / 2
    offset_x = middle - a * (middle + shift_x) - b * (middle + shift_y)
    offset_y = middle - c * (middle + shift_x) - d * (middle + shift_y)
    zeros = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, offset_x, c, d, offset_y, zeros, zeros], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def change_tone(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Change gamma, contrast and brightness of each image.

    Args:
        images: Shape `(batch, size, size, 1)`, float32 in [0, 1].
        config: The ranges.
        seed: Shape `(2,)`.

    Returns:
        Changed images, same shape, float32, not clipped.
    """
    batch = tf.shape(images)[0]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    log_gamma = math.log1p(config.gamma_share)
    gamma = tf.exp(_uniform(batch, -log_gamma, log_gamma, seed=seeds[0]))
    contrast = _uniform(batch, 1 - config.contrast_share, 1 + config.contrast_share, seed=seeds[1])
    brightness = _uniform(batch, -config.brightness_share, config.brightness_share, seed=seeds[2])
    gamma, contrast, brightness = (value[:, None, None, None] for value in (gamma, contrast, brightness))
    return (images**gamma - 0.5) * contrast + 0.5 + brightness


def blur(images: tf.Tensor, *, max_px: float, seed: tf.Tensor) -> tf.Tensor:
    """Blur each image by a Gaussian of its own width, up to `max_px` pixels of standard deviation.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        max_px: Largest standard deviation in pixels.
        seed: Shape `(2,)`.

    Returns:
        Blurred images, same shape, float32.
    """
    batch = tf.shape(images)[0]
    radius = math.ceil(2 * max_px)
    sigma = tf.maximum(_uniform(batch, 0.0, max_px, seed=seed), 1e-3)[:, None]
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)[None]
    kernel = tf.nn.softmax(-0.5 * (offsets / sigma) ** 2, axis=1)
    # Each image has a kernel of its own: shifted copies weighted per image are a batched separable convolution.
    for axis in (1, 2):
        padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
        padding[axis] = [radius, radius]
        padded, size = tf.pad(images, padding, "SYMMETRIC"), tf.shape(images)[axis]
        images = tf.add_n(
            [
                tf.gather(padded, tf.range(step, step + size), axis=axis) * kernel[:, step, None, None, None]
                for step in range(2 * radius + 1)
            ]
        )
    return images


def add_noise(images: tf.Tensor, *, max_share: float, seed: tf.Tensor) -> tf.Tensor:
    """Add Gaussian noise to each image, of a standard deviation up to `max_share` of the grey range.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        max_share: Largest standard deviation.
        seed: Shape `(2,)`.

    Returns:
        Noisy images, same shape, float32, not clipped.
    """
    strength, noise = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    deviation = _uniform(tf.shape(images)[0], 0.0, max_share, seed=strength)[:, None, None, None]
    return images + deviation * tf.random.stateless_normal(tf.shape(images), noise)
