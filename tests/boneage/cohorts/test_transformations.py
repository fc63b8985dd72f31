from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from boneage.cohorts import transformations
from boneage.cohorts.transformations import OWN, PUBLISHED, TRANSFORMATIONS, find_white
from boneage.preprocessing.synthetic import draw_radiograph


@pytest.fixture(scope="module")
def hand():
    return draw_radiograph(120, sex="female", seed=7, size_px=(200, 160)).pixels


def test_the_published_transformations_are_33():
    families = Counter(item.family for item in TRANSFORMATIONS.values() if item.source == PUBLISHED)
    assert families == {
        "contrast": 10,
        "brightness": 10,
        "resolution": 6,
        "rotation": 3,
        "flip": 2,
        "inversion": 1,
        "marker": 1,
    }
    assert sum(families.values()) == 33
    assert {item.source for item in TRANSFORMATIONS.values()} == {PUBLISHED, OWN}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_each_transformation_changes_pixels_of_any_depth_and_leaves_its_input_alone(name, hand):
    for pixels in (hand, hand.astype(np.uint16) * 16):
        before = pixels.copy()
        changed = TRANSFORMATIONS[name].change(pixels)
        assert np.array_equal(pixels, before)
        assert (changed.dtype, changed.ndim) == (pixels.dtype, 2)
        assert changed.flags["C_CONTIGUOUS"]
        assert changed.max() <= find_white(pixels)
        assert changed.shape != pixels.shape or not np.array_equal(changed, pixels)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_each_transformation_is_the_same_at_any_depth(name, hand):
    # 4,095 = 255 * 273 / 17: a 12-bit picture of the same film.
    deep = np.round(hand * (4095 / 255)).astype(np.uint16)
    deep[0, 0], shallow = 4095, hand.copy()
    shallow[0, 0] = 255
    change = TRANSFORMATIONS[name].change
    difference = np.abs(change(deep) * (255 / 4095) - change(shallow).astype(float))
    assert np.mean(difference) < 1


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.1, 1.9])
@pytest.mark.parametrize(
    ("enhance", "own"),
    [
        (ImageEnhance.Contrast, transformations.scale_contrast),
        (ImageEnhance.Brightness, transformations.scale_brightness),
    ],
)
def test_contrast_and_brightness_are_those_of_pillow(enhance, own, factor, hand):
    theirs = np.asarray(enhance(Image.fromarray(hand)).enhance(factor)).astype(int)
    assert np.abs(own(hand, factor) - theirs).max() <= 1


def test_resolution_keeps_the_proportions(hand):
    assert transformations.set_resolution(hand, 100).shape == (100, 80)
    assert transformations.set_resolution(hand, 400).shape == (400, 320)


def test_rotation_is_counter_clockwise():
    assert transformations.rotate(np.array([[1, 2], [3, 4]], np.uint8), 1).tolist() == [[2, 4], [1, 3]]


def test_invert_swaps_black_and_white_of_the_bits_in_use():
    assert transformations.invert(np.array([[0, 255]], np.uint8)).tolist() == [[255, 0]]
    assert transformations.invert(np.array([[0, 4000]], np.uint16)).tolist() == [[4095, 95]]


def test_the_marker_is_small_and_in_the_upper_left_corner(hand):
    changed = transformations.add_marker(hand) != hand
    rows, columns = np.nonzero(changed)
    assert rows.max() < 200 / 6 and columns.max() < 160 / 6
    assert changed.any()


def test_noise_is_the_same_each_time(hand):
    assert np.array_equal(transformations.add_noise(hand, 0.04), transformations.add_noise(hand, 0.04))


def test_the_screenshot_is_wide_and_holds_the_film(hand):
    screen = transformations.show_in_viewer(hand)
    assert screen.shape[1] / screen.shape[0] == pytest.approx(16 / 9, abs=0.02)
    views = np.lib.stride_tricks.sliding_window_view(screen, hand.shape)[10]
    assert any(np.array_equal(view, hand) for view in views)
