"""Clean a raw mask: keep the largest piece, close gaps, fill holes."""

import cv2
import numpy as np
from jaxtyping import Bool


def clean_mask(mask: Bool[np.ndarray, "height width"], *, closing_share: float) -> Bool[np.ndarray, "height width"]:
    """Keep the largest piece of a mask, close its gaps and fill its holes.

    Args:
        mask: Raw mask, shape `(height, width)`.
        closing_share: Width of the gaps that are closed, as a share of the square root of the piece's area: the same
            hand is closed alike at any resolution. 0 closes none. Gaps between fingers are wider than 0.02.

    Returns:
        The clean mask, same shape; empty if the raw one is.
    """
    piece = largest_component(mask)
    radius_px = round(closing_share * float(np.sqrt(piece.sum())) / 2)
    if radius_px:
        side = 2 * radius_px + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        # The mask is continued beyond the frame; closing would round it off at the edge otherwise.
        padded = np.pad(piece.astype(np.uint8), radius_px, mode="edge")
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)
        piece = closed[radius_px:-radius_px, radius_px:-radius_px].astype(bool) | piece
    return fill_holes(piece)


def largest_component(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Keep the largest 8-connected piece of a mask; an empty mask stays empty."""
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if num_labels == 1:
        return np.zeros(mask.shape, np.bool_)
    largest: Bool[np.ndarray, "height width"] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest


def fill_holes(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Fill the holes of a mask: background that no 4-connected path joins to the frame's edge."""
    outside = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(1,))
    cv2.floodFill(outside, None, (0, 0), (2,), flags=4)
    filled: Bool[np.ndarray, "height width"] = (outside != 2)[1:-1, 1:-1]
    return filled


def second_component_share(mask: Bool[np.ndarray, "height width"]) -> float:
    """Return the size of the second largest 8-connected piece of a mask relative to the largest, in [0, 1]."""
    num_labels, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if num_labels < 3:
        return 0.0
    second, first = np.sort(stats[1:, cv2.CC_STAT_AREA])[-2:]
    return float(second / first)
