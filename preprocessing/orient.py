"""How the hand lies: from landmarks to its angle, its side and its length."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

NUM_LANDMARKS = 21
WRIST, MIDDLE_TIP = 0, 12
_THUMB, _LITTLE_FINGER = slice(2, 5), slice(17, 21)


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a hand lies in the frame.

    Args:
        angle_degrees: Direction from wrist to middle fingertip against straight up, counter-clockwise positive, in
            (-180, 180].
        side: `"left"` if the thumb is on the right of the hand once it stands upright, else `"right"`.
        side_margin: How clearly: distance between thumb and little finger across the hand, as a share of its length.
        length_px: Distance from wrist to middle fingertip in pixels.
    """

    angle_degrees: float
    side: str
    side_margin: float
    length_px: float

    @property
    def quarters(self) -> int:
        """By how often 90 degrees, counter-clockwise, the frame is turned for the hand to stand most upright."""
        return -round(self.angle_degrees / 90)


def find_pose(landmarks: Float[np.ndarray, "21 2"]) -> Pose:
    """Tell from its landmarks how a hand lies.

    A left hand on the cassette, palm down, shows its thumb on the right of an upright picture; so does the picture
    of a right hand that was mirrored, which is why the side is that of the picture, not that of the child.

    Args:
        landmarks: Points `(x, y)` in pixels, y downwards: wrist, then thumb, forefinger, middle, ring and little
            finger, four each from base to tip.

    Returns:
        The pose.

    Raises:
        ValueError: If wrist and middle fingertip are one point.
    """
    across, down = landmarks[MIDDLE_TIP] - landmarks[WRIST]
    length_px = math.hypot(across, down)
    if length_px == 0:
        raise ValueError("wrist and middle fingertip are one point: the hand has no direction.")
    rightwards = np.array([-down, across]) / length_px  # right of the hand when its middle finger points up
    thumb, little_finger = landmarks[_THUMB].mean(axis=0), landmarks[_LITTLE_FINGER].mean(axis=0)
    margin = float((thumb - little_finger) @ rightwards) / length_px
    return Pose(
        angle_degrees=math.degrees(math.atan2(0.0 - across, -down)),  # no negative zero: 180, never -180
        side="left" if margin > 0 else "right",
        side_margin=abs(margin),
        length_px=length_px,
    )


def turn_between(degrees: float, other_degrees: float) -> float:
    """Return the smallest turn from one angle to another, in [-180, 180) degrees."""
    return (degrees - other_degrees + 180) % 360 - 180
