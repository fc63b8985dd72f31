"""Other renderings of a radiograph whose hand cannot be trusted as it is: soft tissue lifted, and close up."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.preprocessing.crop.crop import Box, bounding_box, shrink
from boneage.preprocessing.segmentation.film import find_film, find_foreground

AS_IT_IS = "as it is"
_SOFT_TISSUE_GAMMA = 0.45
_WORKING_SIZE_PX = 256
# Margin of a close-up, as a share of the longer side of what it shows; networks see larger objects well enough.
_MARGIN_SHARE = 0.3
_MAX_CLOSE_UP_SHARE = 0.65


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
    """A radiograph rendered in another way.

    Args:
        name: What was done.
        pixels: Its grey values, uint8.
        corner: Place `(x, y)` in the frame, in pixels, of its upper left pixel.
    """

    name: str
    pixels: UInt8[np.ndarray, "rows columns"]
    corner: tuple[int, int] = (0, 0)


def lift_soft_tissue(pixels: UInt8[np.ndarray, "height width"]) -> Rendering:
    """Lift the grey values of soft tissue, which plates print nearly black.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
    """
    table = np.rint((np.arange(256) / 255) ** _SOFT_TISSUE_GAMMA * 255).astype(np.uint8)
    return Rendering("U-Net, soft tissue lifted", cv2.LUT(pixels, table))


def render_close_up(pixels: UInt8[np.ndarray, "height width"]) -> Rendering | None:
    """Show the bright object of a radiograph, or its film, close up; None if it is large already.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
    """
    left, top, right, bottom = find_close_up(pixels)
    if max((right - left) / pixels.shape[1], (bottom - top) / pixels.shape[0]) >= _MAX_CLOSE_UP_SHARE:
        return None
    return Rendering("close-up", np.ascontiguousarray(pixels[top:bottom, left:right]), (left, top))


def find_close_up(pixels: UInt8[np.ndarray, "height width"]) -> Box:
    """Return the box around the bright object of a radiograph, or around its film, with a margin, in pixels."""
    height, width = pixels.shape
    small, scale = shrink(pixels, max_size_px=_WORKING_SIZE_PX)
    foreground = find_foreground(small, film=find_film(small))
    if not foreground.any():
        return 0, 0, width, height
    left, top, right, bottom = bounding_box(foreground)
    margin = _MARGIN_SHARE * max(right - left, bottom - top)
    low = np.floor(np.array([left - margin, top - margin]) / scale).astype(int)
    high = np.ceil(np.array([right + margin, bottom + margin]) / scale).astype(int)
    return max(0, int(low[0])), max(0, int(low[1])), min(width, int(high[0])), min(height, int(high[1]))
