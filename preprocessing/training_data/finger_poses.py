"""Fingers in other poses, simulated for training: spread, closed, crossed and bent."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.interpolate import RBFInterpolator

from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST

# Landmarks of each finger from its base to its tip, the thumb first.
_FINGERS = tuple(range(base, base + 4) for base in (1, 5, 9, 13, 17))
_MIDDLE = 2
_SWING_DEGREES = 4.0
_THUMB_SWING_DEGREES = 12.0
# Share of a finger's angle to the middle finger by which it moves towards it; negative spreads the fingers.
_CLOSED_SHARE = (-0.2, 0.9)
_MAX_SHORTENING = 0.35
# Cells along each side of the grid on which the displacement is computed; between them it is interpolated.
_GRID_CELLS = 24
# Distance of the fixed points around the hand, as a share of its length.
_FIXED_SHARE = 0.35


def move_fingers(
    pixels: UInt8[np.ndarray, "height width"], landmarks: Float[np.ndarray, "21 2"], *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "height width"], Float[np.ndarray, "21 2"]]:
    """Move the fingers of a hand: each turns about its base, and some are shortened, as bent fingers appear.

    The radiograph is warped by a thin-plate spline through the landmarks (Bookstein 1989, doi:10.1109/34.24792).

    Args:
        pixels: Radiograph, shape `(height, width)`, uint8.
        landmarks: Points `(x, y)` in pixels, shape `(21, 2)`.
        rng: Random generator.

    Returns:
        The warped radiograph, same shape, and its landmarks.
    """
    moved = landmarks.copy()
    along = np.array([landmarks[finger[-1]] - landmarks[finger[0]] for finger in _FINGERS])
    degrees = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    from_middle = (degrees - degrees[_MIDDLE] + 180) % 360 - 180
    swings = rng.normal(0, _SWING_DEGREES, len(_FINGERS)) - from_middle * rng.uniform(*_CLOSED_SHARE)
    swings[0] = rng.normal(0, _THUMB_SWING_DEGREES)
    bent = rng.random(len(_FINGERS)) < rng.choice((0.1, 0.6))
    lengths = np.where(bent, 1 - rng.uniform(0, _MAX_SHORTENING, len(_FINGERS)), 1)
    for finger, swing, length in zip(_FINGERS, np.radians(swings), lengths, strict=True):
        turn = np.array([[np.cos(swing), -np.sin(swing)], [np.sin(swing), np.cos(swing)]])
        base = landmarks[finger[0]]
        moved[finger] = base + (landmarks[finger] - base) @ turn.T * length
    return _warp(pixels, landmarks, moved), moved


def _warp(
    pixels: UInt8[np.ndarray, "height width"], source: Float[np.ndarray, "21 2"], target: Float[np.ndarray, "21 2"]
) -> UInt8[np.ndarray, "height width"]:
    """Warp a radiograph so that the points `source` come to lie at `target`, and the surroundings stay."""
    height, width = pixels.shape
    margin = _FIXED_SHARE * float(np.hypot(*(source[MIDDLE_TIP] - source[WRIST])))
    (left, top), (right, bottom) = source.min(axis=0) - margin, source.max(axis=0) + margin
    across, down = np.linspace(left, right, 5), np.linspace(top, bottom, 5)
    fixed = [(x, y) for x in across for y in down if x in (left, right) or y in (top, bottom)]
    places = np.concatenate([target, fixed])
    shifts = np.concatenate([source - target, np.zeros((len(fixed), 2))])
    x, y = np.meshgrid(np.linspace(0, width - 1, _GRID_CELLS), np.linspace(0, height - 1, _GRID_CELLS))
    grid = np.column_stack([x.ravel(), y.ravel()])
    inside = np.all((grid > (left, top)) & (grid < (right, bottom)), axis=1)
    field = np.where(inside[:, None], RBFInterpolator(places, shifts, kernel="thin_plate_spline")(grid), 0)
    shift = cv2.resize(field.reshape(_GRID_CELLS, _GRID_CELLS, 2).astype(np.float32), (width, height))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(pixels, columns + shift[..., 0], rows + shift[..., 1], cv2.INTER_LINEAR, borderValue=0)
