"""Other renderings of a radiograph whose hand cannot be trusted as it is: brighter, darker, and closer."""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.preprocessing.crop.crop import Box, bounding_box, shrink
from boneage.preprocessing.segmentation.film import find_film, find_foreground

# Gamma of the grey values: plates printed with black soft tissue need it lifted, an equalised film its ground darkened.
_GAMMAS = (0.45, 0.3, 2.2)
_WORKING_SIZE_PX = 256
# Margin of a close-up, as a share of the longer side of what it shows; one that shows nearly all brings nothing.
_MARGIN_SHARE = 0.3
_MAX_CLOSE_UP_SHARE = 0.7

AS_IT_IS = "as it is"


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
    """A radiograph rendered in another way.

    Args:
        name: What was done.
        pixels: Its grey values, uint8.
        box: `(left, top, right, bottom)` of the part of the frame that it shows, in pixels.
    """

    name: str
    pixels: UInt8[np.ndarray, "rows columns"]
    box: Box


def render_otherwise(pixels: UInt8[np.ndarray, "height width"]) -> Iterator[Rendering]:
    """Yield other renderings of a radiograph, the most promising first.

    Args:
        pixels: Contrast-normalised radiograph.
    """
    height, width = pixels.shape
    greys = np.arange(256) / 255
    for gamma in _GAMMAS:
        table = np.rint(greys**gamma * 255).astype(np.uint8)
        yield Rendering(f"gamma {gamma}", cv2.LUT(pixels, table), (0, 0, width, height))
    left, top, right, bottom = box = find_close_up(pixels)
    if max((right - left) / width, (bottom - top) / height) < _MAX_CLOSE_UP_SHARE:
        yield Rendering("close-up", np.ascontiguousarray(pixels[top:bottom, left:right]), box)


def find_close_up(pixels: UInt8[np.ndarray, "height width"]) -> Box:
    """Return the box around the bright object of a radiograph, or around its film, with a margin, in pixels."""
    height, width = pixels.shape
    small, scale = shrink(pixels, max_size_px=_WORKING_SIZE_PX)
    left, top, right, bottom = bounding_box(find_foreground(small, film=find_film(small)))
    margin = _MARGIN_SHARE * max(right - left, bottom - top)
    low = np.floor(np.array([left - margin, top - margin]) / scale).astype(int)
    high = np.ceil(np.array([right + margin, bottom + margin]) / scale).astype(int)
    return max(0, int(low[0])), max(0, int(low[1])), min(width, int(high[0])), min(height, int(high[1]))
