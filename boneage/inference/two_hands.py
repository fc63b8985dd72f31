"""Films of two hands: find the gap between the hands, and read each side of it as a film of its own."""

import dataclasses
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Int

from boneage.inference.reading import Reading
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.radiograph import Radiograph

# Both hands of one child in one exposure: the smaller mask has at least this share of the larger, with any length of
# forearm, and the shorter hand, wrist to fingertip, this share of the longer. A parent's hand is longer than a child's.
_MIN_MASK_SHARE, _MIN_LENGTH_SHARE = 0.4, 0.8


class Read(Protocol):
    """A function like `boneage.inference.reader.Reader.read`, with path and age given."""

    def __call__(self, radiograph: Radiograph, /, *, sex: str | None, male_probability: float | None = None) -> Reading:
        """Read one radiograph."""


def read_hands(read: Read, radiograph: Radiograph, *, sex: str | None) -> Reading:
    """Read one radiograph, and both hands of a film that shows two.

    The film is divided in the middle of the gap between the hands, along a column or a row, and each part is read like
    any other film, gate included. The hands must be of opposite sides and of about one length. The left one has its
    thumb on the right of the upright hand, as on a film made palms down and not mirrored.

    Args:
        read: Reads one film.
        radiograph: The film.
        sex: The recorded sex, `"female"`, `"male"`, or None if unknown: it is predicted from both hands together.

    Returns:
        The reading; of two hands that of the left one, with that of the right one as `other` and the warning
        `two_hands` in both. That of a rejected film has its reasons.

    Raises:
        UnreadableImageError: As in `read`.
    """
    whole = read(radiograph, sex=sex)
    if "several_hands" not in whole.reasons or whole.hand is None:
        return whole
    parts = divide_film(radiograph, whole.hand)
    readings = [reading for part in parts if (reading := read(part, sex=sex)).accepted]
    poses = [reading.hand.pose for reading in readings if reading.hand and reading.hand.pose]
    lengths, sides = [pose.length_px for pose in poses], [pose.side for pose in poses]
    if sorted(sides) != ["left", "right"] or min(lengths) < _MIN_LENGTH_SHARE * max(lengths):
        return whole
    if sex is None and not np.isnan(share := float(np.mean([reading.male_probability for reading in readings]))):
        # One child has one sex.
        readings = [read(part, sex=None, male_probability=share) for part in parts]
    left, right = (
        dataclasses.replace(
            readings[index],
            part=dataclasses.replace(parts[index], laterality=side),
            warnings=("two_hands", *readings[index].warnings),
        )
        for index, side in sorted(enumerate(sides), key=lambda numbered: numbered[1])
    )
    return dataclasses.replace(left, other=right)


def divide_film(radiograph: Radiograph, hand: Hand) -> list[Radiograph]:
    """Divide a film at the gap between two hands.

    Args:
        radiograph: The film.
        hand: What was found in it. Only Segment Anything models keep the raw mask, which shows both hands.

    Returns:
        Two parts, of which the header tells no side; none without two pieces of a size and a gap between them.
    """
    pieces = _find_pieces(hand)
    if not pieces:
        return []
    # Across columns, then across rows: how far the hands are apart, and the middle of the gap.
    gaps = [_find_gap(*(np.flatnonzero(piece.any(axis=axis)) for piece in pieces)) for axis in (0, 1)]
    width, middle, axis = max((end - start, (start + end) / 2, axis) for axis, (start, end) in enumerate(gaps))
    if width <= 0:
        return []
    place = round(middle * radiograph.pixels.shape[1 - axis] / pieces[0].shape[1 - axis])
    sides = [slice(place), slice(place, None)]
    return [_cut(radiograph, (slice(None), side) if axis == 0 else (side, slice(None))) for side in sides]


def _find_pieces(hand: Hand) -> list[Bool[np.ndarray, "rows columns"]]:
    """Return the two largest pieces of the raw mask, a coarse map of the frame; none unless both are of a size."""
    if not hand.segmentation.candidates:
        return []
    mask = hand.segmentation.candidates[0].logits > 0
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = np.argsort(-areas, kind="stable")[:2]
    if len(largest) < 2 or areas[largest[1]] < _MIN_MASK_SHARE * areas[largest[0]]:
        return []
    return [labels == 1 + index for index in largest]


def _find_gap(one: Int[np.ndarray, " lines"], other: Int[np.ndarray, " more"]) -> tuple[int, int]:
    """Return where the gap between the rows or columns of two pieces starts and ends; not after its start if none."""
    before, after = sorted((one, other), key=lambda lines: int(lines[0]))
    return int(before[-1]) + 1, int(after[0])


def _cut(radiograph: Radiograph, place: tuple[slice, slice]) -> Radiograph:
    coloured = None if radiograph.coloured is None else np.ascontiguousarray(radiograph.coloured[place])
    pixels = np.ascontiguousarray(radiograph.pixels[place])
    return dataclasses.replace(radiograph, pixels=pixels, coloured=coloured, laterality=None)
