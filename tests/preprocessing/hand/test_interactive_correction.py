"""A mask that a person corrects: what clicks and a box do, whatever the model makes of them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.hand.interactive_correction import Click, correct_mask, rotate_predictor
from boneage.preprocessing.segmentation.mask_selection import score_candidate
from boneage.preprocessing.synthetic import draw_radiograph

DRAWN = draw_radiograph(150, sex="male", seed=0, size_px=(320, 256))
PIXELS, TRUTH = stretch_contrast(DRAWN.pixels), DRAWN.mask


def dice(mask, truth=TRUTH):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def know(mask, *, predicted_iou=0.9):
    """A model that returns this mask for any prompts."""
    logits = np.where(cv2.resize(mask.astype(np.uint8), (205, 256)) == 1, np.float32(6), np.float32(-6))
    return lambda pixels, prompts: [score_candidate(logits, predicted_iou=predicted_iou)]


def click(x, y, on_hand):
    return Click(float(x), float(y), on_hand)


def fingertip():
    """The topmost place of the hand, `(x, y)`, a little inside of it."""
    rows, columns = np.nonzero(TRUTH)
    return int(np.median(columns[rows == rows.min()])), int(rows.min()) + 5


def spoil(mask, place, *, radius, value):
    spoilt = mask.astype(np.uint8)
    cv2.circle(spoilt, place, radius, int(value), -1)
    return spoilt == 1


def test_without_clicks_the_mask_is_the_models():
    assert dice(correct_mask(know(TRUTH), PIXELS, clicks=[])) > 0.98


def test_a_click_brings_back_a_fingertip_that_the_model_forgot():
    spoilt = spoil(TRUTH, fingertip(), radius=18, value=False)
    x, y = fingertip()
    corrected = correct_mask(know(spoilt), PIXELS, clicks=[click(x, y, True)])
    assert corrected[y, x]
    forgotten = TRUTH & ~spoilt
    assert forgotten.sum() > 300
    assert (corrected & forgotten).sum() > 0.85 * forgotten.sum()
    assert dice(corrected) > 0.98


def test_a_click_removes_background():
    x, y = fingertip()
    spoilt = spoil(TRUTH, (x + 18, y + 6), radius=14, value=True)
    corrected = correct_mask(know(spoilt), PIXELS, clicks=[click(x + 24, y + 2, False)])
    assert not corrected[y + 2, x + 24]
    assert corrected[y, x]
    assert dice(corrected) > dice(spoilt)
    assert dice(corrected) > 0.97


def test_a_click_between_fingers_removes_no_finger():
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    webbed = cv2.morphologyEx(TRUTH.astype(np.uint8), cv2.MORPH_CLOSE, kernel) == 1
    depth = cv2.distanceTransform((webbed & ~TRUTH).astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    corrected = correct_mask(know(webbed), PIXELS, clicks=[click(x, y, False)], mask=webbed)
    assert not corrected[y, x]
    assert (corrected & TRUTH).sum() > 0.995 * (webbed & TRUTH).sum()
    assert dice(corrected) > dice(webbed)


def test_of_several_masks_the_one_that_agrees_with_the_clicks_is_taken():
    spoilt = spoil(TRUTH, fingertip(), radius=18, value=False)
    models = know(spoilt, predicted_iou=0.99), know(TRUTH, predicted_iou=0.5)

    def predict(pixels, prompts):
        return [candidate for model in models for candidate in model(pixels, prompts)]

    x, y = fingertip()
    assert np.array_equal(correct_mask(predict, PIXELS, clicks=[]), correct_mask(models[0], PIXELS, clicks=[]))
    assert dice(correct_mask(predict, PIXELS, clicks=[click(x, y, True)])) > 0.99


def test_changes_without_a_click_are_not_applied():
    x, y = fingertip()
    initial_mask = spoil(TRUTH, (x, y), radius=18, value=False)
    rows, columns = np.nonzero(TRUTH)
    forearm = int(np.median(columns[rows == rows.max()])), int(rows.max())
    # The model would bring the fingertip back, and lose much of the forearm.
    otherwise = spoil(TRUTH, forearm, radius=40, value=False)
    corrected = correct_mask(know(otherwise), PIXELS, clicks=[click(x, y, True)], mask=initial_mask)
    assert (corrected & ~initial_mask).sum() > 0.9 * (TRUTH & ~initial_mask).sum()
    assert not (initial_mask & ~corrected).any()
    assert np.array_equal(correct_mask(know(otherwise), PIXELS, clicks=[], mask=initial_mask), initial_mask)


@settings(deadline=None, max_examples=40)
@given(
    places=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 39), st.booleans()), min_size=1, max_size=5),
    hand=st.sampled_from(["all", "none", "half", "corner"]),
)
def test_clicks_anywhere_on_any_mask_do_no_harm(places, hand):
    initial_mask = np.zeros((40, 32), np.bool_)
    initial_mask[{"all": np.s_[:], "none": np.s_[:0], "half": np.s_[20:], "corner": np.s_[:1, :1]}[hand]] = True
    small = np.ascontiguousarray(PIXELS[::8, ::8])
    clicks = [click(*place) for place in places]
    corrected = correct_mask(know(initial_mask), small, clicks=clicks, mask=initial_mask)
    assert (corrected.shape, corrected.dtype) == (initial_mask.shape, np.bool_)
    assert np.array_equal(correct_mask(know(initial_mask), small, clicks=clicks, mask=initial_mask), corrected)


def test_the_latest_clicks_are_the_prompts():
    captured = []

    def predict(pixels, prompts):
        captured.append(prompts)
        return know(TRUTH)(pixels, prompts)

    clicks = [click(x, 10, x % 2 == 0) for x in range(6)]
    correct_mask(predict, PIXELS, clicks=clicks, mask=TRUTH)
    assert captured[0].points == ((2, 10), (4, 10))
    assert captured[0].points_outside == ((3, 10), (5, 10))


def test_a_box_limits_the_region():
    two = np.concatenate([PIXELS, PIXELS[:, ::-1]], axis=1)
    shapes = []

    def predict(pixels, prompts):
        shapes.append(pixels.shape)
        return know(TRUTH[:, ::-1])(pixels, prompts)

    box = (256, 0, 512, 320)
    mask = correct_mask(predict, two, clicks=[click(10, 10, True), click(300, 20, False)], box=box)
    assert shapes == [(320, 256)]
    assert not mask[:, :256].any()
    assert dice(mask[:, 256:], TRUTH[:, ::-1]) > 0.98


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_hand_that_lies_is_shown_rotated(quarter_turns):
    lying, truth = (np.ascontiguousarray(np.rot90(image, -quarter_turns)) for image in (PIXELS, TRUTH))
    captured = []

    def predict(pixels, prompts):
        captured.append((pixels, prompts))
        return know(TRUTH)(pixels, prompts)

    row, column = np.argwhere(truth)[500]
    place = np.zeros(truth.shape, np.bool_)
    place[row, column] = True
    predict_turned = rotate_predictor(predict, quarter_turns=quarter_turns)
    mask = correct_mask(predict_turned, lying, clicks=[click(column, row, True)], mask=np.zeros_like(truth))
    ((pixels, prompts),) = captured
    assert np.array_equal(pixels, PIXELS)
    ((x, y),) = prompts.points
    assert np.rot90(place, quarter_turns)[y, x]
    assert dice(mask, truth) > 0.98


@pytest.mark.parametrize("box", [(10, 10, 41, 99), (-1, 0, 99, 99), (0, 0, 257, 99)])
def test_an_invalid_box_is_named(box):
    with pytest.raises(ValueError, match="must lie within the frame of 256 x 320 with sides of at least 32 pixels"):
        correct_mask(know(TRUTH), PIXELS, clicks=[], box=box)


def test_where_there_is_no_hand_there_is_no_mask():
    assert not correct_mask(know(np.zeros_like(TRUTH)), PIXELS, clicks=[]).any()
