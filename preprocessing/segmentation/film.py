"""The film area: the part of a frame that shows exposed film, not a border or a collimator's shadow."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from boneage.preprocessing.segmentation.morphology import fill_holes, largest_component

# A row or column is border, not film, if nearly all of its grey values are this close to its median.
_UNIFORM_GREYS = 10
_UNIFORM_SHARE = 0.97
_MAX_TRIM_SHARE = 0.35  # of height or width, on each side: more is an empty film, not a border
_MIN_REMAINING_SHARE = 0.35
# A bright piece that fills this share of its smallest rotated rectangle is a film on a dark ground; hands fill less.
_FILM_FILL = 0.85
_MIN_FILM_SHARE = 0.1
_EDGE_SHARE = 0.03


def find_film(pixels: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Find the part of the frame that shows exposed film.

    Uniform rows and columns are trimmed from all four sides, nested ones too. If the brightest piece of the rest is a
    rectangle at any angle, that is the film, without its edge.

    Args:
        pixels: Contrast-normalised radiograph; a few hundred pixels wide is enough.

    Returns:
        True on the film. The whole frame if it has no border.
    """
    top, bottom, left, right = _trim(pixels)
    film = np.zeros(pixels.shape, np.bool_)
    film[top:bottom, left:right] = True
    for _ in range(2):
        piece = find_foreground(pixels, film=film)
        if not (piece.sum() >= _MIN_FILM_SHARE * piece.size and _fills_rectangle(piece)):
            break
        side = 2 * max(1, round(_EDGE_SHARE * float(np.sqrt(piece.sum())))) + 1
        within = cv2.erode(np.pad(piece, 1).astype(np.uint8), np.ones((side, side), np.uint8))[1:-1, 1:-1] == 1
        if not within.any():
            break
        film = within
    return film


def find_foreground(
    pixels: UInt8[np.ndarray, "height width"], *, film: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Estimate the hand without a network: the largest bright piece of the film by Otsu's threshold, holes filled.

    It is accurate enough as a prompt for Segment Anything, not as a mask.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
        film: True on the film.
    """
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.0)
    threshold, _ = cv2.threshold(smooth[film][None], 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return fill_holes(largest_component((smooth > threshold) & film))


def _trim(pixels: UInt8[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    height, width = pixels.shape
    top, bottom, left, right = 0, height, 0, width
    moved = True
    while moved:
        moved = False
        if top < _MAX_TRIM_SHARE * height and _is_uniform(pixels[top, left:right]):
            top, moved = top + 1, True
        if bottom > (1 - _MAX_TRIM_SHARE) * height and _is_uniform(pixels[bottom - 1, left:right]):
            bottom, moved = bottom - 1, True
        if left < _MAX_TRIM_SHARE * width and _is_uniform(pixels[top:bottom, left]):
            left, moved = left + 1, True
        if right > (1 - _MAX_TRIM_SHARE) * width and _is_uniform(pixels[top:bottom, right - 1]):
            right, moved = right - 1, True
    if bottom - top < _MIN_REMAINING_SHARE * height or right - left < _MIN_REMAINING_SHARE * width:
        return 0, height, 0, width  # an empty frame has no border
    return top, bottom, left, right


def _is_uniform(line: UInt8[np.ndarray, " pixels"]) -> bool:
    if not line.size:
        return False
    # Sorting gives the median and the values close to it, several times as fast as NumPy's median.
    greys = np.sort(line).astype(np.int16)
    middle = (int(greys[(len(greys) - 1) // 2]) + int(greys[len(greys) // 2])) / 2
    first, end = greys.searchsorted(middle - _UNIFORM_GREYS), greys.searchsorted(middle + _UNIFORM_GREYS, side="right")
    return bool(end - first >= _UNIFORM_SHARE * len(greys))


def _fills_rectangle(piece: Bool[np.ndarray, "height width"]) -> bool:
    contours, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    _, (width, height), _ = cv2.minAreaRect(max(contours, key=len))
    return bool(piece.sum() >= _FILM_FILL * (width + 1) * (height + 1))
