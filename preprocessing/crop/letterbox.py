"""Letterboxing: resize the whole frame onto the canvas of a network, pad it with black, and map points."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from boneage.preprocessing.crop.crop import resize


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """Placement of a frame in the middle of a canvas.

    Args:
        shape: Height and width of the frame in pixels.
        side_px: Longer side of the canvas in pixels, which the frame fills.
        shorter_px: Allowed lengths of its shorter side; the smallest that holds the frame is used, which saves padding
            (default: a square canvas).
    """

    shape: tuple[int, int]
    side_px: int
    shorter_px: tuple[int, ...] = ()

    @property
    def scale(self) -> float:
        """Pixels of the canvas for each pixel of the frame."""
        return self.side_px / max(self.shape)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frame within the canvas."""
        height, width = (max(1, round(side * self.scale)) for side in self.shape)
        return height, width

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        sides = *self.shorter_px, self.side_px
        height, width = (min(side for side in sides if side >= filled) for filled in self.frame_size)
        return height, width

    @property
    def frame_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the frame fills."""
        starts = ((length - side) // 2 for length, side in zip(self.canvas_size, self.frame_size, strict=True))
        rows, columns = (slice(start, start + side) for start, side in zip(starts, self.frame_size, strict=True))
        return rows, columns

    def apply(self, pixels: UInt8[np.ndarray, "height width"]) -> Float32[np.ndarray, "rows columns"]:
        """Put the frame onto the canvas: the range of values unchanged, 0 around it."""
        height, width = self.frame_size
        canvas = np.zeros(self.canvas_size, np.float32)
        canvas[self.frame_slices] = resize(pixels, size=(width, height))
        return canvas

    def map_points(self, points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Map points `(x, y)` from the frame to the canvas."""
        rows, columns = self.frame_slices
        height, width = self.shape
        ratio = np.array([self.frame_size[1] / width, self.frame_size[0] / height])
        mapped: Float[np.ndarray, "points 2"] = (points + 0.5) * ratio - 0.5 + (columns.start, rows.start)
        return mapped


def resize_map(values: Float32[np.ndarray, "rows columns"], *, shape: tuple[int, int]) -> Float32[np.ndarray, "..."]:
    """Resize a coarse map over a frame to the size of the frame.

    Cubic interpolation where it grows: the outline between coarse pixels is smooth.

    Args:
        values: The map, any size.
        shape: Height and width of the frame in pixels.
    """
    interpolation = cv2.INTER_CUBIC if max(shape) > max(values.shape) else cv2.INTER_AREA
    return cv2.resize(values, (shape[1], shape[0]), interpolation=interpolation)
