"""Completeness of a hand: how much of it the film's edge cuts off, and whether the film shows the wrist."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from boneage.preprocessing.crop.crop import Box, resize
from boneage.preprocessing.hand.pose import MIDDLE_KNUCKLE, MIDDLE_TIP, WRIST

# Longest side of the film on which the edge is examined; small radiographs are enlarged, so that all are judged alike.
_WORKING_SIZE_PX = 384
# A row or column is border if nearly all of it is black or white.
_BORDER_GREYS, _BORDER_SHARE = 12, 0.98
_BORDER_STEP = 4  # every fourth pixel of a row or column is enough
# The hand begins this far above the wrist, as a share of its length; the part below may leave the film.
_HAND_SHARE = 0.12
# The mask of a hand that the edge cuts may end this far before the edge, which is measured on its outermost pixels.
_NEAR_PX, _EDGE_PX = 6, 2
# The film beside the hand: a ring around it, and the edge beyond this distance.
_RING_PX, _FAR_PX = (4, 20), 10
# Brightness from that of the film (0) to that of the hand (1) from which tissue counts, and counts in full: a complete
# fingertip is thin, and dim where it touches the edge.
_DIM, _BRIGHT = 0.4, 0.9
_MIN_RANGE_GREYS = 8.0
# Median of 517 hands with landmarks: wrist to middle knuckle, relative to middle knuckle to fingertip.
_USUAL_PALM = 1.127


def find_film_box(pixels: UInt8[np.ndarray, "height width"]) -> Box:
    """Return the box of the exposed film: the frame without constant black or white borders, nested ones too.

    Args:
        pixels: Contrast-normalised radiograph.

    Returns:
        `(left, top, right, bottom)` in pixels; the whole frame if all of it is border.
    """
    height, width = pixels.shape
    box = (0, 0, width, height)
    while True:
        left, top, right, bottom = box
        frame = pixels[top:bottom, left:right]
        rows = np.flatnonzero(_is_film(frame[:, ::_BORDER_STEP], axis=1))
        columns = np.flatnonzero(_is_film(frame[::_BORDER_STEP], axis=0))
        if not rows.size or not columns.size:
            return 0, 0, width, height
        inner = (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
        if inner == box:
            return box
        box = inner


def _is_film(pixels: UInt8[np.ndarray, "height width"], *, axis: int) -> Bool[np.ndarray, " lines"]:
    """Find out which rows (axis 1) or columns (axis 0) are not constant black or white."""
    black, white = pixels <= _BORDER_GREYS, pixels >= 255 - _BORDER_GREYS
    film: Bool[np.ndarray, " lines"] = np.maximum(black.mean(axis=axis), white.mean(axis=axis)) < _BORDER_SHARE
    return film


def measure_cut(
    pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], points: Float[np.ndarray, "21 2"]
) -> float:
    """Return how much of the film's edge cuts through the hand above the wrist, as a share of the hand's length.

    Each pixel of the edge close to the mask counts by its brightness: bone and thick tissue in full, the dim skin of a
    complete fingertip that touches the edge hardly.

    Args:
        pixels: The film without borders, contrast-normalised, bright bone.
        mask: The hand in it.
        points: Its landmarks `(x, y)` in pixels of the film.

    Returns:
        0 for a hand clear of the edge; 0.03 to 0.06 where the edge cuts one finger.
    """
    scale = _WORKING_SIZE_PX / max(pixels.shape)
    size = max(2, round(pixels.shape[1] * scale)), max(2, round(pixels.shape[0] * scale))
    film, hand = resize(pixels, size=size), resize(mask.astype(np.uint8) * 255, size=size) > 127
    if not hand.any():
        return 0.0
    wrist, tip = (points[[WRIST, MIDDLE_TIP]] + 0.5) * size / mask.shape[::-1] - 0.5
    length = float(np.hypot(*(tip - wrist)))
    across, down = np.ogrid[: size[0], : size[1]]
    upwards = (tip - wrist) / length
    above = ((across - wrist[0]) * upwards[0] + (down - wrist[1]) * upwards[1]).T > _HAND_SHARE * length
    distance = cv2.distanceTransform((~hand).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    ring = (distance > _RING_PX[0]) & (distance <= _RING_PX[1])
    ground, tissue = float(np.median(film[ring])) if ring.any() else 0.0, float(np.median(film[hand]))
    near = above & (distance <= _NEAR_PX)
    sides = [[np.rot90(image, turns)[:_EDGE_PX] for image in (film, near, distance)] for turns in range(4)]
    return sum(_weigh(*side, ground=ground, tissue=tissue) for side in sides) / length


def _weigh(
    film: UInt8[np.ndarray, "lines pixels"],
    near: Bool[np.ndarray, "lines pixels"],
    distance: Float32[np.ndarray, "lines pixels"],
    *,
    ground: float,
    tissue: float,
) -> float:
    """Return the number of pixels along one side of the film that cut the hand, each weighted by its brightness.

    Args:
        film: The outermost lines of the film.
        near: True close to the hand above the wrist.
        distance: Distance from the hand in pixels.
        ground: Grey value of the film beside the hand.
        tissue: Median grey value of the hand.
    """
    edge, far = film.min(axis=0), distance[0] > _FAR_PX
    if np.count_nonzero(far) > _FAR_PX:  # the edge itself may be brighter than the film
        ground = max(ground, float(np.median(edge[far])))
    share = (edge - ground) / max(tissue - ground, _MIN_RANGE_GREYS)
    return float((np.clip((share - _DIM) / (_BRIGHT - _DIM), 0, 1) * near.all(axis=0)).sum())


def measure_film_below(box: Box, points: Float[np.ndarray, "21 2"]) -> float:
    """Return how far the film reaches below the wrist along the forearm, as a share of the hand's length.

    Args:
        box: Box of the film.
        points: Landmarks of the hand, `(x, y)` in pixels of the same frame.

    Returns:
        The distance; negative if the wrist lies beyond the film.
    """
    downwards = points[WRIST] - points[MIDDLE_TIP]
    corners = np.array(box, np.float64).reshape(2, 2) - 0.5
    # Where the ray from the wrist leaves the box: the nearest of the sides that it points to.
    ends = np.where(downwards > 0, corners[1], corners[0]) - points[WRIST]
    return float(np.divide(ends, downwards, out=np.full(2, np.inf), where=downwards != 0).min())


def measure_palm(points: Float[np.ndarray, "21 2"]) -> float:
    """Return the length of the palm relative to the middle finger, as a share of the usual.

    Without the wrist in the film, its landmark lies within the palm, which seems short.

    Args:
        points: Landmarks of the hand, `(x, y)` in pixels.
    """
    palm, finger = (np.hypot(*(points[end] - points[MIDDLE_KNUCKLE])) for end in (WRIST, MIDDLE_TIP))
    return float(palm / max(finger, 1e-6) / _USUAL_PALM)
