"""Augmentation of batches: one affine warp, then gamma, contrast and brightness, local contrast, blur and noise.

Black pixels lie outside the hand, or outside the film: they stay black, as in prediction.

Random numbers are stateless functions of a seed: a resumed run gets the same batches as an uninterrupted one.
"""

import math

import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig


def augment(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Augment a batch.

    Args:
        images: Shape `(batch, size, size, 1)`, float32 in [0, 1].
        config: The ranges.
        seed: Shape `(2,)`, int32 or int64; equal seeds give equal results.

    Returns:
        Augmented images, same shape and dtype, in [0, 1].
    """
    seeds = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 5)))
    warped = warp(images, config, seed=next(seeds))
    images = jitter_intensity(warped, config, seed=next(seeds))
    if config.local_contrast_share:
        images = change_local_contrast(images, max_share=config.local_contrast_share, seed=next(seeds))
    if config.blur_px:
        images = blur(images, max_px=config.blur_px, seed=next(seeds))
    if config.noise_share:
        images = add_noise(images, max_share=config.noise_share, seed=next(seeds))
    return tf.where(warped > 0, tf.clip_by_value(images, 0.0, 1.0), 0.0)


def _uniform(batch: tf.Tensor, low: float, high: float, *, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform((batch,), seed, low, high)


def warp(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Rotate, scale, shift and mirror each image in one bilinear warp; pixels from outside the image are black.

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
    # The op maps target pixels to source pixels, so this is the inverse of: mirror and scale, rotate, shift.
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


def jitter_intensity(images: tf.Tensor, config: AugmentConfig, *, seed: tf.Tensor) -> tf.Tensor:
    """Change gamma, contrast and brightness of each image, and burn out its brightest parts.

    Args:
        images: Shape `(batch, size, size, 1)`, float32 in [0, 1].
        config: The ranges.
        seed: Shape `(2,)`.

    Returns:
        Changed images, same shape, float32; only what is burnt out is clipped.
    """
    batch = tf.shape(images)[0]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))

    def draw(low: float, high: float, *, index: int) -> tf.Tensor:
        return _uniform(batch, low, high, seed=seeds[index])[:, None, None, None]

    if config.clip_share:
        images = tf.minimum(images / draw(1 - config.clip_share, 1.0, index=3), 1.0)
    if config.gamma_share:
        log_gamma = math.log1p(config.gamma_share)
        images = images ** tf.exp(draw(-log_gamma, log_gamma, index=0))
    if config.contrast_share:
        images = (images - 0.5) * draw(1 - config.contrast_share, 1 + config.contrast_share, index=1) + 0.5
    if config.brightness_share:
        images = images + draw(-config.brightness_share, config.brightness_share, index=2)
    return images


def change_local_contrast(images: tf.Tensor, *, max_share: float, seed: tf.Tensor) -> tf.Tensor:
    """Raise or lower the difference of each image from its local mean, as the processing of other vendors does.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        max_share: The difference grows by a factor of up to `1 + max_share`, and shrinks to `1 - max_share / 2`.
        seed: Shape `(2,)`.

    Returns:
        Changed images, same shape, float32, not clipped.
    """
    batch, size = tf.shape(images)[0], tf.shape(images)[1:3]
    amount, width = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    # Means of coarser copies, drawn anew at the full size, cost little at any width.
    coarse = tf.nn.avg_pool2d(tf.nn.avg_pool2d(images, 8, 8, "SAME"), 3, 1, "SAME")
    fine = tf.nn.avg_pool2d(tf.nn.avg_pool2d(images, 2, 2, "SAME"), 3, 1, "SAME")
    is_wide = _uniform(batch, 0.0, 1.0, seed=width)[:, None, None, None] < 0.5
    mean = tf.where(is_wide, tf.image.resize(coarse, size), tf.image.resize(fine, size))
    share = _uniform(batch, -max_share / 2, max_share, seed=amount)[:, None, None, None]
    return images + share * (images - mean)


def blur(images: tf.Tensor, *, max_px: float, seed: tf.Tensor) -> tf.Tensor:
    """Blur each image with a Gaussian of random standard deviation, up to `max_px` pixels.

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
    # Kernels differ between images: a weighted sum of shifted copies is a batched separable convolution.
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
    """Add Gaussian noise of random standard deviation to each image, up to `max_share` of the grey range.

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
