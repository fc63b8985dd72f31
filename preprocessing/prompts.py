"""Prompts for Segment Anything, read from the radiograph itself: a box around the hand or film, a point on the palm."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8

from preprocessing.crop import Box, bounding_box, shrink
from preprocessing.film import find_film, find_foreground

_LOOK_PX = 256
_MARGIN_SHARE = 0.1
# Where the foreground covers less or more of the film, it is no hand, and the film alone is the prompt.
_MIN_SHARE, _MAX_SHARE = 0.08, 0.6


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What Segment Anything is told.

    Args:
        box: `(left, top, right, bottom)` in pixels of the frame.
        points: Points `(x, y)` on the hand, in pixels of the frame; may be none.
        points_outside: Points `(x, y)` not on the hand, which people alone tell.
    """

    box: Box
    points: tuple[tuple[int, int], ...] = ()
    points_outside: tuple[tuple[int, int], ...] = ()

    def turn(self, quarters: int, *, shape: tuple[int, int]) -> "Prompts":
        """Return where they lie once the frame is turned.

        Args:
            quarters: By how often 90 degrees, counter-clockwise.
            shape: Height and width of the frame before, in pixels.
        """
        turned, (height, width) = self, shape
        for _ in range(quarters % 4):
            left, top, right, bottom = turned.box
            turned = Prompts(
                (top, width - right, bottom, width - left),
                points=tuple((y, width - 1 - x) for x, y in turned.points),
                points_outside=tuple((y, width - 1 - x) for x, y in turned.points_outside),
            )
            height, width = width, height
        return turned


def find_prompts(pixels: UInt8[np.ndarray, "height width"]) -> Prompts:
    """Read the prompts from a radiograph.

    Args:
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The box is the film, or the foreground with a margin where that looks like a hand; the point is the place
        deepest inside the foreground, which is the palm's middle in most radiographs.
    """
    small, _ = shrink(pixels, max_size_px=_LOOK_PX)
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
