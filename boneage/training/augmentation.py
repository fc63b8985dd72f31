"""Augmentation of batches in the training step: one affine warp, a table of tones, local contrast, blur and noise.

Black pixels lie outside the hand, or outside the film: they stay black, as in prediction.

All random numbers of a radiograph are drawn by the seed of the training and its place in the stream of radiographs: a
resumed run, several devices and several machines augment it as one uninterrupted run on one device does. What has a
range of zero is not computed.
"""

import functools
import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig

DRAWS = (
    *("angle", "zoom", "narrow", "shift_x", "shift_y", "flip"),
    *("clip", "gamma", "contrast", "brightness"),
    *("local_contrast", "local_width", "blur", "noise", "noise_seed"),
    "age",
)
"""What is drawn for each radiograph, whether it is used or not."""

# Seeds of the noise are whole numbers below it: a draw in float32 has 23 bits.
_NUM_SEEDS = 2**23
_NUM_LEVELS = 256

Drawn = Mapping[str, tf.Tensor]


def draw(seed: int, *, step: tf.Tensor, batch_size: int, worker: int = 0, num_workers: int = 1) -> tf.Tensor:
    """Draw the random numbers of a batch; of several workers each gets those of its radiographs.

    Args:
        seed: Seed of the training.
        step: Number of the global batch since the training began, int64.
        batch_size: Number of radiographs in the global batch.
        worker: Index of the worker.
        num_workers: Number of workers.

    Returns:
        Uniform in [0, 1), one column for each of `DRAWS`, float32 `(batch_size / num_workers, draws)`.
    """
    key = tf.stack([tf.constant(seed, tf.int64), step])
    return tf.random.stateless_uniform((batch_size, len(DRAWS)), key, alg="philox")[worker::num_workers]


@functools.cache
def build_augmentation(config: AugmentConfig) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Build the function from the images and the draws of a batch to augmented images, compiled by XLA.

    Compiled it needs a quarter of the time on a CPU: the operations are one pass over the images. It is compiled once
    in a process, for all phases of a training and all trials of a search.

    Args:
        config: The ranges.
    """
    compiled: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(
        functools.partial(augment, config=config), jit_compile=True, autograph=False
    )
    return compiled


def to_values(images: tf.Tensor) -> tf.Tensor:
    """Convert grey levels, uint8 or int32, to the values that networks take, float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / (_NUM_LEVELS - 1)


def augment(images: tf.Tensor, draws: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Augment a batch.

    Args:
        images: Shape `(batch, size, size, 1)`, uint8.
        draws: From `draw`.
        config: The ranges.

    Returns:
        Augmented images, same shape, float32 in [0, 1].
    """
    drawn = dict(zip(DRAWS, tf.unstack(draws, axis=1), strict=True))
    is_moved = any(
        (config.rotation_degrees, config.shift_share, config.zoom_share, config.narrow_share, config.flip_share)
    )
    is_toned = any((config.clip_share, config.gamma_share, config.contrast_share, config.brightness_share))
    levels = warp(images, config, drawn) if is_moved else tf.cast(images, tf.int32)
    changed = change_tones(levels, config, drawn) if is_toned else to_values(levels)
    if config.local_contrast_share:
        changed = change_local_contrast(changed, drawn, max_share=config.local_contrast_share)
    if config.blur_px:
        changed = blur(changed, drawn, max_px=config.blur_px)
    if config.noise_share:
        changed = add_noise(changed, drawn, max_share=config.noise_share)
    return tf.where(levels > 0, tf.clip_by_value(changed, 0.0, 1.0), 0.0)


def _between(low: float, high: float, drawn: tf.Tensor) -> tf.Tensor:
    return low + (high - low) * drawn


def warp(images: tf.Tensor, config: AugmentConfig, drawn: Drawn) -> tf.Tensor:
    """Rotate, scale, shift and mirror each image in one bilinear warp; pixels from outside the image are black.

    Args:
        images: Shape `(batch, size, size, 1)`, uint8.
        config: The ranges.
        drawn: The draws, float32 `(batch,)` each.

    Returns:
        Grey levels of the warped images, same shape, int32 in [0, 255].
    """
    size = images.shape[1]
    radians = config.rotation_degrees * math.pi / 180
    angle = _between(-radians, radians, drawn["angle"])
    zoom = _between(1 - config.zoom_share, 1 + config.zoom_share, drawn["zoom"])
    narrow = _between(1 - config.narrow_share, 1.0, drawn["narrow"])
    shift_x, shift_y = (
        size * _between(-config.shift_share, config.shift_share, drawn[name]) for name in ("shift_x", "shift_y")
    )
    mirror = tf.where(drawn["flip"] < config.flip_share, -1.0, 1.0)
    # From target pixels to source pixels, so this is the inverse of: mirror and scale, rotate, shift.
    inverse_x, inverse_y = mirror / (zoom * narrow), 1 / zoom
    cosine, sine = tf.cos(angle), tf.sin(angle)
    middle = (size - 1) / 2
    places = tf.range(size, dtype=tf.float32) - middle
    across, down = places[None] - shift_x[:, None], places[None] - shift_y[:, None]

    def locate(of_x: tf.Tensor, of_y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the pixel before each place on one axis, from -1, and the distance from it in [0, 1]."""
        along = of_x[:, None, None] * across[:, None] + of_y[:, None, None] * down[:, :, None] + middle
        along = tf.clip_by_value(along, -1.0, float(size))
        before = tf.minimum(tf.floor(along), size - 1.0)
        return tf.cast(before, tf.int32), along - before

    column, right = locate(inverse_x * cosine, -inverse_x * sine)
    row, below = locate(inverse_y * sine, inverse_y * cosine)
    # The four neighbours of a place lie in the bytes of one number, which one gather fetches; the border is black.
    padded = tf.cast(tf.pad(images[..., 0], [[0, 0], [1, 1], [1, 1]]), tf.int32)
    corners = (padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:])
    packed = functools.reduce(
        tf.bitwise.bitwise_or,
        [tf.bitwise.left_shift(corner, 8 * number) for number, corner in enumerate(corners)],
    )
    fetched = tf.gather(_flatten(packed), _flatten((row + 1) * (size + 1) + column + 1), batch_dims=1)
    fetched = tf.reshape(fetched, (-1, size, size))
    first, second, third, fourth = (
        tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(fetched, 8 * number), _NUM_LEVELS - 1), tf.float32)
        for number in range(4)
    )
    above = first + right * (second - first)
    beneath = third + right * (fourth - third)
    return tf.cast(tf.round(above + below * (beneath - above)), tf.int32)[..., None]


