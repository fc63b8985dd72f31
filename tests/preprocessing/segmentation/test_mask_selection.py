"""Which of the masks that are offered is taken, and why."""

import numpy as np
import pytest

from boneage.preprocessing.segmentation.mask_selection import (
    measure_plausibility,
    measure_stability,
    rank_candidates,
    score_candidate,
)
from boneage.preprocessing.synthetic import draw_radiograph

HAND = draw_radiograph(140, sex="female", seed=8, size_px=(200, 160)).mask


def as_logits(mask, *, sharpness=10.0):
    return np.where(mask, sharpness, -sharpness).astype(np.float32)


def test_stability_is_overlap_of_strict_and_loose():
    logits = np.full((10, 10), -5.0, np.float32)
    logits[:4] = 5.0
    logits[4] = 0.5
    assert measure_stability(logits) == pytest.approx(40 / 50)
    assert measure_stability(np.full((3, 3), -9.0, np.float32)) == 0.0


def test_a_hand_is_plausible_and_other_shapes_are_not():
    assert measure_plausibility(HAND) > 0.95
    frame = np.ones_like(HAND)
    speck = np.zeros_like(HAND)
    speck[:5, :5] = True
    dust = np.random.default_rng(0).random(HAND.shape) > 0.8
    nothing = np.zeros_like(HAND)
    for shape in (frame, speck, dust, nothing):
        assert measure_plausibility(shape) < 0.3


def test_the_score_is_the_product_and_the_best_comes_first():
    hand = score_candidate(as_logits(HAND), predicted_iou=0.9)
    assert hand.score == pytest.approx(0.9 * hand.stability * hand.plausibility)
    frame = score_candidate(as_logits(np.ones_like(HAND)), predicted_iou=1.4)
    blurred = score_candidate(as_logits(HAND, sharpness=0.9), predicted_iou=0.9)
    assert rank_candidates([frame, blurred, hand])[0] is hand
    assert frame.score <= 1.0
    twin = score_candidate(as_logits(HAND), predicted_iou=0.9)
    assert rank_candidates([hand, twin])[0] is hand
