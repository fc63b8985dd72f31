"""Radiographs stored in colour are read, photographs are not."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boneage.preprocessing.io.grey import to_grey
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.synthetic import draw_radiograph

HAND = draw_radiograph(120, sex="female", seed=4, size_px=(400, 320))
GREY = HAND.pixels
TONES = {
    "blue": (0.6, 0.75, 1.0),
    "deep blue": (0.2, 0.4, 1.0),
    "green": (0.7, 1.0, 0.8),
    "yellowed": (1.0, 0.92, 0.7),
    # The sepia of image editors; its red and green reach white before bone does.
    "sepia": (1.351, 1.203, 0.937),
}


def tone(grey, share):
    return np.clip(np.rint(grey[..., None] * np.array(share)), 0, 255).astype(np.uint8)


def read(channels, maximum=255):
    return to_grey(channels, maximum=maximum, path=Path("image.png"))


def as_jpeg(channels, quality):
    buffer = BytesIO()
    Image.fromarray(channels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def with_label(channels, colour):
    labelled = channels.copy()
    labelled[10:90, 10:130] = colour
    return labelled


@pytest.mark.parametrize("share", TONES.values(), ids=TONES.keys())
def test_to_grey_toned_film(share):
    toned = tone(GREY, share)
    noise = np.random.default_rng(0).normal(0, 5, toned.shape)
    noisy = np.clip(toned + noise, 0, 255).astype(np.uint8)
    for channels in (toned, as_jpeg(toned, 75), noisy, as_jpeg(noisy, 60)):
        image = read(channels)
        assert image.coloured is None
        assert np.corrcoef(image.pixels.ravel(), GREY.ravel())[0, 1] > 0.94
    assert read(toned.astype(np.uint16) * 257, maximum=65535).coloured is None
    # The order of the levels stays, to white.
    levels, first = np.unique(GREY, return_index=True)
    read_levels = read(toned).pixels.ravel()[first].astype(int)
    assert (np.diff(read_levels) >= 0).all() and len(set(read_levels)) > 0.5 * len(levels)


@pytest.mark.parametrize("colour", [(250, 220, 30), (200, 0, 0), (20, 60, 255)])
def test_to_grey_label_beside_the_hand(colour):
    label = np.zeros(GREY.shape, bool)
    label[10:90, 10:130] = True
    image = read(with_label(np.dstack([GREY] * 3), colour))
    np.testing.assert_array_equal(image.coloured, label)
    np.testing.assert_array_equal(image.pixels[~label], GREY[~label])
    toned = tone(GREY, TONES["blue"])
    image = read(with_label(toned, colour))
    assert image.coloured is None or not image.coloured[~label].any()
    np.testing.assert_array_equal(image.pixels[~label], read(toned).pixels[~label])


@pytest.mark.parametrize("background", [0, 128, 255, (40, 90, 200)])
def test_to_grey_photographed_hand_is_coloured(background):
    noise = np.random.default_rng(0).normal(0, 6, (*GREY.shape, 3))
    skin = GREY[..., None] / 255 * np.array([224, 172, 140]) + 30
    photograph = np.where(HAND.mask[..., None], skin, np.ones(3) * background) + noise
    photograph = np.clip(photograph, 0, 255).astype(np.uint8)
    try:
        assert np.mean(read(photograph).coloured[HAND.mask]) > 0.5
    except UnreadableImageError as error:
        assert error.reason == "not_a_radiograph" and background == (40, 90, 200)


def test_to_grey_photograph_is_refused():
    rows, columns = np.mgrid[:200, :160]
    table = np.dstack([150 + 30 * np.sin(rows / 5), 110 + columns / 8, 60 + rows / 9])
    skin = np.dstack([210 + 20 * np.sin(columns / 9), 160 + 15 * np.cos(rows / 7), 120 + 0 * rows])
    hand = HAND.mask[::2, ::2][..., None]
    with pytest.raises(UnreadableImageError, match=r"image.png is a colour photograph; .*") as caught:
        read(np.where(hand, skin, table).astype(np.uint8))
    assert caught.value.reason == "not_a_radiograph"
