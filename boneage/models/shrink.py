"""A layer that shrinks the image within a network, as records and inference shrink it before one."""

from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="boneage")
class Shrink(keras.layers.Layer):
    """Resize grey images by an antialiased triangle filter, to whole grey levels.

    Equal to `tf.image.resize(..., "bilinear", antialias=True)`, which tf2onnx cannot convert, and to Pillow's
    `BILINEAR`, rounded to 256 grey levels, but for values that lie halfway between two.

    Args:
        size_px: Height and width of the result.

    Input shape:
        `(batch, side, side, 1)`, float32 in [0, 1]; `side` is at least `size_px`.

    Output shape:
        `(batch, size_px, size_px, 1)`, float32 in [0, 1].
    """

    def __init__(self, size_px: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        self.size_px = size_px

    def build(self, input_shape: Any) -> None:
        """Compute the weight of each row of the image in each row of the result."""
        self.shares = make_shares(input_shape[1], self.size_px)

    def call(self, inputs: Any) -> Any:
        """Shrink the rows, then the columns."""
        rows = keras.ops.matmul(self.shares, keras.ops.squeeze(inputs, axis=-1))
        levels = 255 * keras.ops.matmul(rows, self.shares.T)
        return keras.ops.expand_dims(keras.ops.round(levels) / 255, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "size_px": self.size_px}


def make_shares(side_px: int, size_px: int) -> np.ndarray:
    """Return the share of each of `side_px` pixels in each of `size_px` larger ones, in one direction.

    Returns:
        Shape `(size_px, side_px)`, float32, non-negative; each row adds up to 1.
    """
    scale = side_px / size_px
    centres = (np.arange(size_px) + 0.5) * scale
    distances = np.abs(np.arange(side_px) + 0.5 - centres[:, None]) / scale
    shares = np.maximum(1 - distances, 0)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
