"""Completeness of a hand: how much of it the film's edge cuts off, and whether the film shows the wrist."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

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
# Median of 517 hands with landmarks: wrist to middle knuckle relative to middle knuckle to fingertip.
_USUAL_PALM = 1.127
_THUMB = slice(1, 5)
# The tip of a thumb's bone lies 0.03 hand lengths below its skin. Where the edge cuts the thumb, it counts in full if
# the tip is closer to the edge than the first of these, as shares of the hand's length, and not beyond the second.
_THUMB_GAP = (0.018, 0.022)


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
    pixels = np.ascontiguousarray(pixels)
    found = [cv2.inRange(pixels, *greys) for greys in ((0, _BORDER_GREYS), (255 - _BORDER_GREYS, 255))]
    shares = [cv2.reduce(marked, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() / 255 for marked in found]
    film: Bool[np.ndarray, " lines"] = np.maximum(*shares) < _BORDER_SHARE
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
    points = (points + 0.5) * size / mask.shape[::-1] - 0.5
    distance = cv2.distanceTransform((~hand).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    ring = (distance > _RING_PX[0]) & (distance <= _RING_PX[1])
    ground, tissue = float(np.median(film[ring])) if ring.any() else 0.0, float(np.median(film[hand]))
    places = np.stack(np.meshgrid(*map(np.arange, size)), axis=-1)
    thumb = _measure_missing_thumb(points, size=size)
    weight = 0.0
    for turns in range(4):
        outermost, distances = (np.rot90(image, turns)[:_EDGE_PX] for image in (film, distance))
        brightness = _measure_brightness(outermost.min(axis=0), distances[0], ground=ground, tissue=tissue)
        near = distances.max(axis=0) <= _NEAR_PX
        weight += float((brightness[near] * _weigh_places(np.rot90(places, turns)[0][near], points, thumb=thumb)).sum())
    return weight / float(np.hypot(*(points[MIDDLE_TIP] - points[WRIST])))


def _measure_brightness(
    edge: UInt8[np.ndarray, " pixels"], distances: Float32[np.ndarray, " pixels"], *, ground: float, tissue: float
) -> Float[np.ndarray, " pixels"]:
    """Return how much the pixels along one side of the film look like thick tissue, in [0, 1].

    Args:
        edge: Grey values along the side.
        distances: Their distances from the hand in pixels.
        ground: Grey value of the film beside the hand.
        tissue: Median grey value of the hand.
    """
    far = edge[distances > _FAR_PX]
    if far.size > _FAR_PX:  # the edge itself may be brighter than the film
        ground = max(ground, float(np.median(far)))
    share = (edge - ground) / max(tissue - ground, _MIN_RANGE_GREYS)
    return np.clip((share - _DIM) / (_BRIGHT - _DIM), 0, 1)


def _measure_missing_thumb(points: Float[np.ndarray, "21 2"], *, size: tuple[int, int]) -> float:
    """Return how surely the film's edge takes the tip of the thumb, in [0, 1].

    Args:
        points: Landmarks of the hand in pixels of the film.
        size: Columns and rows of the film.
    """
    tip = points[_THUMB.stop - 1]
    gap = min(*(tip + 0.5), *(size - tip - 0.5)) / float(np.hypot(*(points[MIDDLE_TIP] - points[WRIST])))
    return float(np.interp(gap, _THUMB_GAP, (1, 0)))


def _weigh_places(
    places: Int[np.ndarray, "pixels 2"], points: Float[np.ndarray, "21 2"], *, thumb: float
) -> Float[np.ndarray, " pixels"]:
    """Return how much a cut matters at places `(x, y)` of the edge, in [0, 1].

    Below the hand it does not. At a thumb it does as far as its tip is missing: an edge that grazes the thumb along its
    side takes nothing away that a reader needs.

    Args:
        places: Pixels of the film's edge.
        points: Landmarks of the hand in the same pixels.
        thumb: How surely the edge takes the tip of the thumb.
    """
    upwards = points[MIDDLE_TIP] - points[WRIST]
    nearest = np.hypot(*(places[:, None] - points).transpose(2, 0, 1)).argmin(axis=1)
    above = (places - points[WRIST]) @ upwards > _HAND_SHARE * float(upwards @ upwards)
    at_thumb = (nearest >= _THUMB.start) & (nearest < _THUMB.stop)
    weights: Float[np.ndarray, " pixels"] = above * np.where(at_thumb, thumb, 1.0)
    return weights


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
