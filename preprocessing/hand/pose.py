"""Pose of the hand from its landmarks: angle, side and length."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

NUM_LANDMARKS = 21
WRIST, MIDDLE_KNUCKLE, MIDDLE_TIP = 0, 9, 12
_THUMB, _LITTLE_FINGER = slice(2, 5), slice(17, 21)


@dataclasses.dataclass(frozen=True)
class Pose:
    """Pose of a hand in the frame.

    Args:
        angle_degrees: Direction from wrist to middle fingertip, measured from vertical, counter-clockwise positive,
            in (-180, 180].
        side: `"left"` if the thumb is on the right of the upright hand, else `"right"`.
        side_margin: Distance between thumb and little finger across the hand, as a share of its length.
        length_px: Distance from wrist to middle fingertip in pixels.
    """

    angle_degrees: float
    side: str
    side_margin: float
    length_px: float

    @property
    def quarter_turns(self) -> int:
        """Number of counter-clockwise quarter turns of the frame that bring the hand closest to upright."""
        return -round(self.angle_degrees / 90)


def find_pose(landmarks: Float[np.ndarray, "21 2"]) -> Pose:
    """Compute the pose of a hand from its landmarks.

    A left hand on the cassette, palm down, has its thumb on the right of an upright image. So has the mirrored image of
    a right hand: the side is that of the image, not that of the patient.

    Args:
        landmarks: Points `(x, y)` in pixels, y downwards: wrist, then thumb, forefinger, middle, ring and little
            finger, four each from base to tip.

    Returns:
        The pose.

    Raises:
        ValueError: If wrist and middle fingertip coincide.
    """
    across, down = landmarks[MIDDLE_TIP] - landmarks[WRIST]
    length_px = math.hypot(across, down)
    if length_px == 0:
        raise ValueError("`landmarks`: wrist and middle fingertip coincide; the hand has no direction.")
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
    """Return the smallest rotation between two angles, in [-180, 180) degrees."""
    return (degrees - other_degrees + 180) % 360 - 180
