"""Completeness of a hand on drawings whose answer is plain: borders, cuts at the film's edge, the wrist."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.hand.completeness import find_film_box, measure_cut, measure_film_below, measure_palm
from boneage.preprocessing.synthetic import draw_radiograph

DRAWN = draw_radiograph(150, sex="female", seed=3, size_px=(400, 320), angle_degrees=0)
TIP, MIDDLE_JOINT, WRIST = (round(float(DRAWN.landmarks[point, 1])) for point in (12, 10, 0))
HIGHEST = int(np.flatnonzero(DRAWN.mask.any(axis=1))[0])


def film(height=60, width=40):
    return np.random.default_rng(0).integers(60, 200, (height, width)).astype(np.uint8)


def cut_above(row):
    """Crop a drawn hand at a row of pixels."""
    return DRAWN.pixels[row:], DRAWN.mask[row:], DRAWN.landmarks - (0, row)


def test_find_film_box_without_borders():
    assert find_film_box(film()) == (0, 0, 40, 60)


@pytest.mark.parametrize("levels", [(0,), (255,), (255, 0), (0, 250, 5)])
def test_find_film_box_within_black_and_white_borders(levels):
    framed = film()
    for level in levels:
        framed = cv2.copyMakeBorder(framed, 3, 4, 5, 6, cv2.BORDER_CONSTANT, value=(level,))
    top, left = 3 * len(levels), 5 * len(levels)
    assert find_film_box(framed) == (left, top, left + 40, top + 60)


@pytest.mark.parametrize("level", [0, 255])
def test_find_film_box_of_an_empty_frame(level):
    assert find_film_box(np.full((30, 20), level, np.uint8)) == (0, 0, 20, 30)


def test_find_film_box_keeps_plain_grey_film():
    assert find_film_box(np.full((30, 20), 90, np.uint8)) == (0, 0, 20, 30)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_measure_cut_of_a_complete_hand(scale):
    pixels, mask, points = cut_above(HIGHEST - 8)
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1
    assert measure_cut(pixels, mask, points * scale) == 0


def test_measure_cut_is_small_where_a_fingertip_touches_the_edge():
    assert measure_cut(*cut_above(HIGHEST)) < 0.015


def test_measure_cut_of_a_cut_finger():
    assert 0.03 < measure_cut(*cut_above(round(0.5 * (TIP + MIDDLE_JOINT)))) < 0.3


def test_measure_cut_counts_what_the_mask_misses_by_a_few_pixels():
    pixels, mask, points = cut_above(round(0.5 * (TIP + MIDDLE_JOINT)))
    mask = mask.copy()
    whole = measure_cut(pixels, mask, points)
    mask[:4] = False
    assert measure_cut(pixels, mask, points) == pytest.approx(whole, rel=0.2)


def test_measure_cut_leaves_the_forearm_out():
    pixels, mask = (part[: WRIST + 20] for part in (DRAWN.pixels, DRAWN.mask))
    assert measure_cut(pixels, mask, DRAWN.landmarks) == 0


def test_measure_cut_of_no_hand():
    assert measure_cut(film(), np.zeros((60, 40), np.bool_), DRAWN.landmarks) == 0


@pytest.mark.parametrize(("gap_px", "counts"), [(3.0, False), (1.0, True)])
def test_measure_cut_of_a_thumb_counts_where_its_tip_is_missing(gap_px, counts):
    points = np.zeros((21, 2))
    points[:, 0], points[:, 1] = 30.0, 20.0
    points[0], points[12] = (30, 100), (30, 0)
    points[1:5] = np.array([(99 - gap_px - bones, 50) for bones in (60, 40, 13, 0)])
    mask = np.zeros((120, 100), np.bool_)
    mask[40:60, 50:] = True
    pixels = np.where(mask, 200, 20).astype(np.uint8)
    cut = measure_cut(pixels, mask, points)
    assert cut > 0.15 if counts else cut == 0


@pytest.mark.parametrize(("tip", "expected"), [((50, 30), 0.4), ((10, 80), 1.2375), ((50, 130), 1.6), ((90, 40), 0.5)])
def test_measure_film_below_wrist_in_any_direction(tip, expected):
    points = np.zeros((21, 2))
    points[0], points[12] = (50, 80), tip
    assert measure_film_below((0, 0, 100, 100), points) == pytest.approx(expected, abs=0.03)


def test_measure_film_below_is_negative_beyond_the_film():
    points = np.zeros((21, 2))
    points[0], points[12] = (50, 80), (50, 30)
    assert measure_film_below((0, 0, 100, 70), points) == pytest.approx(-0.2, abs=0.02)


def test_measure_palm_is_a_share_of_the_usual():
    points = np.zeros((21, 2))
    points[0], points[9], points[12] = (0, 112.7), (0, 0), (0, -100)
    assert measure_palm(points) == pytest.approx(1.0)
    points[0] = (0, 80)
    assert measure_palm(points) == pytest.approx(0.71, abs=0.01)
