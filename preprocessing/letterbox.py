"""The square that a network sees: the whole frame shrunk or enlarged to fit, black around it; and the way back."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from preprocessing.crop import resize


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """How a frame lies in a square.

    Args:
        shape: Height and width of the frame in pixels.
        side_px: Side of the square in pixels.
    """

    shape: tuple[int, int]
    side_px: int

    @property
    def scale(self) -> float:
        """Pixels of the square for each pixel of the frame."""
        return self.side_px / max(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame within the square."""
        height, width = (max(1, round(side * self.scale)) for side in self.shape)
        return height, width

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the frame fills."""
        (height, width), side = self.size, self.side_px
        top, left = (side - height) // 2, (side - width) // 2
        return slice(top, top + height), slice(left, left + width)

    def place(self, pixels: UInt8[np.ndarray, "height width"]) -> Float32[np.ndarray, "side side"]:
        """Put the frame into the square, values unchanged, 0 around it."""
        height, width = self.size
        square = np.zeros((self.side_px, self.side_px), np.float32)
        square[self.inside] = resize(pixels, size=(width, height))
        return square

    def place_points(self, points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Return where points `(x, y)` of the frame lie in the square."""
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
