"""Cleaning of masks: pixels worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from boneage.preprocessing.segmentation.morphology import clean_mask, fill_holes, largest_component


def grid(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_largest_piece_stays_and_corners_connect():
    mask = grid("##..#", "..#..", "....#", "....#")
    np.testing.assert_array_equal(largest_component(mask), grid("##...", "..#..", ".....", "....."))


def test_nothing_stays_nothing():
    empty = np.zeros((4, 5), np.bool_)
    assert not largest_component(empty).any() and not clean_mask(empty, closing_share=0.1).any()


def test_holes_are_filled_but_bays_stay():
    mask = grid("#####", "#.#.#", "#####", "#.#..", "#.###")
    np.testing.assert_array_equal(fill_holes(mask), grid("#####", "#####", "#####", "#.#..", "#.###"))


def test_full_frame_stays_full():
    assert fill_holes(np.ones((3, 3), np.bool_)).all()


def test_narrow_gap_is_closed_and_wide_one_is_not():
    mask = np.zeros((60, 60), np.bool_)
    mask[10:50, 10:50] = True
    mask[10:40, 20:22] = mask[10:40, 30:40] = False
    clean = clean_mask(mask, closing_share=0.1)
    assert clean[15:40, 20:22].all()
    assert not clean[12:35, 33:37].any()


def test_hand_at_the_edge_of_the_frame_keeps_its_edge():
    mask = np.zeros((40, 40), np.bool_)
    mask[5:, 10:30] = True
    np.testing.assert_array_equal(clean_mask(mask, closing_share=0.3)[20:], mask[20:])


@given(st_numpy.arrays(np.bool_, st_numpy.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.floats(0, 0.5))
def test_cleaning_gives_one_piece_without_holes_and_twice_is_once(mask, closing_share):
    clean = clean_mask(mask, closing_share=closing_share)
    np.testing.assert_array_equal(largest_component(clean), clean)
    np.testing.assert_array_equal(fill_holes(clean), clean)
    assert clean.any() == mask.any()


@pytest.mark.parametrize("scale", [1, 4])
def test_closing_follows_the_size_of_the_hand(scale):
    mask = np.zeros((50, 50), np.bool_)
    mask[5:45, 5:45] = True
    mask[5:30, 24:26] = False
    large = np.kron(mask, np.ones((scale, scale), np.bool_))
    assert clean_mask(large, closing_share=0.1)[10 * scale : 25 * scale].sum() == 15 * 40 * scale**2
