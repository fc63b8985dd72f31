"""Boxes and squares: pixels worked out by hand, and proportions that stay true."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.crop.crop import bounding_box, pad_to_square, resize, warp

PIXELS = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)


def test_box_around_the_mask():
    mask = np.zeros((6, 8), np.bool_)
    mask[2, 5] = mask[4, 1] = True
    assert bounding_box(mask) == (1, 2, 6, 5)


def test_box_of_the_whole_frame():
    assert bounding_box(np.ones((6, 8), np.bool_)) == (0, 0, 8, 6)


def test_box_of_nothing():
    with pytest.raises(ValueError, match="`mask` must not be empty"):
        bounding_box(np.zeros((6, 8), np.bool_))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[1, 2, 3, 4]], [[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]),
        ([[1], [2], [3]], [[0, 1, 0], [0, 2, 0], [0, 3, 0]]),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], [[0, 1, 2, 0], [0, 3, 4, 0], [0, 5, 6, 0], [0, 7, 8, 0]]),
        ([[9]], [[9]]),
    ],
    ids=["wide", "tall", "even", "single pixel"],
)
def test_padding_is_black_and_the_crop_in_the_middle(pixels, expected):
    square, scale = pad_to_square(np.uint8(pixels), max_size_px=16)
    assert square.tolist() == expected
    assert scale == 1.0


def test_shrinking_averages_areas():
    pixels = np.uint8(
        [[0, 100, 10, 10], [100, 200, 10, 10], [7, 7, 0, 8], [7, 7, 8, 0], [1, 3, 40, 40], [1, 3, 40, 40]]
    )
    square, scale = pad_to_square(pixels, max_size_px=3)
    assert square.tolist() == [[100, 10, 0], [7, 4, 0], [2, 40, 0]]
    assert scale == 0.5


def test_a_crop_that_is_a_view_is_shrunk_alike():
    view = np.pad(np.full((8, 4), 90, np.uint8), 3)[3:11, 3:7]
    square, scale = pad_to_square(view, max_size_px=4)
    assert square.tolist() == [[0, 90, 90, 0]] * 4
    assert scale == 0.5


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), max_size_px=st.integers(1, 60))
def test_proportions_stay_true_and_nothing_is_enlarged(height, width, max_size_px):
    square, scale = pad_to_square(np.full((height, width), 255, np.uint8), max_size_px=max_size_px)
    longest = max(height, width)
    assert square.shape == (min(longest, max_size_px),) * 2
    assert scale == min(1, max_size_px / longest)
    filled = square == 255
    assert np.all(square[~filled] == 0)
    left, top, right, bottom = bounding_box(filled)
    assert filled[top:bottom, left:right].all()
    assert abs(bottom - top - height * scale) <= 0.5 or bottom - top == 1
    assert abs(right - left - width * scale) <= 0.5 or right - left == 1
    size = square.shape[0]
    assert 0 <= (size - right) - left <= 1
    assert 0 <= (size - bottom) - top <= 1


@settings(deadline=None)
@given(
    height=st.integers(160, 600),
    width=st.integers(160, 600),
    share=st.floats(0.05, 1.0, exclude_max=True),
    seed=st.integers(0, 9),
)
def test_shrinking_is_close_to_the_mean_of_areas(height, width, share, seed):
    coarse = np.random.default_rng(seed).uniform(0, 255, (8, 8)).astype(np.float32)
    pixels = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    size = max(1, round(width * share)), max(1, round(height * share))
    means = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    assert np.abs(resize(pixels, size=size) - means).max() <= 2.5


def test_fine_stripes_shrink_to_grey():
    stripes = np.tile(np.uint8([0, 0, 200, 200]), (403, 101))[:, :401]
    small = resize(stripes, size=(50, 50))
    assert abs(float(small.mean()) - 100) < 2
    assert np.ptp(small) < 60  # picking pixels, or sampling between two, would leave 200


@settings(deadline=None)
@given(x=st.integers(60, 340), y=st.integers(60, 240), scale=st.floats(0.1, 2.0))
def test_warping_moves_a_spot_to_its_place_whether_it_grows_or_shrinks(x, y, scale):
    pixels = np.zeros((301, 403), np.float32)
    pixels[y, x] = 255 * 2 * np.pi * 9.0**2
    pixels = np.clip(cv2.GaussianBlur(pixels, (0, 0), 9.0), 0, 255).astype(np.uint8)
    side = 300
    place = np.array([120.25, 160.75])
    matrix = np.column_stack([np.eye(2) * scale, place - scale * np.array([x, y])])
    seen = warp(pixels, matrix, scale=scale, side=side, interpolation=cv2.INTER_LINEAR).astype(np.float64)
    found = np.array([seen.sum(axis=0) @ np.arange(side), seen.sum(axis=1) @ np.arange(side)]) / seen.sum()
    assert np.abs(found - place).max() < 0.2
