"""What was decided about a radiograph: the document in the records, and the sentence for a rejected hand."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.sources.review_csv import Review

REASON_MESSAGES = {
    "not_a_radiograph": "the hand is coloured, as in a photograph",
    "too_dark": "the hand has too few grey levels (underexposed)",
    "too_noisy": "the hand is too noisy to read",
    "too_coarse": "the hand has too few pixels to read",
    "no_hand": "no hand found",
    "several_hands": "more than one hand",
    "cut_off": "the edge of the film cuts off a large part of the hand",
    "no_wrist": "the radiograph ends above the wrist",
    "in_cast": "wrist or palm are in a cast",
    "low_contrast": "the hand does not stand out from its background",
    "bad_mask": "the hand mask is unreliable",
    "unsure_orientation": "this may not be a hand radiograph: its orientation is uncertain",
    "rejected_by_reviewer": "rejected by a reviewer",
}


def describe_rejection(path: Path, reasons: Sequence[str]) -> str:
    """Describe in one line why a hand was rejected, and what to do.

    Args:
        path: The file, named in the line.
        reasons: Keys of `REASON_MESSAGES`.
    """
    ordered = sorted(reasons, key=lambda reason: reason != "unsure_orientation")  # what else is wrong comes of that
    problems = ", ".join(REASON_MESSAGES[reason] for reason in ordered)
    return f"{path}: {problems}; inspect it, then keep, correct or reject it in a review file."


def list_decisions(hand: Hand, *, segmenter: str, reasons: Sequence[str], review: Review) -> dict[str, Any]:
    """List what was decided, in plain values and few digits.

    Args:
        hand: The hand.
        segmenter: Name of the segmenter.
        reasons: Reasons of the gate, before the review.
        review: The reviewer's decisions.
    """
    segmentation = hand.segmentation
    decisions: dict[str, Any] = {
        "segmenter": segmenter,
        "inverted": hand.inverted,
        "rendering": hand.rendering,
        "reasons": list(reasons),
        "measures": {
            name: round(value, 4) for name, value in dataclasses.asdict(hand.measures).items() if value is not None
        },
    }
    if segmentation.prompts:
        decisions["prompts"] = {"box": segmentation.prompts.box, "points": segmentation.prompts.points}
    if segmentation.candidates:
        names = ("predicted_iou", "stability", "plausibility", "score")
        decisions["candidates"] = [
            {name: round(getattr(candidate, name), 4) for name in names} for candidate in segmentation.candidates
        ]
    if segmentation.input_rotation_degrees:
        decisions["looked_at_turned_degrees"] = segmentation.input_rotation_degrees
    if hand.pose and hand.landmarks:
        decisions["angle_degrees"] = round(hand.pose.angle_degrees, 2)
        decisions["side"] = hand.pose.side
        decisions["hand_length_px"] = round(hand.pose.length_px, 1)
        decisions["landmarks_px"] = [
            [round(float(coordinate), 1) for coordinate in point] for point in hand.landmarks.points
        ]
    if review.rows:
        decisions["review"] = list(review.rows)
    return decisions
