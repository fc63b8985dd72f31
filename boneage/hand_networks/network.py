"""Architecture, training and export shared by the hand networks."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from boneage.base.files import write_atomic
from boneage.base.limits import cpu_count
from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.models.fused_batch_norm import fuse_batch_norm
from boneage.preprocessing.training_data.half_precision import store_weights_as_float16
from boneage.training.optimizer import build_optimizer

Batch = tuple[np.ndarray, np.ndarray]


def build_unet(*, size_px: int, widths: Sequence[int], num_maps: int, stride: int, name: str) -> keras.Model:
    """Build a U-Net with a first convolution of stride 2 and an output of the same or a lower resolution.

    After Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28, with "same" padding and batch normalisation.

    Args:
        size_px: Height and width of the input in pixels, a multiple of `2 ** len(widths)`.
        widths: Number of channels of each level, from half the input size downwards.
        num_maps: Number of output maps.
        stride: Number of input pixels per output pixel: 1, 2, 4 ...
        name: Name of the network.

    Input shape:
        `"image"`: `(batch, size_px, size_px, 1)`, float32 in [0, 1].

    Output shape:
        Logits, `(batch, size_px / stride, size_px / stride, num_maps)`, float32.

    Raises:
        ValueError: If `size_px` is not a multiple of `2 ** len(widths)`, or `stride` is not a stride of the decoder.
    """
    if size_px % 2 ** len(widths):
        raise ValueError(f"`size_px` must be a multiple of {2 ** len(widths)}. Received: size_px={size_px}.")
    strides = [2**level for level in range(len(widths))]
    if stride not in strides:
        raise ValueError(f"`stride` must be one of {', '.join(map(str, strides))}. Received: stride={stride}.")

    def convolve(x: Any, channels: int, name: str, strides: int = 1) -> Any:
        x = keras.layers.Conv2D(channels, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(momentum=0.97, name=f"{name}_norm")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    image = x = keras.Input((size_px, size_px, 1), name="image", dtype="float32")
    kept = {1: image}
    for level, channels in enumerate(widths):
        x = convolve(x, channels, f"down_{level}_a", strides=2)
        x = kept[2 ** (level + 1)] = convolve(x, channels, f"down_{level}_b")
    for level in reversed(range(strides.index(stride), len(widths))):
        x = keras.layers.UpSampling2D(interpolation="bilinear", name=f"up_{level}")(x)
        x = keras.layers.Concatenate(name=f"up_{level}_join")([x, kept[2**level]])
        x = convolve(x, widths[level - 1] if level else 16, f"up_{level}_conv")
    x = keras.layers.Conv2D(num_maps, 3, padding="same", dtype="float32", name="logits")(x)
    return keras.Model(image, x, name=name)


class _AugmentedBatches(keras.utils.PyDataset):
    """Random batches; a batch depends only on the seed and its index."""

    def __init__(self, sample_batch: Callable[[np.random.Generator], Batch], config: HandTrainingConfig):
        super().__init__(workers=cpu_count(), use_multiprocessing=False, max_queue_size=16)
        self.sample_batch, self.config = sample_batch, config

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, index: int) -> Batch:
        return self.sample_batch(np.random.default_rng((self.config.seed, index)))


def train_hand_network(
    build: Callable[[], keras.Model],
    *,
    sample_batch: Callable[[np.random.Generator], Batch],
    loss: Callable[[Any, Any], Any],
    config: HandTrainingConfig,
) -> keras.Model:
    """Train a network on random batches.

    Args:
        build: Builds the network; called after the seed is set.
        sample_batch: Samples a batch with a random generator: images, float32 `(batch, size, size, 1)` in [0, 1], and
            targets.
        loss: Function of targets and logits that returns the loss of each image.
        config: The training settings.

    Returns:
        The trained network.
    """
    keras.utils.set_random_seed(config.seed)
    model = build()
    trained = fuse_batch_norm(model)
    optimizer = build_optimizer(
        config.learning_rate,
        steps=config.steps,
        warmup_steps=config.steps // 20,
        weight_decay=config.weight_decay,
    )
    trained.compile(optimizer, loss=loss, jit_compile=False)
    trained.fit(_AugmentedBatches(sample_batch, config), epochs=1, shuffle=False, verbose=1 if os.isatty(1) else 2)
    model.set_weights(trained.get_weights())
    return model


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write a network as ONNX, atomically, weights in half precision."""
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called.
    with write_atomic(path) as temporary:
        model.export(temporary, format="onnx", verbose=False)
        store_weights_as_float16(temporary)
