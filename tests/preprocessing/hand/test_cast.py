"""Casts on drawn hands: what is bright up to its border in wrist or palm, and not in the fingers."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.hand.cast import measure_cast
from boneage.preprocessing.hand.gate import GateConfig
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST
from boneage.preprocessing.synthetic import draw_radiograph

DRAWN = draw_radiograph(150, sex="female", seed=3, size_px=(400, 320), angle_degrees=0)
LENGTH_PX = float(np.hypot(*(DRAWN.landmarks[MIDDLE_TIP] - DRAWN.landmarks[WRIST])))
THRESHOLD = GateConfig().max_cast_score


def put_in_cast(*, up_to, density=0.6):
    """Brighten a drawn hand from the forearm up to a share of its length above the wrist, its border most."""
    rows = np.arange(DRAWN.pixels.shape[0])[:, None]
    covered = DRAWN.mask & (rows > DRAWN.landmarks[WRIST, 1] - up_to * LENGTH_PX)
    bright = 255 - (255 - DRAWN.pixels.astype(float)) * (1 - density)
    return np.where(covered, bright, DRAWN.pixels).astype(np.uint8)


@pytest.mark.parametrize("up_to", [0.1, 0.4])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_measure_cast_of_a_cast(up_to, scale):
    pixels = put_in_cast(up_to=up_to)
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    mask = cv2.resize(DRAWN.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    assert measure_cast(resized, mask, DRAWN.landmarks * scale) > THRESHOLD


def test_measure_cast_turned_by_a_quarter():
    pixels, mask = (np.ascontiguousarray(np.rot90(image, -1)) for image in (put_in_cast(up_to=0.4), DRAWN.mask))
    points = np.column_stack([pixels.shape[1] - 1 - DRAWN.landmarks[:, 1], DRAWN.landmarks[:, 0]])
    assert measure_cast(pixels, mask, points) > THRESHOLD


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_measure_cast_without_a_cast(gamma):
    pixels = np.rint((DRAWN.pixels / 255) ** gamma * 255).astype(np.uint8)
    assert measure_cast(pixels, DRAWN.mask, DRAWN.landmarks) < THRESHOLD / 2


def test_measure_cast_of_a_hand_that_is_all_bright():
    assert measure_cast(put_in_cast(up_to=2.0), DRAWN.mask, DRAWN.landmarks) < THRESHOLD / 2


def test_measure_cast_of_a_hand_printed_with_black_soft_tissue():
    printed = np.where(DRAWN.pixels < 150, 0, DRAWN.pixels)
    printed[-60:] = 255
    assert measure_cast(printed, DRAWN.mask, DRAWN.landmarks) == 0


def test_measure_cast_of_an_empty_part():
    mask = np.zeros_like(DRAWN.mask)
    mask[200:203, 100:103] = True
    assert measure_cast(DRAWN.pixels, mask, DRAWN.landmarks) == 0
