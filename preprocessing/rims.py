"""Where a film's rim crosses the forearm: the hand ends there, however clearly bone shines through.

Scanned films end in a rim: a shade, then a bright line, then darkness. Networks of a few hundred pixels see the forearm
go on through it. Beside the hand the rim is a straight bright line on plain film, certain enough to end the hand by.
"""

import dataclasses
import math
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from preprocessing.crop import Box, bounding_box, resize

# The hand and what surrounds it are looked at in so many pixels, by the longer side, of which all shares are meant.
_LOOK_PX = 384
_MARGIN_SHARE = 0.15  # of the hand's longer side
# A rim is seen for so long beside the hand, in one piece, and in pieces of so much on its other side.
_LEAST_SEEN_SHARE, _LEAST_PIECE_SHARE = 0.12, 0.04
# Or it is brighter beyond along this much of its way across the forearm, by this many grey values.
_ACROSS_SHARE, _BRIGHTER_GREYS = 0.8, 2
# Pieces are of one line if they lie within this of it.
_SAME_DEGREES, _SAME_SHARE = 4.0, 0.012
# No rim cuts off more of the hand than this, and none a finger: a forearm is so wide, and hardly wider a little before.
_MOST_CUT = 0.12
_LEAST_WIDTH_SHARE, _WIDER, _BEFORE_SHARE = 0.12, 1.6, 0.04
# Where film darkens by more than this share before the rim, the hand ends where a quarter of that has come back.
_DEEP_SHADE, _BACK_SHARE = 0.25, 0.25
_SHADE_SHARE, _BESIDE_SHARE = 0.06, 0.25  # how far inside it is looked for, and how far beside the hand
_LEAST_FILM_PX = 8
_LOGITS_A_PIXEL = 3.0
_ROW_PX = 2  # places so near to a line make up a row of the hand