def _flatten(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, (-1, math.prod(values.shape[1:])))


def change_tones(levels: tf.Tensor, config: AugmentConfig, drawn: Drawn) -> tf.Tensor:
    """Change gamma, contrast and brightness of each image, and burn out its brightest parts, by a table.

    Args:
        levels: Grey levels, shape `(batch, size, size, 1)`, int32 in [0, 255].
        config: The ranges.
        drawn: The draws, float32 `(batch,)` each.

    Returns:
        Changed values, same shape, float32; only what is burnt out is clipped.
    """
    table = to_values(tf.range(_NUM_LEVELS))[None]

    def between(low: float, high: float, name: str) -> tf.Tensor:
        return _between(low, high, drawn[name])[:, None]

    if config.clip_share:
        table = tf.minimum(table / between(1 - config.clip_share, 1.0, "clip"), 1.0)
    if config.gamma_share:
        log_gamma = math.log1p(config.gamma_share)
        table = table ** tf.exp(between(-log_gamma, log_gamma, "gamma"))
    if config.contrast_share:
        table = (table - 0.5) * between(1 - config.contrast_share, 1 + config.contrast_share, "contrast") + 0.5
    if config.brightness_share:
        table = table + between(-config.brightness_share, config.brightness_share, "brightness")
    return tf.reshape(tf.gather(table, _flatten(levels), batch_dims=1), tf.shape(levels))


def change_local_contrast(images: tf.Tensor, drawn: Drawn, *, max_share: float) -> tf.Tensor:
    """Raise or lower the difference of each image from its local mean, as the processing of other vendors does.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        drawn: The draws, float32 `(batch,)` each.
        max_share: The difference grows by a factor of up to `1 + max_share`, and shrinks to `1 - max_share / 2`.

    Returns:
        Changed images, same shape, float32, not clipped.
    """
    size = images.shape[1:3]
    # Means of coarser copies, drawn anew at the full size, cost little at any width.
    coarse = tf.nn.avg_pool2d(tf.nn.avg_pool2d(images, 8, 8, "SAME"), 3, 1, "SAME")
    fine = tf.nn.avg_pool2d(tf.nn.avg_pool2d(images, 2, 2, "SAME"), 3, 1, "SAME")
    is_wide = drawn["local_width"][:, None, None, None] < 0.5
    mean = tf.where(is_wide, tf.image.resize(coarse, size), tf.image.resize(fine, size))
    share = _between(-max_share / 2, max_share, drawn["local_contrast"])[:, None, None, None]
    return images + share * (images - mean)


def blur(images: tf.Tensor, drawn: Drawn, *, max_px: float) -> tf.Tensor:
    """Blur each image with a Gaussian of random standard deviation, up to `max_px` pixels.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        drawn: The draws, float32 `(batch,)` each.
        max_px: Largest standard deviation in pixels.

    Returns:
        Blurred images, same shape, float32.
    """
    size, radius = images.shape[1], math.ceil(2 * max_px)
    sigma = tf.maximum(_between(0.0, max_px, drawn["blur"]), 1e-3)[:, None]
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)[None]
    kernel = tf.nn.softmax(-0.5 * (offsets / sigma) ** 2, axis=1)
    # Kernels differ between images: a weighted sum of shifted copies is a batched separable convolution.
    for axis in (1, 2):
        padding = [[0, 0], [0, 0], [0, 0], [0, 0]]
        padding[axis] = [radius, radius]
        padded = tf.pad(images, padding, "SYMMETRIC")
        copies = [padded[:, step : step + size] for step in range(2 * radius + 1)]
        if axis == 2:
            copies = [padded[:, :, step : step + size] for step in range(2 * radius + 1)]
        images = tf.add_n([copy * kernel[:, step, None, None, None] for step, copy in enumerate(copies)])
    return images


def add_noise(images: tf.Tensor, drawn: Drawn, *, max_share: float) -> tf.Tensor:
    """Add Gaussian noise of random standard deviation to each image, up to `max_share` of the grey range.

    Args:
        images: Shape `(batch, size, size, 1)`, float32.
        drawn: The draws, float32 `(batch,)` each.
        max_share: Largest standard deviation.

    Returns:
        Noisy images, same shape, float32, not clipped.
    """
    shape = images.shape[1:]
    # One image after the other, so that its noise does not depend on its place in the batch.
    noise = tf.map_fn(
        lambda seed: tf.random.stateless_normal(shape, tf.stack([seed, 0]), alg="philox"),
        tf.cast(drawn["noise_seed"] * _NUM_SEEDS, tf.int32),
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return images + _between(0.0, max_share, drawn["noise"])[:, None, None, None] * noise
