"""Film edge: end the hand mask where the edge of the film crosses the forearm, even if bone is visible beyond it.

Scanned films end in a shade, a bright line and darkness. Networks of a few hundred pixels continue the forearm through
this edge. Beside the hand it is a straight bright line on plain film, which is detected reliably.
"""

import dataclasses
import math
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from boneage.preprocessing.crop.crop import Box, bounding_box, resize

# Longer side of the patch, hand and surroundings, on which edges are detected; all shares refer to it.
_WORKING_SIZE_PX = 384
_MARGIN_SHARE = 0.15  # of the hand's longer side
# An edge is visible for this long beside the hand in one piece, and in pieces of this length on the other side.
_MIN_EDGE_SHARE, _MIN_PIECE_SHARE = 0.12, 0.04
# Or the film is brighter beyond it, by this many grey values, along this share of its path across the forearm.
_ACROSS_SHARE, _BRIGHTER_GREYS = 0.8, 2
# Segments are collinear within these tolerances of angle and distance.
_SAME_DEGREES, _SAME_SHARE = 4.0, 0.012
# An edge cuts off at most this share of the hand, and never a finger: a forearm is at least this wide, and hardly wider
# a little before the edge.
_MAX_CUT_SHARE = 0.12
_MIN_WIDTH_SHARE, _MAX_WIDENING, _BEFORE_SHARE = 0.12, 1.6, 0.04
# If the film darkens by more than this share before the edge, the hand ends where a quarter of that has recovered.
_DEEP_SHADE, _RECOVERY_SHARE = 0.25, 0.25
_SHADE_SHARE, _BESIDE_SHARE = 0.06, 0.25  # how far inside the edge and how far beside the hand shade is measured
_MIN_FILM_PX = 8
_LOGITS_PER_PIXEL = 3.0
_ROW_PX = 2  # points this close to a line make up a row of the hand

