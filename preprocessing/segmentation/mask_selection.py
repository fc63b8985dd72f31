"""Mask selection: score the masks that Segment Anything proposes and rank them; all candidates are kept."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float32

# Stability as in Kirillov et al. 2023, arXiv:2304.02643: overlap of the masks at logits above +1 and above -1.
_STABILITY_LOGIT = 1.0
# Hands cover 8 to 49 per cent of RSNA frames; the ramps end well outside.
_AREA_RAMP = (0.01, 0.05, 0.60, 0.90)
# Share of the convex hull that the mask fills: spread fingers 0.6, closed ones 0.9; a film corner or a bar fills all.
_SOLIDITY_RAMP = (0.30, 0.50, 0.93, 1.02)
_LARGEST_RAMP = (0.3, 0.9)
NO_HAND_LOGIT = -8.0


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A mask proposed by a model.

    Args:
        logits: Above 0 on the hand; a coarse map over the whole frame, any size, float32.
        predicted_iou: Intersection over union with the true mask, as predicted by the model.
        stability: Overlap of the masks at stricter and looser thresholds, in [0, 1].
        plausibility: How plausible its shape is for a hand, in [0, 1].
    """

    logits: Float32[np.ndarray, "rows columns"]
    predicted_iou: float
    stability: float
    plausibility: float

    @property
    def score(self) -> float:
        """Confidence in the mask: product of predicted IoU, stability and plausibility, in [0, 1]."""
        return float(np.clip(self.predicted_iou, 0, 1)) * self.stability * self.plausibility

    def rotate(self, quarter_turns: int) -> "Candidate":
        """Return the candidate of the rotated frame.

        Args:
            quarter_turns: Number of counter-clockwise quarter turns.
        """
        return dataclasses.replace(self, logits=np.ascontiguousarray(np.rot90(self.logits, quarter_turns)))

    def pad(self, around_px: tuple[tuple[int, int], ...], *, shape: tuple[int, int]) -> "Candidate":
        """Return the candidate of a larger frame, with nothing of the hand around this one.

        Args:
            around_px: Pixels above and below, left and right of this frame.
            shape: Height and width of this frame in pixels.
        """
        widths = [
            tuple(round(side * coarse / fine) for side in sides)
            for sides, coarse, fine in zip(around_px, self.logits.shape, shape, strict=True)
        ]
        return dataclasses.replace(self, logits=np.pad(self.logits, widths, constant_values=NO_HAND_LOGIT))


def score_candidate(logits: Float32[np.ndarray, "rows columns"], *, predicted_iou: float) -> Candidate:
    """Score a mask by its stability and its shape.

    Args:
        logits: Coarse map over the whole frame.
        predicted_iou: Intersection over union as predicted by the model.
    """
    return Candidate(
        logits=logits,
        predicted_iou=predicted_iou,
        stability=measure_stability(logits),
        plausibility=measure_plausibility(logits > 0),
    )


def rank_candidates(candidates: list[Candidate]) -> list[Candidate]:
    """Order candidates by their score, best first; equal ones in the given order."""
    return sorted(candidates, key=lambda candidate: -candidate.score)


def measure_stability(logits: Float32[np.ndarray, "rows columns"]) -> float:
    """Return how little a mask changes with the threshold: area at logits above +1 over area above -1, in [0, 1]."""
    loose = int(np.count_nonzero(logits > -_STABILITY_LOGIT))
    return int(np.count_nonzero(logits > _STABILITY_LOGIT)) / loose if loose else 0.0


def measure_plausibility(mask: Bool[np.ndarray, "rows columns"]) -> float:
    """Return how plausible the shape of a mask is for a hand.

    Args:
        mask: The mask over the whole frame.

    Returns:
        The product of three ramps, in [0, 1]: share of the frame covered, share of the mask in its largest piece, and
        share of that piece's convex hull filled (fingers leave gaps, a film's corner does not).
    """
    num_labels, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if num_labels == 1:
        return 0.0
    areas = stats[1:, cv2.CC_STAT_AREA]
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)
    hull = max(cv2.contourArea(cv2.convexHull(outline)), 1.0)
    low, high = _LARGEST_RAMP
    return (
        _trapezoid(int(np.count_nonzero(mask)) / mask.size, _AREA_RAMP)
        * float(np.clip((areas.max() / areas.sum() - low) / (high - low), 0, 1))
        * _trapezoid(cv2.contourArea(outline) / hull, _SOLIDITY_RAMP)
    )


def _trapezoid(value: float, ramp: tuple[float, float, float, float]) -> float:
    """Return 1 between the middle two values, 0 outside the outer two, linear between."""
    return float(np.interp(value, ramp, (0.0, 1.0, 1.0, 0.0)))
