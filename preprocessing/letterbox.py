"""The canvas that a network sees: the whole frame shrunk or enlarged to fit, black around it; and the way back."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from preprocessing.crop import resize


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """How a frame lies in the middle of a canvas.

    Args:
        shape: Height and width of the frame in pixels.
        side_px: Longer side of the canvas in pixels, which the frame fills.
        shorter_px: What its shorter side may be, so that black which only fills up a square is left out; the least that
            holds the frame is taken. Without, it is a square.
    """

    shape: tuple[int, int]
    side_px: int
    shorter_px: tuple[int, ...] = ()

    @property
    def scale(self) -> float:
        """Pixels of the canvas for each pixel of the frame."""
        return self.side_px / max(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame within the canvas."""
        height, width = (max(1, round(side * self.scale)) for side in self.shape)
        return height, width

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        sides = *self.shorter_px, self.side_px
        height, width = (min(each for each in sides if each >= filled) for filled in self.size)
        return height, width

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the frame fills."""
        starts = ((canvas - side) // 2 for canvas, side in zip(self.canvas, self.size, strict=True))
        rows, columns = (slice(start, start + side) for start, side in zip(starts, self.size, strict=True))
        return rows, columns

    def place(self, pixels: UInt8[np.ndarray, "height width"]) -> Float32[np.ndarray, "rows columns"]:
        """Put the frame onto the canvas, values unchanged, 0 around it."""
        height, width = self.size
        canvas = np.zeros(self.canvas, np.float32)
        canvas[self.inside] = resize(pixels, size=(width, height))
        return canvas

    def place_points(self, points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Return where points `(x, y)` of the frame lie on the canvas."""
        rows, columns = self.inside
        height, width = self.shape
        ratio = np.array([self.size[1] / width, self.size[0] / height])
        return (points + 0.5) * ratio - 0.5 + (columns.start, rows.start)


def resize_map(values: Float32[np.ndarray, "rows columns"], *, shape: tuple[int, int]) -> Float32[np.ndarray, "..."]:
    """Bring a coarse map over a frame to the frame's own size.

    Cubic where it grows: an outline between two coarse pixels is smooth, and so is what it is cut from.

    Args:
        values: The map, any size.
        shape: Height and width of the frame in pixels.
    """
    how = cv2.INTER_CUBIC if max(shape) > max(values.shape) else cv2.INTER_AREA
    return cv2.resize(values, (shape[1], shape[0]), interpolation=how)