_Spans = Float[np.ndarray, "spans 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class _Lines:
    """Line segments, with the unit vector towards the brighter side and the signed distance `offset` along it."""

    starts: Float[np.ndarray, "lines 2"]
    ends: Float[np.ndarray, "lines 2"]
    towards: Float[np.ndarray, "lines 2"]
    offsets: Float[np.ndarray, " lines"]

    @property
    def lengths(self) -> Float[np.ndarray, " lines"]:
        """Length of each segment in pixels."""
        lengths: Float[np.ndarray, " lines"] = np.linalg.norm(self.ends - self.starts, axis=1)
        return lengths

    def select(self, chosen: np.ndarray) -> "_Lines":
        """Return the selected segments."""
        return _Lines(self.starts[chosen], self.ends[chosen], self.towards[chosen], self.offsets[chosen])

    def are_collinear(self, towards: Float[np.ndarray, "2"], offset: float) -> Bool[np.ndarray, " lines"]:
        """Return which segments are collinear with the line at `offset` along `towards`."""
        collinear: Bool[np.ndarray, " lines"] = self.towards @ towards > math.cos(math.radians(_SAME_DEGREES))
        for ends in (self.starts, self.ends):
            collinear &= np.abs(ends @ towards - offset) < _SAME_SHARE * _WORKING_SIZE_PX
        return collinear

    def project_onto(self, direction: Float[np.ndarray, "2"]) -> _Spans:
        """Return the extent of each segment along a direction, in pixels."""
        return np.sort(np.column_stack([self.starts @ direction, self.ends @ direction]), axis=1)


def cut_at_film_edges(
    logits: Float32[np.ndarray, "rows columns"], pixels: UInt8[np.ndarray, "height width"]
) -> Float32[np.ndarray, "rows columns"]:
    """Cut a hand mask at the film edges that cross it.

    Args:
        logits: Above 0 on the hand; a coarse map over the whole frame, any size.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The map, below 0 beyond each film edge; unchanged if none crosses the hand.
    """
    coarse_hand = logits > 0
    if not coarse_hand.any():
        return logits
    coarse = np.array(logits.shape[::-1]) / pixels.shape[::-1]  # coarse pixels for each pixel of the frame
    left, top, right, bottom = _add_margin(bounding_box(coarse_hand), coarse=coarse, shape=pixels.shape)
    scale = _WORKING_SIZE_PX / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    patch = resize(pixels[top:bottom, left:right], size=size)
    # From pixels of the patch to those of the map.
    step = np.array([right - left, bottom - top]) / size * coarse
    start = (np.array([left, top]) * coarse) + 0.5 * step - 0.5
    matrix = np.column_stack([np.diag(step), start])
    hand = cv2.warpAffine(logits, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 0
    ended = logits
    rows, columns = np.ogrid[: logits.shape[0], : logits.shape[1]]
    for towards, offset in _find_film_edges(patch, hand):
        beyond = (columns - start[0]) / step[0] * towards[0] + (rows - start[1]) / step[1] * towards[1] - offset
        ended = np.minimum(ended, (-_LOGITS_PER_PIXEL * step.mean() * beyond).astype(np.float32))
    return ended


def _add_margin(box: Box, *, coarse: np.ndarray, shape: tuple[int, int]) -> Box:
    """Return the box of a coarse map, with a margin, in pixels of the frame of `shape`."""
    low, high = np.array(box[:2]) / coarse, np.array(box[2:]) / coarse
    margin = _MARGIN_SHARE * max(high - low)
    left, top = np.maximum(low - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(high + margin), shape[::-1]).astype(int).tolist()
    return left, top, right, bottom


def _find_film_edges(
    patch: UInt8[np.ndarray, "height width"], hand: Bool[np.ndarray, "height width"]
) -> Iterator[tuple[Float[np.ndarray, "2"], float]]:
    """Find the lines at which the hand ends: the unit vector out of the film, and the distance of the line along it."""
    pieces = _find_lines(patch)
    wide = cv2.dilate(hand.astype(np.uint8), np.ones((3, 3), np.uint8))
    lines = pieces.select(pieces.lengths >= _MIN_EDGE_SHARE * _WORKING_SIZE_PX)
    lines = lines.select(lines.lengths * (1 - _overlap_with(wide, lines)) >= _MIN_EDGE_SHARE * _WORKING_SIZE_PX)
    points = np.argwhere(hand[::2, ::2])[:, ::-1] * 2.0  # a quarter of its pixels is enough
    for towards, offset in zip(lines.towards, lines.offsets.tolist(), strict=True):
        outside = points @ towards - offset
        direction = _perpendicular(towards)
        at_edge, before = (
            points[np.abs(outside + share * _WORKING_SIZE_PX) < _ROW_PX] @ direction for share in (0.0, _BEFORE_SHARE)
        )
        if not len(at_edge) or not len(before) or (outside > 0).mean() > _MAX_CUT_SHARE:
            continue
        if np.ptp(at_edge) < _MIN_WIDTH_SHARE * _WORKING_SIZE_PX or np.ptp(before) > _MAX_WIDENING * np.ptp(at_edge):
            continue
        first, last = float(at_edge.min()), float(at_edge.max())
        spans = pieces.select(pieces.are_collinear(towards, offset)).project_onto(direction)
        sides = [np.clip(np.minimum(spans[:, 1], first) - spans[:, 0], 0, None).sum()]
        sides.append(np.clip(spans[:, 1] - np.maximum(spans[:, 0], last), 0, None).sum())
        path = np.arange(first, last + 1)[:, None] * direction + offset * towards
        brighter = _sample(patch, path + 2 * towards) - _sample(patch, path - 2 * towards) > _BRIGHTER_GREYS
        if min(sides) >= _MIN_PIECE_SHARE * _WORKING_SIZE_PX or brighter.mean() >= _ACROSS_SHARE:
            yield towards, offset - 1 - _measure_shade(patch, wide, towards, offset, (first, last), spans)


def _find_lines(patch: UInt8[np.ndarray, "height width"]) -> _Lines:
    """Find straight edges, without those of a few pixels."""
    # Grompone von Gioi et al. 2010, doi:10.1109/TPAMI.2008.300: the brighter side is left of the direction.
    found = cv2.createLineSegmentDetector().detect(patch)[0]
    segments = np.zeros((0, 4)) if found is None else np.asarray(found, np.float64).reshape(-1, 4)
    starts, ends = segments[:, :2], segments[:, 2:]
    direction = (ends - starts) / np.maximum(np.linalg.norm(ends - starts, axis=1, keepdims=True), 1e-9)
    towards = np.column_stack([direction[:, 1], -direction[:, 0]])
    lines = _Lines(starts, ends, towards, (towards * (starts + ends) / 2).sum(axis=1))
    return lines.select(lines.lengths >= _MIN_PIECE_SHARE * _WORKING_SIZE_PX)


def _perpendicular(towards: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Return the direction of the line to which a unit vector is perpendicular."""
    return np.array([-towards[1], towards[0]])


def _overlap_with(hand: UInt8[np.ndarray, "height width"], lines: _Lines) -> Float[np.ndarray, " lines"]:
    """Return the share of each line that lies on the hand, in [0, 1]."""
    shares = np.linspace(0, 1, 16)[:, None, None]
    points = lines.starts + shares * (lines.ends - lines.starts)
    overlap: Float[np.ndarray, " lines"] = _sample(hand, points).mean(axis=0)
    return overlap


def _measure_shade(
    patch: UInt8[np.ndarray, "height width"],
    hand: UInt8[np.ndarray, "height width"],
    towards: Float[np.ndarray, "2"],
    offset: float,
    across: tuple[float, float],
    spans: _Spans,
) -> float:
    """Return how far before the line the hand ends, in pixels, if the film darkens before its edge.

    Measured on the film beside the hand, along the visible segments of the line.
    """
    direction = _perpendicular(towards)
    reach = _BESIDE_SHARE * _WORKING_SIZE_PX
    along = np.arange(across[0] - reach, across[1] + reach)
    along = along[((along >= spans[:, :1]) & (along <= spans[:, 1:])).any(axis=0)]
    inwards = np.arange(round(_SHADE_SHARE * _WORKING_SIZE_PX))
    points = along[None, :, None] * direction + (offset - inwards[:, None, None]) * towards
    film = ((points >= 0) & (points <= np.array(patch.shape[::-1]) - 1)).all(axis=2)
    film &= _sample(hand, points) == 0
    if film.sum(axis=1).min() < _MIN_FILM_PX:
        return 0.0
    greys = (_sample(patch, points) * film).sum(axis=1) / film.sum(axis=1)
    darkest = int(greys[: len(greys) // 3].argmin())
    back = greys[darkest:]
    if back.max() - back[0] <= _DEEP_SHADE * back.max():
        return 0.0
    return float(darkest + np.argmax(back >= back[0] + _RECOVERY_SHARE * (back.max() - back[0])))


def _sample(image: UInt8[np.ndarray, "height width"], points: Float[np.ndarray, "... 2"]) -> Float32[np.ndarray, "..."]:
    """Interpolate values at points `(x, y)`, shape `(..., 2)`; outside the image, the nearest pixel."""
    if not points.size:  # OpenCV takes no empty map
        return np.zeros(points.shape[:-1], np.float32)
    columns, rows = np.moveaxis(points.astype(np.float32).reshape(-1, points.shape[-2], 2), -1, 0)
    found = cv2.remap(
        image.astype(np.float32),
        np.ascontiguousarray(columns),
        np.ascontiguousarray(rows),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found.reshape(points.shape[:-1])
