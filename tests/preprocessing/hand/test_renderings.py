"""Other renderings of a radiograph: which there are, and where a close-up lies."""

import numpy as np
import pytest

from boneage.preprocessing.hand.renderings import find_close_up, render_otherwise, render_tone

FILM = np.full((300, 240), 30, np.uint8)
FILM[200:240, 150:180] = 200


def test_render_otherwise_changes_tone_and_shows_a_small_object_close_up():
    renderings = list(render_otherwise(FILM))
    assert [rendering.name for rendering in renderings] == ["gamma 0.45", "gamma 0.3", "gamma 2.2", "close-up"]
    *tones, close_up = renderings
    assert all(tone.pixels.shape == FILM.shape and tone.corner == (0, 0) for tone in tones)
    left, top = close_up.corner
    height, width = close_up.pixels.shape
    np.testing.assert_array_equal(close_up.pixels, FILM[top : top + height, left : left + width])
    assert (close_up.pixels == 200).sum() == 40 * 30 and height < 100 and width < 100


def test_render_otherwise_of_a_large_object_has_no_close_up():
    large = np.full((300, 240), 30, np.uint8)
    large[40:, 30:210] = 200
    assert [rendering.name for rendering in render_otherwise(large)][-1] == "gamma 2.2"


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_find_close_up_of_a_constant_radiograph_is_the_whole(grey):
    assert find_close_up(np.full((50, 40), grey, np.uint8)) == (0, 0, 40, 50)


@pytest.mark.parametrize(("gamma", "expected"), [(0.5, 181), (1.0, 128), (2.0, 64)])
def test_render_tone_raises_shares_of_white_to_a_power(gamma, expected):
    greys = np.array([[0, 128, 255]], np.uint8)
    assert render_tone(greys, gamma=gamma).pixels.tolist() == [[0, expected, 255]]
