"""A mask that a person corrects: what clicks and a box do, whatever the model makes of them."""

import cv2
import numpy as np
import pytest

from preprocessing.choice import weigh
from preprocessing.contrast import stretch_contrast
from preprocessing.correct import Click, correct_mask, go_on_from, looking_turned
from preprocessing.prompts import Prompts
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


def test_of_several_masks_the_one_that_agrees_with_the_clicks_is_taken():
    spoilt = spoil(TRUTH, fingertip(), radius=18, value=False)
    models = know(spoilt, predicted_iou=0.99), know(TRUTH, predicted_iou=0.5)

    def predict(pixels, prompts):
        return [each for model in models for each in model(pixels, prompts)]

    x, y = fingertip()
    assert np.array_equal(correct_mask(predict, PIXELS, clicks=[]), correct_mask(models[0], PIXELS, clicks=[]))
    mended = correct_mask(predict, PIXELS, clicks=[click(x, y, True)])
    assert np.array_equal(mended, correct_mask(models[1], PIXELS, clicks=[]))


def test_the_model_is_told_the_latest_clicks():
    told = []

    def predict(pixels, prompts):
        told.append(prompts)
        return know(TRUTH)(pixels, prompts)

    clicks = [click(x, 10, x % 2 == 0) for x in range(6)]
    correct_mask(predict, PIXELS, clicks=clicks)
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
    clicks = [click(column, row, True)]
    mask = correct_mask(looking_turned(predict, quarters=quarters), lying, clicks=clicks)
    ((pixels, prompts),) = told
    assert np.array_equal(pixels, PIXELS)
    ((x, y),) = prompts.points
    assert np.rot90(place, quarters)[y, x]
    assert dice(mask, truth) > 0.98


@pytest.mark.parametrize("box", [(10, 10, 41, 99), (-1, 0, 99, 99), (0, 0, 257, 99)])
def test_a_box_of_no_use_is_named(box):
    with pytest.raises(ValueError, match="sides of 32 pixels or more within the frame of 256 x 320"):
        correct_mask(know(TRUTH), PIXELS, clicks=[], box=box)


def test_goes_on_from_a_mask_that_was_drawn():
    again = correct_mask(go_on_from(TRUTH), PIXELS, clicks=[])
    assert dice(again) > 0.985
    (candidate,) = go_on_from(TRUTH)(PIXELS, Prompts((0, 0, 256, 320)))
    assert candidate.predicted_iou == 1.0


def test_where_there_is_no_hand_there_is_no_mask():
    assert not correct_mask(know(np.zeros_like(TRUTH)), PIXELS, clicks=[]).any()
