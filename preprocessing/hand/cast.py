"""Find casts: plaster over wrist or palm makes even the border of the hand bright, and ends abruptly."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST

# Everything here is a share of the hand's length, from wrist to middle fingertip.
_BORDER = (0.004, 0.03)  # depth in the mask: soft tissue alone
_WRIST, _PALM, _FINGERS = (-0.12, 0.1), (0.1, 0.4), (0.6, 1.2)  # places along the hand
_SLICE, _LOWEST_SLICE, _HIGHEST_SLICE = 0.03, -0.18, 0.6
_ENDS = (-0.1, 0.5)  # where a cast may end
# Of 300 ordinary films no hand has a darker border in its fingers; printed ones, whose palms are brighter, have.
_MIN_FINGER_BRIGHTNESS = 0.3
# In a cast the border is about as bright as bone; in pale palms of another hospital it reaches 0.6 of it.
_MIN_CAST_BRIGHTNESS = 0.65
_WORKING_LENGTH_PX = 128
_MIN_PIXELS = 20


def measure_cast(
    pixels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    points: Float[np.ndarray, "21 2"],
) -> float:
    """Return how much wrist or palm resemble a cast.

    A cast of plaster absorbs more than soft tissue does. In wrist and palm the border of the mask, which is soft tissue
    alone otherwise, becomes about as bright as bone, in the fingers it does not, and at the end of the cast it falls.

    Args:
        pixels: Contrast-normalised radiograph, bright bone.
        mask: The hand, not empty.
        points: Its landmarks `(x, y)` in pixels.

    Returns:
        The smaller of two differences in brightness, relative to what is bright in the hand: of the border in wrist or
        palm and of the fingers, and of the border below and above the end of the cast; 0 where they cannot be told.
    """
    left, top, right, bottom = bounding_box(mask)
    length = max(1.0, float(np.hypot(*(points[MIDDLE_TIP] - points[WRIST]))))
    scale = min(1.0, _WORKING_LENGTH_PX / length)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    hand = cv2.resize(pixels[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask[top:bottom, left:right].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    wrist, tip = ((points[place] - (left, top)) * scale for place in (WRIST, MIDDLE_TIP))
    # Beyond the box there is no pixel, so that the edge of a film is no border. A mask that fills the box has none.
    depth = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5), max(size)) / (length * scale)
    axis = (tip - wrist) / (length * scale) ** 2
    along = (np.arange(size[0]) - wrist[0]) * axis[0] + ((np.arange(size[1]) - wrist[1]) * axis[1])[:, None]
    shallow, deep = _BORDER
    border = (depth >= max(shallow, 1.5 / (length * scale))) & (depth <= max(deep, 3 / (length * scale)))
    core = (inside > 0) & (depth > deep)
    wrist_border, palm_border, finger_border = (
        _measure_brightness(hand, border & part, core & part)
        for part in ((along >= low) & (along < high) for low, high in (_WRIST, _PALM, _FINGERS))
    )
    if not finger_border >= _MIN_FINGER_BRIGHTNESS:  # NaN too
        return 0.0
    brightest = float(np.nanmax([wrist_border, palm_border, 0.0]))
    if brightest < _MIN_CAST_BRIGHTNESS:
        return 0.0
    end = _measure_end(hand, along, border=border, core=core)
    return max(0.0, min(brightest - finger_border, end))


def _measure_brightness(
    hand: UInt8[np.ndarray, "rows columns"],
    border: Bool[np.ndarray, "rows columns"],
    core: Bool[np.ndarray, "rows columns"],
) -> float:
    """Return the brightness of a part's border relative to its bones; NaN where there is too little of it."""
    if np.count_nonzero(border) < _MIN_PIXELS or np.count_nonzero(core) < _MIN_PIXELS:
        return float("nan")
    return float(np.median(hand[border])) / max(1.0, float(np.percentile(hand[core], 80)))


def _measure_end(
    hand: UInt8[np.ndarray, "rows columns"],
    along: Float[np.ndarray, "rows columns"],
    *,
    border: Bool[np.ndarray, "rows columns"],
    core: Bool[np.ndarray, "rows columns"],
) -> float:
    """Return the largest fall of the border's brightness along the hand, relative to its bones."""
    starts = np.arange(_LOWEST_SLICE, _HIGHEST_SLICE, _SLICE)
    numbers = np.floor((along - _LOWEST_SLICE) / _SLICE)[border]
    greys = hand[border]
    levels = np.array(
        [
            np.median(greys[numbers == number]) if np.count_nonzero(numbers == number) >= _MIN_PIXELS // 2 else np.nan
            for number in range(len(starts))
        ]
    )
    # Two slices below the end, one in which it lies, and two above it.
    pairs = (levels[:-1] + levels[1:]) / 2
    ends = starts[2:-2]
    falls = (pairs[:-3] - pairs[3:])[(ends >= _ENDS[0]) & (ends <= _ENDS[1])]
    bones = float(np.percentile(hand[core], 95)) if core.any() else 1.0
    return float(np.nanmax(falls, initial=0.0)) / max(1.0, bones)
