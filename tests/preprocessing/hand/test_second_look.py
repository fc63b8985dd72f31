"""The second look: either end of a long mask, upright and upside down."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.hand.landmarks import Landmarks
from boneage.preprocessing.hand.second_look import look_again, split_ends

PIXELS = np.zeros((200, 120), np.uint8)
PIXELS[10, 60] = 255
MASK = np.zeros((200, 120), np.bool_)
MASK[10:190, 50:90] = True


def find_spot(uncertainty):
    """Make a network that finds the bright spot, with an uncertainty that depends on the mask and the spot's row."""

    def locate(pixels, mask):
        row, column = np.unravel_index(pixels.argmax(), pixels.shape)
        return Landmarks(points=np.tile([float(column), float(row)], (21, 1)), uncertainty=uncertainty(mask, row))

    return locate


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0])
def test_split_ends_at_any_angle(degrees):
    mask = np.zeros((300, 300), np.uint8)
    mask[60:240, 130:170] = 1
    turned = cv2.warpAffine(mask, cv2.getRotationMatrix2D((150, 150), degrees, 1.0), (300, 300)) == 1
    first, last = split_ends(turned)
    for end in (first, last):
        assert not (end & ~turned).any()
        assert end.sum() == pytest.approx(40 * 1.8 * 40, rel=0.1)
    assert not (first & last).any()


def test_split_ends_of_a_short_mask_and_of_a_dot():
    dot = np.zeros((10, 10), np.bool_)
    dot[4, 5] = True
    assert list(split_ends(np.ones((60, 50), np.bool_))) == list(split_ends(dot)) == []


def test_look_again_takes_the_end_with_the_hand():
    found = look_again(find_spot(lambda mask, row: 0.05 if mask.sum() < 4000 and mask[10].any() else 0.2), PIXELS, MASK)
    assert found.uncertainty == 0.05
    np.testing.assert_array_equal(found.points[0], (60, 10))


def test_look_again_upside_down():
    found = look_again(find_spot(lambda mask, row: 0.04 if row > 100 else 0.2), PIXELS, MASK)
    assert found.uncertainty == 0.04
    np.testing.assert_array_equal(found.points[0], (60, 10))


def test_look_again_gives_up():
    assert look_again(find_spot(lambda mask, row: 0.09), PIXELS, MASK) is None
