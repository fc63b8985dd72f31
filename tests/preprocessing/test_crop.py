"""Boxes and squares: pixels worked out by hand, and proportions that stay true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.crop import bounding_box, thin, to_square

PIXELS = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)


def test_box_around_the_mask():
    mask = np.zeros((6, 8), np.bool_)
    mask[2, 5] = mask[4, 1] = True
    assert bounding_box(mask) == (1, 2, 6, 5)


def test_box_of_the_whole_frame():
    assert bounding_box(np.ones((6, 8), np.bool_)) == (0, 0, 8, 6)


def test_box_of_nothing():
    with pytest.raises(ValueError, match="mask is empty"):
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
    square, scale = to_square(np.uint8(pixels), max_size_px=16)
    assert square.tolist() == expected
    assert scale == 1.0


def test_shrinking_averages_areas():
    pixels = np.uint8(
        [[0, 100, 10, 10], [100, 200, 10, 10], [7, 7, 0, 8], [7, 7, 8, 0], [1, 3, 40, 40], [1, 3, 40, 40]]
    )
    square, scale = to_square(pixels, max_size_px=3)
    assert square.tolist() == [[100, 10, 0], [7, 4, 0], [2, 40, 0]]
    assert scale == 0.5


def test_a_crop_that_is_a_view_is_shrunk_alike():
    view = np.pad(np.full((8, 4), 90, np.uint8), 3)[3:11, 3:7]
    square, scale = to_square(view, max_size_px=4)
    assert square.tolist() == [[0, 90, 90, 0]] * 4
    assert scale == 0.5


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), max_size_px=st.integers(1, 60))
def test_proportions_stay_true_and_nothing_is_enlarged(height, width, max_size_px):
    square, scale = to_square(np.full((height, width), 255, np.uint8), max_size_px=max_size_px)
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


def test_thinning_picks_the_pixels_in_the_middle():
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert thin(pixels, shape=(2, 2)).tolist() == [[7, 10], [25, 28]]
    np.testing.assert_array_equal(thin(pixels, shape=(6, 6)), pixels)
    assert thin(pixels > 9, shape=(2, 2)).tolist() == [[False, True], [True, True]]
    assert thin(pixels, shape=(6, 1)).tolist() == [[3], [9], [15], [21], [27], [33]]
