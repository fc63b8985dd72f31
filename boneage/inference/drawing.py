"""Images of a reading: the radiograph with the outline of the hand, the crop, and its occlusion map."""

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.bundles.bundle import Bundle
from boneage.inference.occlusion import draw_occlusion_map, measure_occlusion
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.crop.crop import shrink
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.jobs.contact_sheets import draw_outline

_LONGEST_PX = 720
_JPEG_QUALITY = 85
_OUTLINE_BGR = (80, 220, 80)


def draw_radiograph(radiograph: Radiograph, hand: Hand | None) -> bytes:
    """Draw a radiograph like `outline_hand`, as a JPEG of at most 720 pixels on its longest side."""
    return _encode(outline_hand(radiograph, hand, max_size_px=_LONGEST_PX))


def outline_hand(radiograph: Radiograph, hand: Hand | None, *, max_size_px: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a radiograph, with the outline of the hand if one was found.

    Args:
        radiograph: The radiograph.
        hand: The detected hand, or None.
        max_size_px: Maximum length of the longest side, in pixels.

    Returns:
        The image, uint8, channels blue, green, red.
    """
    shown = stretch_contrast(radiograph.pixels) if hand is None else hand.pixels
    pixels, _ = shrink(shown, max_size_px=max_size_px)
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if hand is not None:
        width_px = max(1, round(max(pixels.shape) / 350))
        draw_outline(picture, hand.segmentation.mask, colour=_OUTLINE_BGR, width_px=width_px)
    return picture


def draw_outline_png(radiograph: Radiograph, hand: Hand | None, *, longest_px: int = 480) -> bytes:
    """Draw a radiograph like `outline_hand`, as a PNG of at most `longest_px` pixels on its longest side."""
    _, png = cv2.imencode(".png", outline_hand(radiograph, hand, max_size_px=longest_px))
    return png.tobytes()


def draw_plain(pixels: UInt8[np.ndarray, "height width"], *, longest_px: int = _LONGEST_PX) -> bytes:
    """Draw a contrast-normalised radiograph as JPEG, downscaled to at most `longest_px` if necessary."""
    return _encode(shrink(pixels, max_size_px=longest_px)[0])


def draw_crop(crop: UInt8[np.ndarray, "size size"]) -> bytes:
    """Draw a crop as PNG, without resampling."""
    _, png = cv2.imencode(".png", crop)
    return png.tobytes()


def draw_occlusion_png(
    bundle: Bundle, crop: UInt8[np.ndarray, "size size"], *, male: float, age_months: float | None = None
) -> bytes:
    """Draw the occlusion map of a crop as PNG; see `boneage.inference.occlusion`. It takes a second or two."""
    overlay = draw_occlusion_map(crop, measure_occlusion(bundle, crop, male=male, age_months=age_months))
    _, png = cv2.imencode(".png", np.ascontiguousarray(overlay[..., ::-1]))
    return png.tobytes()


def _encode(picture: UInt8[np.ndarray, "..."]) -> bytes:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
