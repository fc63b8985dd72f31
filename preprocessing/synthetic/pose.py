"""A hand as chains of joints: proportions, spread of the fingers, landmarks.

Hand coordinates are millimetres of an adult hand as seen on film (a left hand, palm down): the origin is the middle
of the wrist, x points to the thumb, y to the tip of the middle finger. The scale of the frame accounts for growth.
Segment lengths are the means of Buryanov & Kotiuk, "Proportions of hand segments", International Outbox of
Morphology 28 (2010) 755-758.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "little_finger")
LANDMARK_NAMES = ("wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in (1, 2, 3, 4)))

# Metacarpal, then phalanges from base to tip, in millimetres.
SEGMENTS_MM = (
    (46.2, 31.6, 21.7),
    (68.1, 39.8, 22.4, 15.8),
    (64.6, 44.6, 26.3, 17.4),
    (58.0, 41.4, 25.7, 17.3),
    (53.7, 32.7, 18.1, 16.0),
)
# Base of each metacarpal, and its direction in degrees from vertical towards the thumb; chosen so that the joints lie
# about where they do in the median radiograph of RSNA 2017.
METACARPAL_BASES_MM = ((26.0, 29.0), (14.0, 33.5), (3.0, 34.5), (-7.0, 32.0), (-16.0, 28.5))
METACARPAL_DEGREES = (42.0, 12.0, 0.5, -12.0, -22.0)
FINGER_DEGREES = (30.0, 8.0, 0.0, -9.0, -24.0)
FOREARM_MM = 320.0  # extends beyond any film


@dataclass(frozen=True)
class Pose:
    """Positions of the joints of one hand, in hand coordinates (millimetres).

    Attributes:
        chains_mm: For each finger, the joints from the metacarpal's base to the tip of the last phalanx, each of shape
            `(joints, 2)`.
        forearm_degrees: Direction of the forearm from the wrist, counter-clockwise from the x axis.
    """

    chains_mm: tuple[Float[np.ndarray, "_ 2"], ...]
    forearm_degrees: float

    @property
    def landmarks_mm(self) -> Float[np.ndarray, "21 2"]:
        """The wrist, then four landmarks a finger from base to tip, in the order of `LANDMARK_NAMES`.

        The first landmark of the thumb is its saddle joint, that of the other fingers the knuckle.
        """
        return np.concatenate([np.zeros((1, 2)), *(chain[-4:] for chain in self.chains_mm)])

    def locate_on_forearm(self, distance_mm: float, *, thumbwards_mm: float = 0.0) -> Float[np.ndarray, "2"]:
        """Return the point at `distance_mm` down the forearm and `thumbwards_mm` from its axis towards the thumb."""
        axis = np.array([np.cos(np.radians(self.forearm_degrees)), np.sin(np.radians(self.forearm_degrees))])
        return axis * distance_mm + np.array([-axis[1], axis[0]]) * thumbwards_mm


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw proportions and pose of one hand: the middle fingertip is straight above the wrist.

    Args:
        rng: Random generator.
    """
    spread = rng.uniform(0.55, 1.6)
    length = rng.normal(1.0, 0.02)
    chains = []
    for finger, (base, lengths) in enumerate(zip(METACARPAL_BASES_MM, SEGMENTS_MM, strict=True)):
        palm_degrees = METACARPAL_DEGREES[finger] * (1 + 0.15 * (spread - 1)) + rng.normal(0, 1.0)
        # The fingers spread around the knuckles, the thumb around its base.
        swing_degrees = rng.normal(0, 7.0) if finger == 0 else 0.0
        finger_degrees = FINGER_DEGREES[finger] * (1.0 if finger == 0 else spread) + swing_degrees + rng.normal(0, 1.5)
        bends_degrees = rng.normal(0, 2.0, size=len(lengths))
        sizes = np.asarray(lengths) * length * rng.normal(1.0, 0.02)
        turns = np.radians([palm_degrees + swing_degrees * 0.6, *(finger_degrees + bends_degrees[1:])])
        steps = sizes[:, None] * np.stack([np.sin(turns), np.cos(turns)], axis=1)
        chains.append(np.cumsum([base, *steps], axis=0))
    tip_x, tip_y = chains[2][-1]
    turn = np.arctan2(tip_x, tip_y)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Pose(
        chains_mm=tuple(chain @ matrix for chain in chains),
        forearm_degrees=float(-90 + rng.normal(0, 8.0)),
    )
