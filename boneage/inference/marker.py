"""Read the lead letter L on the film beside the hand.

Bright components of a letter's size are compared with drawn letters by normalised correlation. Of 44 radiographs of
RSNA, nearly all with an L, it reads 22; mirrored, none of them; and none of 46 of another hospital, whose letters are
smaller. An R is not read: it resembles A, B and 8, which stand on film as well.
"""

import functools

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from boneage.preprocessing.crop.crop import shrink

_FILM_PX, _GLYPH_PX = 1024, 32
_LEAST_HEIGHT_PX = 14
_HEIGHT_SHARES, _WIDTH_SHARES, _FILLED_SHARES = (0.02, 0.13), (0.3, 1.3), (0.12, 0.8)
_THRESHOLDS = (150, 190, 225, 248)
_MAX_COMPONENTS = 400
# Chosen on the radiographs named above: components that are no L reach 0.75, or resemble another letter as well.
_LEAST_SCORE, _LEAST_LEAD = 0.85, 0.4


def find_marker(pixels: UInt8[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]) -> str | None:
    """Find a readable letter L on a film.

    Args:
        pixels: The contrast-normalised radiograph, bright bone.
        mask: The mask of the hand, where no letter is looked for.

    Returns:
        `"left"` if there is an upright L that is not mirrored, else None.
    """
    film, _ = shrink(pixels, max_size_px=_FILM_PX)
    height, width = film.shape
    size = max(height, width)
    hand = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    free = cv2.dilate(hand, np.ones((9, 9), np.uint8)) == 0
    own, others = _draw_letters()
    for threshold in _THRESHOLDS:
        bright = ((film >= threshold) & free).astype(np.uint8)
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
        for number in range(1, min(count, _MAX_COMPONENTS)):
            left, top, wide, high, area = (int(value) for value in boxes[number])
            is_letter = (
                max(_HEIGHT_SHARES[0] * size, _LEAST_HEIGHT_PX) <= high <= _HEIGHT_SHARES[1] * size
                and _WIDTH_SHARES[0] <= wide / high <= _WIDTH_SHARES[1]
                and _FILLED_SHARES[0] <= area / (wide * high) <= _FILLED_SHARES[1]
                and 0 < left < width - wide
                and 0 < top < height - high
            )
            if is_letter:
                glyph = _normalise(labels[top : top + high, left : left + wide] == number)
                score = float((own @ glyph).max())
                if score >= _LEAST_SCORE and score - float((others @ glyph).max()) >= _LEAST_LEAD:
                    return "left"
    return None


@functools.cache
def _draw_letters() -> tuple[Float32[np.ndarray, "own pixels"], Float32[np.ndarray, "others pixels"]]:
    """Draw L, and what it must not be mistaken for: R, and both mirrored; slightly rotated, thin and bold."""
    letters: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for letter in "LR":
        for thickness in (6, 10, 14, 18):
            drawn = np.zeros((160, 160), np.uint8)
            cv2.putText(drawn, letter, (45, 110), cv2.FONT_HERSHEY_SIMPLEX, 3, (255,), thickness, cv2.LINE_AA)
            for mirrored in (False, True):
                for degrees in range(-24, 25, 8):
                    turn = cv2.getRotationMatrix2D((80, 80), degrees, 1)
                    source = np.ascontiguousarray(drawn[:, ::-1] if mirrored else drawn)
                    turned = cv2.warpAffine(source, turn, (160, 160)) > 127
                    rows, columns = np.nonzero(turned)
                    piece = turned[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                    letters[letter == "L" and not mirrored].append(_normalise(piece))
    return np.stack(letters[True]), np.stack(letters[False])


def _normalise(piece: Bool[np.ndarray, "height width"]) -> Float32[np.ndarray, " pixels"]:
    """Fit a piece into a square, and make it a vector of mean 0 and length 1."""
    height, width = piece.shape
    scale = (_GLYPH_PX - 4) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(piece.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    glyph = np.zeros((_GLYPH_PX, _GLYPH_PX), np.float32)
    top, left = (_GLYPH_PX - size[1]) // 2, (_GLYPH_PX - size[0]) // 2
    glyph[top : top + size[1], left : left + size[0]] = small
    vector = glyph.ravel() - glyph.mean()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)
