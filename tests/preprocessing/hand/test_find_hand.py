"""Finding the hand where the radiograph as it is does not do: in other tones, close up, and by the U-Net."""

import dataclasses

import cv2
import numpy as np
import pytest

from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.hand.find_hand import find_hand
from boneage.preprocessing.hand.gate import GateConfig, check_gate
from boneage.preprocessing.hand.renderings import AS_IT_IS
from boneage.preprocessing.hand.segmenters import hand_sam
from boneage.preprocessing.segmentation.segmentation import Segmentation
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data.mask_pairs import score_mask

DRAWN = draw_radiograph(120, sex="female", seed=3, size_px=(400, 320), angle_degrees=0.0)
PIXELS = stretch_contrast(DRAWN.pixels)
# Drawings are a little pale; a gamma brings them to the tone of ordinary radiographs.
ORDINARY = np.rint((PIXELS / 255) ** 1.4 * 255).astype(np.uint8)


def find(pixels, segmenter=hand_sam):
    return find_hand(pixels, segmenter=segmenter, gate=GateConfig())


def doubt(pixels):
    return dataclasses.replace(hand_sam(pixels), score=0.1)


def test_find_hand_takes_the_radiograph_as_it_is_where_the_gate_trusts_it():
    hand = find(ORDINARY)
    assert hand.rendering == AS_IT_IS and not check_gate(hand.measures, gate=GateConfig())


def test_find_hand_asks_the_unet_where_the_tone_is_unusual():
    burnt = np.minimum(PIXELS.astype(int) * 2, 255).astype(np.uint8)
    hand = find(burnt)
    assert hand.rendering == "U-Net, soft tissue lifted" and not check_gate(hand.measures, gate=GateConfig())
    np.testing.assert_array_equal(hand.pixels, stretch_contrast(burnt))
    assert score_mask(hand.segmentation.mask, truth=DRAWN.mask)["dice"] > 0.96


def test_find_hand_keeps_the_mask_of_other_segmenters_in_any_tone():
    hand = find(PIXELS, lambda pixels: hand_sam(pixels))
    assert hand.rendering == AS_IT_IS


def test_find_hand_takes_the_first_attempt_that_the_gate_trusts():
    hand = find(PIXELS, doubt)
    assert hand.rendering == "U-Net, soft tissue lifted"
    np.testing.assert_array_equal(hand.pixels, PIXELS)  # the crop has the tone of the file
    assert score_mask(hand.segmentation.mask, truth=DRAWN.mask)["dice"] > 0.97


def test_find_hand_reads_a_printed_plate_and_an_equalised_film():
    grey = float(np.median(PIXELS[DRAWN.mask])) / 255
    curve = 1 / (1 + np.exp((grey - np.arange(256) / 255) / 0.06))
    for pixels in (np.rint(curve * 255).astype(np.uint8)[PIXELS], cv2.equalizeHist(PIXELS)):
        hand = find(pixels)
        assert not check_gate(hand.measures, gate=GateConfig())
        assert score_mask(hand.segmentation.mask, truth=DRAWN.mask)["dice"] > 0.95


@pytest.mark.parametrize("place", [(0, 0), (500, 700)])
def test_find_hand_finds_a_small_hand_close_up(place):
    row, column = place
    plate, truth = np.zeros((1300, 1100), np.uint8), np.zeros((1300, 1100), np.bool_)
    part = slice(row, row + 400), slice(column, column + 320)
    plate[part], truth[part] = PIXELS, DRAWN.mask
    hand = find(plate)
    assert hand.rendering == "close-up" and not check_gate(hand.measures, gate=GateConfig())
    assert score_mask(hand.segmentation.mask, truth=truth)["dice"] > 0.95
    assert np.abs(hand.landmarks.points - DRAWN.landmarks - (column, row)).mean() < 8
    assert hand.segmentation.prompts.box[0] >= column - 150 and hand.segmentation.prompts.box[1] >= row - 150
    rows, columns = hand.segmentation.candidates[0].logits.shape
    assert rows / columns == pytest.approx(1300 / 1100, rel=0.02)
    # The hand keeps its contrast, though it is brighter than 99% of the plate.
    difference = hand.pixels[truth].astype(float) - PIXELS[DRAWN.mask]
    assert np.abs(difference).mean() < 12 and (hand.pixels[truth] == 255).mean() < 0.06


@pytest.mark.parametrize("inverted", [False, True])
def test_find_hand_keeps_the_contrast_within_a_small_hand_on_a_black_plate(inverted):
    plate, truth = np.zeros((900, 760), np.uint16), np.zeros((900, 760), np.bool_)
    plate[250:650, 220:540], truth[250:650, 220:540] = np.uint16(60) * ORDINARY * DRAWN.mask, DRAWN.mask
    hand = find(65535 - plate if inverted else plate)
    assert not check_gate(hand.measures, gate=GateConfig())
    assert np.mean(hand.pixels[hand.segmentation.mask] == 255) <= 0.07


def test_find_hand_leaves_burnt_out_bone_as_the_file_has_it():
    burnt = np.minimum(PIXELS, np.uint8(np.percentile(PIXELS[DRAWN.mask], 70)))
    hand = find(burnt)
    np.testing.assert_array_equal(hand.pixels, stretch_contrast(burnt))


def test_find_hand_keeps_the_first_result_where_nothing_is_trusted():
    noise = np.random.default_rng(0).integers(0, 256, (200, 160)).astype(np.uint8)
    hand = find(noise)
    assert hand.rendering == AS_IT_IS and check_gate(hand.measures, gate=GateConfig())


@pytest.mark.parametrize("kind", ["cut off", "drawn by a person"])
def test_find_hand_does_not_try_again(kind):
    pixels = PIXELS if kind == "drawn by a person" else np.ascontiguousarray(PIXELS[120:])
    calls = []

    def segment(shown):
        calls.append(shown)
        if kind == "drawn by a person":
            return Segmentation(mask=np.zeros(shown.shape, np.bool_), score=None)
        return hand_sam(shown)

    hand = find(pixels, segment)
    assert len(calls) == 1
    if kind == "cut off":
        assert "cut_off" in check_gate(hand.measures, gate=GateConfig())
