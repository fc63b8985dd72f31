"""Other renderings of a radiograph: what they show, and where a close-up lies."""

import numpy as np
import pytest

from boneage.preprocessing.hand.renderings import Rendering, find_close_up, lift_soft_tissue, render_close_up

FILM = np.full((300, 240), 30, np.uint8)
FILM[200:240, 150:180] = 200


def test_render_close_up_shows_a_small_object_with_a_margin_in_its_own_contrast():
    plate = FILM.astype(np.uint16) * 16
    plate[200:220, 150:180] = 3000
    close_up = render_close_up(plate, find_close_up(FILM), percentiles=(1.0, 99.0))
    left, top = close_up.corner
    height, width = close_up.pixels.shape
    np.testing.assert_array_equal(close_up.pixels, close_up.frame[top : top + height, left : left + width])
    assert close_up.frame.shape == FILM.shape and height < 100 and width < 100
    assert close_up.grey_levels == 3200 - 480
    assert close_up.frame[230, 160] == 255 and close_up.frame[210, 160] == round((3000 - 480) / (3200 - 480) * 255)


def test_render_close_up_of_a_large_object_is_none():
    large = np.full((300, 240), 30, np.uint8)
    large[40:, 30:210] = 200
    assert render_close_up(large, find_close_up(large), percentiles=(1.0, 99.0)) is None


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_find_close_up_of_a_constant_radiograph_is_the_whole(grey):
    assert find_close_up(np.full((50, 40), grey, np.uint8)) == (0, 0, 40, 50)


def test_lift_soft_tissue_brightens_dark_greys_most():
    greys = np.array([[0, 20, 128, 255]], np.uint8)
    lifted = lift_soft_tissue(Rendering("whole", greys, frame=greys, grey_levels=255))
    assert lifted.pixels.tolist() == [[0, 43, 157, 255]] and lifted.frame is greys
