"""Film and prompts, read from drawings and from plain shapes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.segmentation.film import find_film, find_foreground
from boneage.preprocessing.segmentation.prompts import Prompts, find_prompts
from boneage.preprocessing.synthetic import draw_radiograph

DRAWN = draw_radiograph(140, sex="female", seed=8, size_px=(300, 240))


def test_even_borders_are_no_film_however_nested():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 80)).astype(np.uint8)
    framed = cv2.copyMakeBorder(pixels, 10, 4, 3, 6, cv2.BORDER_CONSTANT, value=(0,))
    framed = cv2.copyMakeBorder(framed, 7, 2, 5, 5, cv2.BORDER_CONSTANT, value=(250,))
    expected = np.zeros(framed.shape, np.bool_)
    expected[17:117, 8:88] = True
    np.testing.assert_array_equal(find_film(framed), expected)
    assert find_film(pixels).all()


@settings(deadline=None)
@given(
    greys=st.lists(st.integers(0, 255), min_size=1, max_size=60).map(np.uint8),
    around=st.integers(0, 255),
    spread=st.integers(0, 24),
)
def test_a_line_is_even_if_nearly_all_of_it_lies_close_to_its_median(greys, around, spread):
    near = np.clip(around + greys.astype(int) % (spread + 1), 0, 255).astype(np.uint8)
    for line in (greys, near, np.concatenate([near] * 20 + [greys])):
        line = np.resize(line, max(30, len(line)))
        close = np.abs(line - np.median(line)) <= 10
        rest = np.random.default_rng(0).choice(np.uint8([0, 255]), (100, len(line)))
        first = int(np.flatnonzero(find_film(np.vstack([line, rest])).any(axis=1))[0])
        assert first == int(close.mean() >= 0.97)


@pytest.mark.parametrize("shape", [(1, 1), (50, 1), (1, 50), (2, 90)])
def test_a_frame_of_hardly_any_pixels_is_film(shape):
    assert find_film(np.full(shape, 90, np.uint8)).all()


@pytest.mark.parametrize("degrees", [0, 25, 60])
def test_a_bright_film_on_a_dark_table_is_the_film(degrees):
    frame = np.zeros((256, 256), np.uint8)
    grain = np.random.default_rng(0).integers(0, 40, frame.shape).astype(np.uint8)
    rectangle = cv2.boxPoints(((130, 120), (150, 110), degrees)).astype(np.int32)
    cv2.fillConvexPoly(frame, rectangle, (120,))
    on_film = frame > 0
    frame[on_film] -= grain[on_film]
    cv2.circle(frame, (130, 120), 30, (230,), -1)
    film = find_film(frame)
    assert film.sum() > 0.6 * on_film.sum() and not (film & ~on_film).any()
    found = find_foreground(frame, film=film)
    truth = frame == 230
    assert (found & truth).sum() / (found | truth).sum() > 0.9


@pytest.mark.parametrize("scale", [0.4, 1.0, 4.0])
def test_prompts_are_on_the_hand_at_any_size(scale):
    pixels = cv2.resize(DRAWN.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(DRAWN.mask.astype(np.uint8), pixels.shape[::-1], interpolation=cv2.INTER_NEAREST) == 1
    prompts = find_prompts(pixels)
    left, top, right, bottom = prompts.box
    assert 0 <= left < right <= pixels.shape[1] and 0 <= top < bottom <= pixels.shape[0]
    assert mask[top:bottom, left:right].sum() > 0.97 * mask.sum()
    ((x, y),) = prompts.points
    assert mask[y, x]


def test_a_blank_frame_is_its_own_prompt():
    assert find_prompts(np.zeros((50, 40), np.uint8)) == Prompts(box=(0, 0, 40, 50))
