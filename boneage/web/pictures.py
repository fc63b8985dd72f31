"""Pictures of a reading: the radiograph with the outline of the hand, and the crop."""

import cv2
import numpy as np
from jaxtyping import UInt8

from boneage.bundle import Bundle
from boneage.heatmap import draw_heat_map, measure_importance
from preprocessing.contrast import stretch_contrast
from preprocessing.crop import shrink
from preprocessing.hand import Hand
from preprocessing.radiograph import Radiograph
from preprocessing.sheets import draw_outline

_LONGEST_PX = 720
_JPEG_QUALITY = 85
_OUTLINE_BGR = (80, 220, 80)


def draw_radiograph(radiograph: Radiograph, hand: Hand | None) -> bytes:
    """Draw a radiograph as `outline_hand` does: a JPEG whose longest side is at most 720 pixels."""
    return _encode(outline_hand(radiograph, hand, max_size_px=_LONGEST_PX))


def outline_hand(radiograph: Radiograph, hand: Hand | None, *, max_size_px: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a radiograph, with the outline of the hand where one was found.

    Args:
        radiograph: The radiograph.
        hand: What was found of the hand.
        max_size_px: The most pixels of the longest side.

    Returns:
        The picture, blue, green, red.
    """
    shown = stretch_contrast(radiograph.pixels) if hand is None else hand.pixels
    pixels, _ = shrink(shown, max_size_px=max_size_px)
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if hand is not None:
        width_px = max(1, round(max(pixels.shape) / 350))
        draw_outline(picture, hand.segmentation.mask, colour=_OUTLINE_BGR, width_px=width_px)
    return picture


def draw_plain(pixels: UInt8[np.ndarray, "height width"], *, longest_px: int = _LONGEST_PX) -> bytes:
    """Draw a contrast-normalised radiograph as JPEG, shrunk if need be to `longest_px`."""
    return _encode(shrink(pixels, max_size_px=longest_px)[0])


def draw_crop(crop: UInt8[np.ndarray, "size size"]) -> bytes:
    """Draw a crop as PNG, pixel by pixel."""
    _, png = cv2.imencode(".png", crop)
    return png.tobytes()


def draw_importance(bundle: Bundle, crop: UInt8[np.ndarray, "size size"], *, male: float) -> bytes:
    """Draw what the answer to a crop rests on, as PNG; see `boneage.heatmap`. It takes a second or two."""
    heat_map = draw_heat_map(crop, measure_importance(bundle, crop, male=male))
    _, png = cv2.imencode(".png", np.ascontiguousarray(heat_map[..., ::-1]))
    return png.tobytes()


def _encode(picture: UInt8[np.ndarray, "..."]) -> bytes:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
