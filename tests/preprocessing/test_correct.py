"""A mask that a person corrects: what clicks and a box do, whatever the model makes of them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.choice import weigh
from preprocessing.contrast import stretch_contrast
from preprocessing.correct import Click, correct_mask, looking_turned
from preprocessing.synthetic import draw_radiograph

DRAWN = draw_radiograph(150, sex="male", seed=0, size_px=(320, 256))
PIXELS, TRUTH = stretch_contrast(DRAWN.pixels), DRAWN.mask


def dice(mask, truth=TRUTH):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def know(mask, *, predicted_iou=0.9):
    """A model that sees this mask, whatever it is told."""
    logits = np.where(cv2.resize(mask.astype(np.uint8), (205, 256)) == 1, np.float32(6), np.float32(-6))
    return lambda pixels, prompts: [weigh(logits, predicted_iou=predicted_iou)]


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
    mended = correct_mask(know(spoilt), PIXELS, clicks=[click(x, y, True)])
    assert mended[y, x]
    forgotten = TRUTH & ~spoilt
    assert forgotten.sum() > 300
    assert (mended & forgotten).sum() > 0.85 * forgotten.sum()
    assert dice(mended) > 0.98


def test_a_click_takes_away_what_is_no_hand():
    x, y = fingertip()
    spoilt = spoil(TRUTH, (x + 18, y + 6), radius=14, value=True)
    mended = correct_mask(know(spoilt), PIXELS, clicks=[click(x + 24, y + 2, False)])
    assert not mended[y + 2, x + 24]
    assert mended[y, x]
    assert dice(mended) > dice(spoilt)
    assert dice(mended) > 0.97


def test_a_click_between_fingers_takes_no_finger():
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    webbed = cv2.morphologyEx(TRUTH.astype(np.uint8), cv2.MORPH_CLOSE, kernel) == 1
    depth = cv2.distanceTransform((webbed & ~TRUTH).astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    mended = correct_mask(know(webbed), PIXELS, clicks=[click(x, y, False)], mask=webbed)
    assert not mended[y, x]
    assert (mended & TRUTH).sum() > 0.995 * (webbed & TRUTH).sum()
    assert dice(mended) > dice(webbed)


def test_of_several_masks_the_one_that_agrees_with_the_clicks_is_taken():
    spoilt = spoil(TRUTH, fingertip(), radius=18, value=False)
    models = know(spoilt, predicted_iou=0.99), know(TRUTH, predicted_iou=0.5)

    def predict(pixels, prompts):
        return [each for model in models for each in model(pixels, prompts)]

    x, y = fingertip()
    assert np.array_equal(correct_mask(predict, PIXELS, clicks=[]), correct_mask(models[0], PIXELS, clicks=[]))
    assert dice(correct_mask(predict, PIXELS, clicks=[click(x, y, True)])) > 0.99


def test_what_no_click_asks_for_stays():
    x, y = fingertip()
    begun = spoil(TRUTH, (x, y), radius=18, value=False)
    rows, columns = np.nonzero(TRUTH)
    forearm = int(np.median(columns[rows == rows.max()])), int(rows.max())
    # The model would bring the fingertip back, and lose much of the forearm.
    otherwise = spoil(TRUTH, forearm, radius=40, value=False)
    mended = correct_mask(know(otherwise), PIXELS, clicks=[click(x, y, True)], mask=begun)
    assert (mended & ~begun).sum() > 0.9 * (TRUTH & ~begun).sum()
    assert not (begun & ~mended).any()
    assert np.array_equal(correct_mask(know(otherwise), PIXELS, clicks=[], mask=begun), begun)


@settings(deadline=None, max_examples=40)
@given(
    places=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 39), st.booleans()), min_size=1, max_size=5),
    hand=st.sampled_from(["all", "none", "half", "corner"]),
)
def test_clicks_anywhere_on_any_mask_do_no_harm(places, hand):
    begun = np.zeros((40, 32), np.bool_)
    begun[{"all": np.s_[:], "none": np.s_[:0], "half": np.s_[20:], "corner": np.s_[:1, :1]}[hand]] = True
    small = np.ascontiguousarray(PIXELS[::8, ::8])
    clicks = [click(*place) for place in places]
    mended = correct_mask(know(begun), small, clicks=clicks, mask=begun)
    assert (mended.shape, mended.dtype) == (begun.shape, np.bool_)
    assert np.array_equal(correct_mask(know(begun), small, clicks=clicks, mask=begun), mended)


def test_the_model_is_told_the_latest_clicks():
    told = []

    def predict(pixels, prompts):
        told.append(prompts)
        return know(TRUTH)(pixels, prompts)

    clicks = [click(x, 10, x % 2 == 0) for x in range(6)]
    correct_mask(predict, PIXELS, clicks=clicks, mask=TRUTH)
    assert told[0].points == ((2, 10), (4, 10))
    assert told[0].points_outside == ((3, 10), (5, 10))


def test_a_box_is_all_that_is_looked_at():
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


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_hand_that_lies_is_shown_turned(quarters):
    lying, truth = (np.ascontiguousarray(np.rot90(each, -quarters)) for each in (PIXELS, TRUTH))
    told = []

    def predict(pixels, prompts):
        told.append((pixels, prompts))
        return know(TRUTH)(pixels, prompts)

    row, column = np.argwhere(truth)[500]
    place = np.zeros(truth.shape, np.bool_)
    place[row, column] = True
    predict_turned = looking_turned(predict, quarters=quarters)
    mask = correct_mask(predict_turned, lying, clicks=[click(column, row, True)], mask=np.zeros_like(truth))
    ((pixels, prompts),) = told
    assert np.array_equal(pixels, PIXELS)
    ((x, y),) = prompts.points
    assert np.rot90(place, quarters)[y, x]
    assert dice(mask, truth) > 0.98


@pytest.mark.parametrize("box", [(10, 10, 41, 99), (-1, 0, 99, 99), (0, 0, 257, 99)])
def test_a_box_of_no_use_is_named(box):
    with pytest.raises(ValueError, match="sides of 32 pixels or more within the frame of 256 x 320"):
        correct_mask(know(TRUTH), PIXELS, clicks=[], box=box)


def test_where_there_is_no_hand_there_is_no_mask():
    assert not correct_mask(know(np.zeros_like(TRUTH)), PIXELS, clicks=[]).any()
