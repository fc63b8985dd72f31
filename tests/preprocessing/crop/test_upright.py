"""From a hand in its frame to the square: golden pixels, and what must not change when the film is turned."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.crop.upright import place_upright, stretch_within_mask, warp_upright
from boneage.preprocessing.hand.pose import find_pose
from boneage.preprocessing.synthetic import draw_radiograph

PLAIN = {
    "mirror": False,
    "forearm_share": 0.75,
    "margin_share": 0.0,
    "max_size_px": 64,
}


def crop_upright(pixels, mask, **options):
    """Place, resample and stretch a hand between its darkest and its brightest pixel; return the placement too."""
    placement = place_upright(mask, **options)
    square, hand = warp_upright(pixels, mask, placement)
    return stretch_within_mask(square, hand, low_percentile=0.0, high_percentile=100.0), placement


def test_golden_pixels_upright():
    pixels = np.uint8([[9, 9, 9, 9], [9, 1, 2, 9], [9, 3, 4, 9], [9, 5, 6, 9], [9, 7, 8, 9]])
    mask = pixels < 9
    options = PLAIN | {"max_size_px": 4}
    image, placement = crop_upright(
        pixels, mask, wrist=np.array([1.5, 3.0]), angle_degrees=0.0, length_px=2.0, **options
    )
    # The wrist lies in row 3, and three quarters of a hand below it end with row 4: all is kept.
    assert image.tolist() == [[0, 0, 36, 0], [0, 73, 109, 0], [0, 146, 182, 0], [0, 219, 255, 0]]
    assert (placement.box_px, placement.scale) == ((1, 1, 3, 5), 1.0)


def test_golden_pixels_of_the_cut():
    pixels = np.uint8([[9, 9, 9, 9], [9, 1, 2, 9], [9, 3, 4, 9], [9, 5, 6, 9], [9, 7, 8, 9]])
    short = PLAIN | {"forearm_share": 0.0, "max_size_px": 2}
    image, _ = crop_upright(pixels, pixels < 9, wrist=np.array([1.5, 2.5]), angle_degrees=0.0, length_px=1.0, **short)
    assert image.tolist() == [[0, 85], [170, 255]]


@pytest.mark.parametrize(
    ("angle_degrees", "mirror", "expected"),
    [
        (90.0, False, [[170, 0], [255, 85]]),
        (-90.0, False, [[85, 255], [0, 170]]),
        (180.0, False, [[255, 170], [85, 0]]),
        (0.0, True, [[85, 0], [255, 170]]),
        (90.0, True, [[0, 170], [85, 255]]),
    ],
)
def test_golden_pixels_of_turns(angle_degrees, mirror, expected):
    """A hand that points to the left (90 degrees counter-clockwise) is turned clockwise, and mirrored after that."""
    pixels = np.uint8([[0, 85], [170, 255]])
    options = PLAIN | {"mirror": mirror, "forearm_share": 1.0, "max_size_px": 2}
    image, _ = crop_upright(
        pixels,
        np.ones((2, 2), np.bool_),
        wrist=np.array([0.5, 0.5]),
        angle_degrees=angle_degrees,
        length_px=10.0,
        **options,
    )
    assert image.tolist() == expected


def test_small_hands_are_enlarged_to_twice_their_size_and_keep_their_contrast():
    rows = np.tile(np.uint8([10, 200]), 20)  # as fine as pixels can be
    pixels = np.repeat(rows[:, None], 40, axis=1)
    options = PLAIN | {"forearm_share": 1.0, "max_size_px": 200}
    image, placement = crop_upright(
        pixels, np.ones((40, 40), np.bool_), wrist=np.array([20.0, 40.0]), angle_degrees=0.0, length_px=40.0, **options
    )
    assert placement.scale == 2.0 and image.shape == (80, 80)
    middle = image[20:60, 40].astype(int)
    assert np.ptp(middle) > 150  # linear interpolation would leave half of 255


def test_margin_and_shrinking():
    pixels, mask = np.full((40, 20), 7, np.uint8), np.zeros((40, 20), np.bool_)
    mask[10:30, 5:15] = True
    pixels[10:20, 5:15], pixels[20:30, 5:15] = 100, 200
    options = PLAIN | {"forearm_share": 1.0, "margin_share": 0.1, "max_size_px": 12}
    image, placement = crop_upright(
        pixels, mask, wrist=np.array([10.0, 25.0]), angle_degrees=0.0, length_px=20.0, **options
    )
    assert placement.scale == 0.5 and image.shape == (12, 12)
    rows, columns = np.nonzero(image > 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 10, 4, 7)
    assert not image[0].any() and not image[11].any()


def test_nothing_above_the_cut_is_none():
    mask = np.zeros((10, 10), np.bool_)
    mask[8:, :] = True
    options = PLAIN | {"forearm_share": 0.0}
    assert place_upright(mask, wrist=np.array([5.0, 2.0]), angle_degrees=0.0, length_px=2.0, **options) is None


@settings(deadline=None, max_examples=15)
@given(angle=st.integers(-179, 180), side=st.sampled_from(["left", "right"]))
def test_crop_does_not_depend_on_how_the_hand_lay(angle, side):
    """The same hand, however turned or mirrored, comes out alike; only the film's edge cuts differently."""

    def take(angle, side):
        drawn = draw_radiograph(140, sex="male", seed=3, size_px=(400, 400), angle_degrees=float(angle), side=side)
        pose = find_pose(drawn.landmarks)
        return crop_upright(
            drawn.pixels,
            drawn.mask,
            wrist=drawn.landmarks[0],
            angle_degrees=pose.angle_degrees,
            length_px=pose.length_px,
            **PLAIN | {"mirror": pose.side == "right", "forearm_share": 0.05, "max_size_px": 96},
        )[0]

    upright, turned = take(0, "left"), take(angle, side)
    assert upright.shape == turned.shape
    shift = cv2.phaseCorrelate(upright.astype(np.float64), turned.astype(np.float64))[0]
    assert np.hypot(*shift) < 4
    overlap = (upright > 0) & (turned > 0)
    assert overlap.sum() / ((upright > 0) | (turned > 0)).sum() > 0.85


def test_contrast_is_that_of_the_hand():
    pixels = np.uint8([[0, 50, 100], [150, 250, 255]])
    mask = np.array([[False, True, True], [True, False, False]])
    stretched = stretch_within_mask(pixels, mask, low_percentile=0.0, high_percentile=100.0)
    assert stretched.tolist() == [[0, 0, 128], [255, 0, 0]]
    assert not stretch_within_mask(pixels, np.zeros_like(mask), low_percentile=0.0, high_percentile=100.0).any()
