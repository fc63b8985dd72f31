"""Tone: ordinary grey values stay, unusual ones come back to what is ordinary."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.preprocessing.crop.tone import limit_tone, measure_unusual_tone

# A hand whose grey values are those of the middle of ordinary radiographs.
MIDDLE = np.array([2, 30, 42, 51, 60, 72, 84, 94, 104, 112, 120, 128, 136, 146, 156, 168, 181, 195, 210, 228, 255])
ORDINARY = np.interp(np.arange(64 * 64) / (64 * 64 - 1), np.linspace(0, 1, 21), MIDDLE).astype(np.uint8).reshape(64, 64)
HAND = np.ones((64, 64), bool)


def change(gamma):
    return np.rint((ORDINARY / 255) ** gamma * 255).astype(np.uint8)


def test_limit_tone_keeps_an_ordinary_hand():
    assert np.abs(limit_tone(ORDINARY, HAND).astype(int) - ORDINARY).max() <= 1
    assert measure_unusual_tone(ORDINARY.ravel()) < 8  # the percentiles of the stretch clip a little


@pytest.mark.parametrize("gamma", [0.3, 3.0])
def test_limit_tone_undoes_most_of_a_gamma(gamma):
    changed = change(gamma)
    before, after = (np.abs(image.astype(int) - ORDINARY).mean() for image in (changed, limit_tone(changed, HAND)))
    assert measure_unusual_tone(changed.ravel()) > 25
    assert after < 0.35 * before


def test_limit_tone_undoes_most_of_burnt_out_bone():
    burnt = np.clip(ORDINARY.astype(int) * 255 // 168, 0, 255).astype(np.uint8)
    limited = limit_tone(burnt, HAND)
    assert limited.max() < 200
    assert np.abs(limited.astype(int) - ORDINARY)[ORDINARY < 168].mean() < 15


def test_limit_tone_leaves_what_lies_beyond_the_hand():
    mask = np.zeros((64, 64), bool)
    mask[:32] = True
    assert np.array_equal(limit_tone(change(3.0), mask)[32:], change(3.0)[32:])


def test_limit_tone_without_a_hand():
    assert np.array_equal(limit_tone(ORDINARY, np.zeros((64, 64), bool)), ORDINARY)


@given(st.integers(0, 2**32 - 1), st.integers(2, 256))
def test_limit_tone_keeps_the_order_of_grey_values(seed, levels):
    rng = np.random.default_rng(seed)
    pixels = rng.choice(rng.permutation(256)[:levels], (24, 24)).astype(np.uint8)
    limited = limit_tone(pixels, np.ones_like(pixels, bool)).astype(int)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(limited.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_limit_tone_of_one_grey_value(level):
    flat = np.full((8, 8), level, np.uint8)
    limited = limit_tone(flat, np.ones_like(flat, bool))
    assert limited.min() == limited.max()


def test_measure_unusual_tone_of_an_exposure():
    """Exposure shifts and scales; the stretch undoes it."""
    darker = cv2.convertScaleAbs(ORDINARY, alpha=0.5, beta=20)
    assert measure_unusual_tone(darker.ravel()) == pytest.approx(measure_unusual_tone(ORDINARY.ravel()), abs=2)
