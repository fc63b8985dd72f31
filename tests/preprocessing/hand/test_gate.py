"""The gate: each measure on shapes whose answer is plain, and each threshold with its reason."""

import dataclasses

import numpy as np
import pytest

from boneage.preprocessing.hand.gate import (
    GateConfig,
    HandMeasures,
    check_gate,
    list_gate_warnings,
    measure_contrast,
    measure_noise,
    measure_range,
)

GOOD = HandMeasures(
    grey_levels=180.0,
    area_share=0.3,
    mask_score=0.95,
    second_share=0.0,
    landmark_doubt=0.045,
    side_margin=0.8,
    contrast=0.4,
    cut_score=0.0,
    film_below_wrist=0.4,
    palm_share=1.0,
    landmarks_missed=0.0,
    noise=0.005,
    length_px=250.0,
)
HAND_ONLY = (
    "landmarks_missed",
    "noise",
    "length_px",
    "mask_score",
    "side_margin",
    "contrast",
    "cut_score",
    "film_below_wrist",
    "palm_share",
    "landmark_doubt",
)


def test_a_good_radiograph_has_no_reason():
    assert check_gate(GOOD, gate=GateConfig()) == ()


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"grey_levels": 3.0}, ("too_dark",)),
        ({"noise": 0.06}, ("too_noisy",)),
        ({"length_px": 44.0}, ("too_coarse",)),
        ({"landmarks_missed": 2 / 21}, ("bad_mask",)),
        ({"landmarks_missed": 1 / 21}, ()),
        ({"area_share": 0.0}, ("no_hand",)),
        ({"landmark_doubt": 0.2}, ("unsure_orientation",)),
        ({"second_share": 0.6}, ("several_hands",)),
        ({"cut_score": 0.5}, ("cut_off",)),
        ({"film_below_wrist": -0.1}, ("no_wrist",)),
        ({"palm_share": 0.7}, ("no_wrist",)),
        ({"cast_score": 0.3}, ("in_cast",)),
        ({"contrast": 0.01}, ("low_contrast",)),
        ({"mask_score": 0.2}, ("bad_mask",)),
        ({"area_share": 0.9}, ("bad_mask",)),
        ({"side_margin": 0.1}, ("unsure_orientation",)),
        ({"grey_levels": 3.0, "mask_score": 0.2}, ("too_dark", "bad_mask")),
        (dict.fromkeys(HAND_ONLY), ()),
    ],
)
def test_each_threshold_has_its_reason(change, reasons):
    assert check_gate(dataclasses.replace(GOOD, **change), gate=GateConfig()) == reasons


def test_thresholds_must_not_be_negative():
    with pytest.raises(ValueError, match=r"`min_contrast` must not be negative\. Received: -0\.1\."):
        GateConfig(min_contrast=-0.1)


@pytest.mark.parametrize(("inside", "outside", "expected"), [(200, 50, 0.6), (50, 200, -0.6), (90, 90, 0)])
@pytest.mark.parametrize("size", [80, 600])
@pytest.mark.parametrize("frame", [0, 255])
def test_contrast_is_hand_less_surroundings_whatever_lies_around_them(frame, inside, outside, expected, size):
    mask = np.zeros((size, size), np.bool_)
    mask[size // 4 : size // 2, size // 4 : size // 2] = True
    pixels = np.where(mask, inside, outside).astype(np.uint8)
    pixels[size // 4 : size // 4 + size // 16, size // 4 : size // 2] = 0  # half of the hand: grey from 0 to 250
    pixels[size // 2 - size // 16 : size // 2, size // 4 : size // 2] = 250
    far = np.ones_like(mask)
    far[size // 8 : -size // 3, size // 8 : -size // 3] = False
    pixels[far] = frame
    assert measure_contrast(pixels, mask) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("share", [0.01, 0.03, 0.08])
@pytest.mark.parametrize("grey_range", [80, 160])
def test_measure_noise_is_its_standard_deviation(share, grey_range):
    rows, columns = np.mgrid[:300, :300]
    mask = np.hypot(rows - 150, columns - 150) < 95
    smooth = np.where(mask, 40 + grey_range * columns / 300, 0)  # a slope has no second differences
    clean = smooth.astype(np.uint8)
    sigma = share * measure_range(clean[mask])
    noisy = np.clip(np.rint(smooth + np.random.default_rng(0).normal(0, sigma, mask.shape)), 0, 255).astype(np.uint8)
    assert measure_noise(noisy, mask, length_px=190.0) == pytest.approx(sigma, rel=0.15, abs=0.3)
    assert measure_noise(clean, mask, length_px=190.0) < 0.4


def test_measure_noise_of_a_larger_radiograph_is_averaged():
    mask = np.ones((400, 400), np.bool_)
    noisy = np.clip(np.random.default_rng(0).normal(128, 20, mask.shape), 0, 255).astype(np.uint8)
    small, large = (measure_noise(noisy, mask, length_px=length) for length in (190.0, 760.0))
    assert large == pytest.approx(small / 4, rel=0.15)


@pytest.mark.parametrize(("cut_score", "warnings"), [(None, ()), (0.01, ()), (0.1, ("hand_cut_off",))])
def test_list_gate_warnings_tells_of_a_hand_that_is_cut_a_little(cut_score, warnings):
    measures = dataclasses.replace(GOOD, cut_score=cut_score)
    assert check_gate(measures, gate=GateConfig()) == ()
    assert list_gate_warnings(measures, gate=GateConfig()) == warnings
