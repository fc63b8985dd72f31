"""Contrast: pixels worked out by hand, and what holds for every radiograph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boneage.preprocessing.crop.contrast import find_tissue_greys, sample_greys, stretch_contrast

radiographs = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
)


@pytest.mark.parametrize(
    ("pixels", "low", "high", "expected"),
    [
        # Quarters of 255 are 63.75, 127.5 and 191.25; a half goes to the even neighbour.
        pytest.param([0, 10, 20, 30, 40], 0.0, 100.0, [0, 64, 128, 191, 255], id="whole range"),
        pytest.param([20, 30, 40, 50, 60], 0.0, 100.0, [0, 64, 128, 191, 255], id="offset"),
        # The tenth part of ten pixels is one, nine parts are nine: 100 becomes black and 108 white.
        pytest.param(range(100, 110), 10.0, 90.0, [0, 32, 64, 96, 128, 159, 191, 223, 255, 255], id="upper tail"),
        pytest.param(range(100, 110), 20.0, 100.0, [0, 0, 32, 64, 96, 128, 159, 191, 223, 255], id="lower tail"),
        # One bright mark in a hundred pixels does not darken the rest.
        pytest.param([*[10] * 50, *[20] * 49, 255], 1.0, 99.0, [*[0] * 50, *[255] * 49, 255], id="mark"),
    ],
)
def test_golden_pixels(pixels, low, high, expected):
    stretched = stretch_contrast(np.uint8([list(pixels)]), low_percentile=low, high_percentile=high)
    assert stretched.dtype == np.uint8
    assert stretched.tolist() == [expected]


def test_golden_pixels_of_16_bit():
    # (1500 - 1000) / (65535 - 1000) * 255 = 1.98 and twice that, 3.95.
    pixels = np.uint16([[1000, 1500], [2000, 65535]])
    assert stretch_contrast(pixels, low_percentile=0.0, high_percentile=100.0).tolist() == [[0, 2], [4, 255]]


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_constant_radiograph_becomes_black(value, dtype):
    stretched = stretch_contrast(np.full((3, 2), value, dtype), low_percentile=1.0, high_percentile=99.0)
    np.testing.assert_array_equal(stretched, np.zeros((3, 2), np.uint8))


@settings(deadline=None)
@given(radiographs, st.floats(0, 49), st.floats(51, 100))
def test_order_is_kept_and_the_range_is_used(pixels, low, high):
    before = pixels.copy()
    stretched = stretch_contrast(pixels, low_percentile=low, high_percentile=high)
    np.testing.assert_array_equal(pixels, before)
    order = np.argsort(pixels, axis=None)
    assert np.all(np.diff(stretched.ravel()[order].astype(int)) >= 0)
    assert (stretched.min(), stretched.max()) in [(0, 255), (0, 0)]


@settings(deadline=None)
@given(hnp.arrays(np.uint8, (4, 3)))
def test_exposure_and_bit_depth_do_not_matter(pixels):
    limits = {"low_percentile": 5.0, "high_percentile": 95.0}
    brighter = pixels.astype(np.uint16) * 200 + 3000
    np.testing.assert_array_equal(stretch_contrast(pixels, **limits), stretch_contrast(brighter, **limits))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 50.0), (50.0, 50.0), (60.0, 40.0), (0.0, 101.0)])
def test_percentiles_out_of_order_are_named(low, high):
    with pytest.raises(ValueError, match=rf"both in \[0, 100\]\. Received: {low} and {high}"):
        stretch_contrast(np.zeros((2, 2), np.uint8), low_percentile=low, high_percentile=high)


TISSUE = np.clip(np.random.default_rng(0).normal(110, 30, 10_000), 20, 230).astype(np.uint8)


def test_find_tissue_greys_without_metal_are_the_percentiles():
    low, high = np.percentile(TISSUE, (1, 99))
    assert find_tissue_greys(TISSUE, low_percentile=1.0, high_percentile=99.0) == (low, high)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("dim", [1.0, 0.4])
def test_find_tissue_greys_pass_over_metal(share, dim):
    tissue = (TISSUE * dim).astype(np.uint8)
    metal = np.full(round(share * len(tissue)), 255, np.uint8)
    low, high = find_tissue_greys(np.concatenate([tissue, metal]), low_percentile=1.0, high_percentile=99.0)
    assert low == pytest.approx(np.percentile(tissue, 1), abs=2)
    # Metal that is hardly brighter than bone passes for bone.
    assert high == pytest.approx(np.percentile(tissue, 99), abs=4) or (dim == 1.0 and high == 255)


@given(hnp.arrays(np.uint8, st.integers(1, 60)), st.floats(0, 40), st.floats(60, 100))
def test_find_tissue_greys_lie_within_the_percentiles(greys, low_percentile, high_percentile):
    low, high = find_tissue_greys(greys, low_percentile=low_percentile, high_percentile=high_percentile)
    assert low == np.percentile(greys, low_percentile)
    assert np.percentile(greys, 50) <= high <= np.percentile(greys, high_percentile)


def test_sample_greys_of_a_large_radiograph_are_like_all_of_them():
    pixels = np.random.default_rng(0).integers(0, 200, (1600, 1100)).astype(np.uint8)
    mask = np.zeros(pixels.shape, np.bool_)
    mask[300:1500, 200:900] = True
    sample = sample_greys(pixels, mask)
    assert sample.size == pytest.approx(mask.sum() / 9, rel=0.01)
    np.testing.assert_allclose(np.percentile(sample, [1, 50, 99]), np.percentile(pixels[mask], [1, 50, 99]), atol=2)
    dot = np.zeros(pixels.shape, np.bool_)
    dot[1, 1] = True  # between the rows that are sampled
    assert sample_greys(pixels, dot).tolist() == [pixels[1, 1]]
    assert sample_greys(pixels[:300, :300], mask[:300, :300]).size == 0
