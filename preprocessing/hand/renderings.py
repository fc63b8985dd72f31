"""Other renderings of a radiograph whose hand cannot be trusted as it is: soft tissue lifted, and close up."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from boneage.preprocessing.crop.contrast import find_percentiles, stretch_between
from boneage.preprocessing.crop.crop import Box, bounding_box, shrink
from boneage.preprocessing.segmentation.film import find_film, find_foreground

AS_IT_IS = "as it is"
_SOFT_TISSUE_GAMMA = 0.7
_WORKING_SIZE_PX = 256
# Margin of a close-up, as a share of the longer side of what it shows; networks see larger objects well enough.
_MARGIN_SHARE = 0.3
_MAX_CLOSE_UP_SHARE = 0.65


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
    """A radiograph rendered in another way.

    Args:
        name: What was done.
        pixels: What networks see, uint8, bright bone.
        frame: The whole radiograph in the contrast that crops get, uint8, bright bone.
        grey_levels: Number of grey levels of the file that the 256 of `pixels` stand for.
        corner: Place `(x, y)` of `pixels` in the frame, in pixels.
    """

    name: str
    pixels: UInt8[np.ndarray, "rows columns"]
    frame: UInt8[np.ndarray, "height width"]
    grey_levels: int
    corner: tuple[int, int] = (0, 0)


def lift_soft_tissue(rendering: Rendering) -> Rendering:
    """Lift the grey values of soft tissue, which plates print nearly black.

    Args:
        rendering: The whole radiograph, or a close-up.
    """
    table = np.rint((np.arange(256) / 255) ** _SOFT_TISSUE_GAMMA * 255).astype(np.uint8)
    return dataclasses.replace(rendering, name="U-Net, soft tissue lifted", pixels=cv2.LUT(rendering.pixels, table))


def render_close_up(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
    box: Box,
    *,
    percentiles: tuple[float, float],
) -> Rendering | None:
    """Show a part of a radiograph close up, in its own contrast: a small hand is brighter than 99% of its plate.

    Args:
        pixels: Radiograph as the file has it, bright bone.
        box: `(left, top, right, bottom)` of the part, in pixels.
        percentiles: Percentiles of the part's grey values that become black and white.

    Returns:
        The close-up; None if the part is large already.
    """
    left, top, right, bottom = box
    if max((right - left) / pixels.shape[1], (bottom - top) / pixels.shape[0]) >= _MAX_CLOSE_UP_SHARE:
        return None
    part = slice(top, bottom), slice(left, right)
    low, high = find_percentiles(np.ascontiguousarray(pixels[part]), *percentiles)
    frame = stretch_between(pixels, low, high)
    return Rendering("close-up", np.ascontiguousarray(frame[part]), frame, high - low, (left, top))


def find_close_up(pixels: UInt8[np.ndarray, "height width"]) -> Box:
    """Return the box around the bright object of a radiograph, or around its film, with a margin.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.

    Returns:
        `(left, top, right, bottom)` in pixels; the whole frame if nothing is bright.
    """
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
