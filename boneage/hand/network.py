"""What the hand networks share: one encoder with a decoder, one way to train it, one way to export it."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from boneage.models.fused import fuse
from boneage.optimizer import build_optimizer
from preprocessing.shipping import halve_weights
from tfrecords.errors import check_positive

Batch = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class HandTraining:
    """How a hand network is trained.

    Args:
        steps: Number of batches.
        batch_size: Radiographs in a batch.
        learning_rate: Highest learning rate; reached after a twentieth of the steps, then lowered to zero.
        weight_decay: Decoupled weight decay of kernels.
        seed: Seed of everything random.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self):
        """Check every value."""
        check_positive(self, "steps", "batch_size", "learning_rate")


def build_unet(*, size_px: int, widths: Sequence[int], num_maps: int, stride: int, name: str) -> keras.Model:
    """Build a U-Net whose encoder begins with a convolution of stride 2 and whose decoder may end early.

    After Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28, with "same" padding and batch normalisation.

    Args:
        size_px: Side of the input in pixels, a multiple of `2 ** len(widths)`.
        widths: Channels from half the size downwards.
        num_maps: Number of maps that come out.
        stride: Input pixels for each pixel of a map: 1, 2, 4 ...
        name: Name of the network.

    Input shape:
        `"image"`: `(batch, size_px, size_px, 1)`, float32 in [0, 1].

    Output shape:
        Logits, `(batch, size_px / stride, size_px / stride, num_maps)`, float32.

    Raises:
        ValueError: If `size_px` cannot be halved as often as needed, or `stride` is none of the decoder's.
    """
    if size_px % 2 ** len(widths):
        raise ValueError(f"`size_px` must be a multiple of {2 ** len(widths)}. Received: size_px={size_px}.")
    strides = [2**level for level in range(len(widths))]
    if stride not in strides:
        raise ValueError(f"`stride` must be one of {', '.join(map(str, strides))}. Received: stride={stride}.")

    def convolve(x, channels, name, strides=1):
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


class _Looks(keras.utils.PyDataset):
    """Batches drawn by a function of a generator; batch `index` depends on the seed and its index alone."""

    def __init__(self, draw: Callable[[np.random.Generator], Batch], config: HandTraining):
        super().__init__(workers=os.cpu_count() or 1, use_multiprocessing=False, max_queue_size=16)
        self.draw, self.config = draw, config

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, index: int) -> Batch:
        return self.draw(np.random.default_rng((self.config.seed, index)))


def train_hand_network(
    build: Callable[[], keras.Model],
    *,
    draw: Callable[[np.random.Generator], Batch],
    loss: Callable[[Any, Any], Any],
    config: HandTraining,
) -> keras.Model:
    """Train a network on batches that are drawn anew at every step.

    Args:
        build: Builds the network; called once the seed is set.
        draw: From a random generator to a batch: images float32 `(batch, size, size, 1)` in [0, 1], and the truth.
        loss: From truth and logits to the loss of each image.
        config: How.

    Returns:
        The trained network.
    """
    keras.utils.set_random_seed(config.seed)
    model = build()
    trained = fuse(model)
    optimizer = build_optimizer(
        config.learning_rate,
        steps=config.steps,
        warmup_steps=config.steps // 20,
        weight_decay=config.weight_decay,
    )
    trained.compile(optimizer, loss=loss, jit_compile=False)
    trained.fit(_Looks(draw, config), epochs=1, shuffle=False, verbose=1 if os.isatty(1) else 2)
    model.set_weights(trained.get_weights())
    return model


def export_onnx(model: keras.Model, path: Path) -> None:
    """Write a network as ONNX, weights in half precision, beside its place and then renamed."""
    beside = path.with_name(path.stem + ".part.onnx")
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called.
    model.export(beside, format="onnx", verbose=False)
    halve_weights(beside)
    os.replace(beside, path)