_Spans = Float[np.ndarray, "spans 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class _Lines:
    """Straight edges, each with the unit vector towards its brighter side; `offset` is how far along that it lies."""

    starts: Float[np.ndarray, "lines 2"]
    ends: Float[np.ndarray, "lines 2"]
    towards: Float[np.ndarray, "lines 2"]
    offsets: Float[np.ndarray, " lines"]

    @property
    def lengths(self) -> Float[np.ndarray, " lines"]:
        """Return how long each is, in pixels."""
        return np.linalg.norm(self.ends - self.starts, axis=1)

    def choose(self, chosen: np.ndarray) -> "_Lines":
        """Return some of the lines."""
        return _Lines(self.starts[chosen], self.ends[chosen], self.towards[chosen], self.offsets[chosen])

    def lie_upon(self, towards: Float[np.ndarray, "2"], offset: float) -> Bool[np.ndarray, " lines"]:
        """Tell which are pieces of the line that lies so far along a direction."""
        upon = self.towards @ towards > math.cos(math.radians(_SAME_DEGREES))
        for ends in (self.starts, self.ends):
            upon &= np.abs(ends @ towards - offset) < _SAME_SHARE * _LOOK_PX
        return upon

    def reach_along(self, direction: Float[np.ndarray, "2"]) -> _Spans:
        """Return from where to where each goes along a direction, in pixels."""
        return np.sort(np.column_stack([self.starts @ direction, self.ends @ direction]), axis=1)


def end_at_rims(
    logits: Float32[np.ndarray, "rows columns"], pixels: UInt8[np.ndarray, "height width"]
) -> Float32[np.ndarray, "rows columns"]:
    """End a hand where the rim of the film crosses it.

    Args:
        logits: Above 0 on the hand; a coarse map over the whole frame, any size.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The map, below 0 beyond each rim. It is the same where no rim crosses the hand.
    """
    coarse_hand = logits > 0
    if not coarse_hand.any():
        return logits
    coarse = np.array(logits.shape[::-1]) / pixels.shape[::-1]  # coarse pixels for each of the frame's
    left, top, right, bottom = _surround(bounding_box(coarse_hand), coarse=coarse, shape=pixels.shape)
    scale = _LOOK_PX / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    look = resize(pixels[top:bottom, left:right], size=size)
    # From pixels of the look to those of the map.
    step = np.array([right - left, bottom - top]) / size * coarse
    start = (np.array([left, top]) * coarse) + 0.5 * step - 0.5
    matrix = np.column_stack([np.diag(step), start])
    hand = cv2.warpAffine(logits, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 0
    ended = logits
    rows, columns = np.ogrid[: logits.shape[0], : logits.shape[1]]
    for towards, offset in _find_rims(look, hand):
        beyond = (columns - start[0]) / step[0] * towards[0] + (rows - start[1]) / step[1] * towards[1] - offset
        ended = np.minimum(ended, (-_LOGITS_A_PIXEL * step.mean() * beyond).astype(np.float32))
    return ended


def _surround(box: Box, *, coarse: np.ndarray, shape: tuple[int, int]) -> Box:
    """Return the box of a coarse map, with a margin, in pixels of the frame of `shape`."""
    low, high = np.array(box[:2]) / coarse, np.array(box[2:]) / coarse
    margin = _MARGIN_SHARE * max(high - low)
    left, top = np.maximum(low - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(high + margin), shape[::-1]).astype(int).tolist()
    return left, top, right, bottom


def _find_rims(
    look: UInt8[np.ndarray, "height width"], hand: Bool[np.ndarray, "height width"]
) -> Iterator[tuple[Float[np.ndarray, "2"], float]]:
    """Find the lines at which the hand ends: the unit vector out of the film, and how far along it the line lies."""
    pieces = _find_lines(look)
    wide = cv2.dilate(hand.astype(np.uint8), np.ones((3, 3), np.uint8))
    lines = pieces.choose(pieces.lengths >= _LEAST_SEEN_SHARE * _LOOK_PX)
    lines = lines.choose(lines.lengths * (1 - _share_upon(wide, lines)) >= _LEAST_SEEN_SHARE * _LOOK_PX)
    places = np.argwhere(hand[::2, ::2])[:, ::-1] * 2.0  # a quarter of its pixels tell as much
    for towards, offset in zip(lines.towards, lines.offsets.tolist(), strict=True):
        way_out = places @ towards - offset
        direction = _turn(towards)
        upon, before = (
            places[np.abs(way_out + share * _LOOK_PX) < _ROW_PX] @ direction for share in (0.0, _BEFORE_SHARE)
        )
        if not len(upon) or not len(before) or (way_out > 0).mean() > _MOST_CUT:
            continue
        if np.ptp(upon) < _LEAST_WIDTH_SHARE * _LOOK_PX or np.ptp(before) > _WIDER * np.ptp(upon):
            continue
        first, last = float(upon.min()), float(upon.max())
        spans = pieces.choose(pieces.lie_upon(towards, offset)).reach_along(direction)
        sides = [np.clip(np.minimum(spans[:, 1], first) - spans[:, 0], 0, None).sum()]
        sides.append(np.clip(spans[:, 1] - np.maximum(spans[:, 0], last), 0, None).sum())
        way = np.arange(first, last + 1)[:, None] * direction + offset * towards
        brighter = _sample(look, way + 2 * towards) - _sample(look, way - 2 * towards) > _BRIGHTER_GREYS
        if min(sides) >= _LEAST_PIECE_SHARE * _LOOK_PX or brighter.mean() >= _ACROSS_SHARE:
            yield towards, offset - 1 - _measure_shade(look, wide, towards, offset, (first, last), spans)


def _find_lines(look: UInt8[np.ndarray, "height width"]) -> _Lines:
    """Find straight edges, those of a few pixels left out."""
    # After Grompone von Gioi et al. 2010, doi:10.1109/TPAMI.2008.300: brighter is to the left of the way.
    found = cv2.createLineSegmentDetector().detect(look)[0]
    places = np.zeros((0, 4)) if found is None else np.asarray(found, np.float64).reshape(-1, 4)
    starts, ends = places[:, :2], places[:, 2:]
    way = (ends - starts) / np.maximum(np.linalg.norm(ends - starts, axis=1, keepdims=True), 1e-9)
    towards = np.column_stack([way[:, 1], -way[:, 0]])
    lines = _Lines(starts, ends, towards, (towards * (starts + ends) / 2).sum(axis=1))
    return lines.choose(lines.lengths >= _LEAST_PIECE_SHARE * _LOOK_PX)


def _turn(towards: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Return the direction of the line that a unit vector stands on."""
    return np.array([-towards[1], towards[0]])


def _share_upon(hand: UInt8[np.ndarray, "height width"], lines: _Lines) -> Float[np.ndarray, " lines"]:
    """Return how much of each line lies upon the hand, in [0, 1]."""
    shares = np.linspace(0, 1, 16)[:, None, None]
    return _sample(hand, lines.starts + shares * (lines.ends - lines.starts)).mean(axis=0)


def _measure_shade(
    look: UInt8[np.ndarray, "height width"],
    hand: UInt8[np.ndarray, "height width"],
    towards: Float[np.ndarray, "2"],
    offset: float,
    across: tuple[float, float],
    spans: _Spans,
) -> float:
    """Return how far before the line the hand ends, in pixels, where the film darkens before its rim.

    Measured on the film beside the hand, along what is seen of the line.
    """
    direction = _turn(towards)
    reach = _BESIDE_SHARE * _LOOK_PX
    way = np.arange(across[0] - reach, across[1] + reach)
    way = way[((way >= spans[:, :1]) & (way <= spans[:, 1:])).any(axis=0)]
    inwards = np.arange(round(_SHADE_SHARE * _LOOK_PX))
    places = way[None, :, None] * direction + (offset - inwards[:, None, None]) * towards
    film = ((places >= 0) & (places <= np.array(look.shape[::-1]) - 1)).all(axis=2)
    film &= _sample(hand, places) == 0
    if film.sum(axis=1).min() < _LEAST_FILM_PX:
        return 0.0
    greys = (_sample(look, places) * film).sum(axis=1) / film.sum(axis=1)
    darkest = int(greys[: len(greys) // 3].argmin())
    back = greys[darkest:]
    if back.max() - back[0] <= _DEEP_SHADE * back.max():
        return 0.0
    return float(darkest + np.argmax(back >= back[0] + _BACK_SHARE * (back.max() - back[0])))


def _sample(image: UInt8[np.ndarray, "height width"], places: Float[np.ndarray, "... 2"]) -> Float32[np.ndarray, "..."]:
    """Return values at places `(x, y)`, shape `(..., 2)`, between pixels; the outermost beyond the edges."""
    if not places.size:  # which OpenCV has no map of
        return np.zeros(places.shape[:-1], np.float32)
    columns, rows = np.moveaxis(places.astype(np.float32).reshape(-1, places.shape[-2], 2), -1, 0)
    found = cv2.remap(
        image.astype(np.float32),
        np.ascontiguousarray(columns),
        np.ascontiguousarray(rows),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found.reshape(places.shape[:-1])
