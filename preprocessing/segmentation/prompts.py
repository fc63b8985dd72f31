"""Prompts for Segment Anything from the radiograph itself: a box around the hand or film, a point on the palm."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.preprocessing.crop.crop import Box, bounding_box, shrink
from boneage.preprocessing.segmentation.film import find_film, find_foreground

_WORKING_SIZE_PX = 256
_MARGIN_SHARE = 0.1
# A foreground that covers less or more of the film is not a hand: the box is that of the film then, without a point.
_MIN_SHARE, _MAX_SHARE = 0.08, 0.6


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prompts for Segment Anything.

    Args:
        box: `(left, top, right, bottom)` in pixels of the frame.
        points: Points `(x, y)` on the hand, in pixels of the frame; may be none.
        points_outside: Points `(x, y)` off the hand; set by people only.
    """

    box: Box
    points: tuple[tuple[int, int], ...] = ()
    points_outside: tuple[tuple[int, int], ...] = ()

    def shift(self, right_px: int, down_px: int) -> "Prompts":
        """Return the prompts for a frame that begins further to the left and further up, by this many pixels."""
        left, top, right, bottom = self.box
        return Prompts(
            (left + right_px, top + down_px, right + right_px, bottom + down_px),
            points=tuple((x + right_px, y + down_px) for x, y in self.points),
            points_outside=tuple((x + right_px, y + down_px) for x, y in self.points_outside),
        )

    def rotate(self, quarter_turns: int, *, shape: tuple[int, int]) -> "Prompts":
        """Return the prompts for the rotated frame.

        Args:
            quarter_turns: Number of counter-clockwise quarter turns.
            shape: Height and width of the frame before the rotation, in pixels.
        """
        rotated, (height, width) = self, shape
        for _ in range(quarter_turns % 4):
            left, top, right, bottom = rotated.box
            rotated = Prompts(
                (top, width - right, bottom, width - left),
                points=tuple((y, width - 1 - x) for x, y in rotated.points),
                points_outside=tuple((y, width - 1 - x) for x, y in rotated.points_outside),
            )
            height, width = width, height
        return rotated


def find_prompts(pixels: UInt8[np.ndarray, "height width"]) -> Prompts:
    """Find the prompts for a radiograph.

    Args:
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The box is that of the film, or of the foreground with a margin if its size is that of a hand; the point is the
        one deepest inside the foreground, the middle of the palm in most radiographs.
    """
    small, _ = shrink(pixels, max_size_px=_WORKING_SIZE_PX)
    height, width = small.shape
    to_frame = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
    film = find_film(small)
    foreground = find_foreground(small, film=film)
    margin = _MARGIN_SHARE * max(height, width)
    known = foreground if _MIN_SHARE <= foreground.sum() / film.sum() <= _MAX_SHARE else film
    left, top, right, bottom = bounding_box(known)
    low = np.maximum(np.array([left, top]) - margin, 0) * to_frame
    high = np.minimum(np.array([right, bottom]) + margin, (width, height)) * to_frame
    box = (int(low[0]), int(low[1]), round(float(high[0])), round(float(high[1])))
    if known is film:
        return Prompts(box)
    depth = cv2.distanceTransform(np.pad(foreground, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), width)
    x, y = (np.array([column + 0.5, row + 0.5]) * to_frame).astype(int)
    return Prompts(box, points=((int(x), int(y)),))
