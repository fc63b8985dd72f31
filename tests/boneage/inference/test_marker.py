import cv2
import numpy as np
import pytest

from boneage.inference.marker import find_marker


def draw_film(letter, *, mirrored=False, degrees=0, noise=0, height_px=60):
    """A grey film with a hand's mask in its middle, and a letter at its side."""
    pixels = np.full((800, 640), 60, np.uint8)
    pixels[250:700, 200:440] = 180
    glyph = np.zeros((120, 120), np.uint8)
    cv2.putText(glyph, letter, (35, 85), cv2.FONT_HERSHEY_DUPLEX, height_px / 22, (255,), 6, cv2.LINE_AA)
    glyph = cv2.warpAffine(glyph, cv2.getRotationMatrix2D((60, 60), degrees, 1), (120, 120))
    pixels[60:180, 480:600] = np.maximum(pixels[60:180, 480:600], glyph)
    mask = np.zeros((800, 640), bool)
    mask[250:700, 200:440] = True
    if mirrored:
        pixels, mask = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    grain = np.random.default_rng(0).normal(0, noise, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8), mask


@pytest.mark.parametrize("degrees", [-15, 0, 15])
def test_find_marker_reads_an_l(degrees):
    assert find_marker(*draw_film("L", degrees=degrees, noise=8)) == "left"


@pytest.mark.parametrize(
    ("letter", "options"),
    [
        ("L", {"mirrored": True}),
        ("R", {"mirrored": True}),
        *((letter, {}) for letter in ("R", "B", "T", "I", "J", "8", "")),
    ],
)
def test_find_marker_takes_nothing_else_for_an_l(letter, options):
    assert find_marker(*draw_film(letter, **options)) is None


def test_find_marker_does_not_look_at_the_hand():
    pixels, _ = draw_film("L")
    assert find_marker(pixels, np.ones(pixels.shape, bool)) is None
    assert find_marker(np.zeros((16, 16), np.uint8), np.zeros((16, 16), bool)) is None
