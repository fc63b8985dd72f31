"""Pictures of a reading: the radiograph with the outline of the hand, and the crop."""

import cv2
import numpy as np
from jaxtyping import UInt8

from preprocessing.contrast import stretch_contrast
from preprocessing.crop import shrink
from preprocessing.hand import Hand
from preprocessing.radiograph import Radiograph

_LONGEST_PX = 720
_JPEG_QUALITY = 85
_OUTLINE_BGR = (80, 220, 80)


def draw_radiograph(radiograph: Radiograph, hand: Hand | None) -> bytes:
    """Draw a radiograph, with the outline of the hand where one was found.

    Args:
        radiograph: The radiograph.
        hand: What was found of the hand.

    Returns:
        A JPEG whose longest side is at most 720 pixels.
    """
    if hand is None:
        return draw_plain(stretch_contrast(radiograph.pixels, low_percentile=1.0, high_percentile=99.0))
    picture = cv2.cvtColor(shrink(hand.pixels, max_size_px=_LONGEST_PX)[0], cv2.COLOR_GRAY2BGR)
    mask = cv2.resize(hand.segmentation.mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _OUTLINE_BGR, max(1, round(max(mask.shape) / 350)), cv2.LINE_AA)
    return _encode(picture)


def draw_plain(pixels: UInt8[np.ndarray, "height width"], *, longest_px: int = _LONGEST_PX) -> bytes:
    """Draw a contrast-normalised radiograph as JPEG, shrunk if need be to `longest_px`."""
    return _encode(shrink(pixels, max_size_px=longest_px)[0])


def draw_crop(crop: UInt8[np.ndarray, "size size"]) -> bytes:
    """Draw a crop as PNG, pixel by pixel."""
    _, png = cv2.imencode(".png", crop)
    return png.tobytes()


def _encode(picture: UInt8[np.ndarray, "..."]) -> bytes:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
