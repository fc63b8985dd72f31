"""The way from a frame and prompts to hand-SAM's square and back, and what ships."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.crop.letterbox import Letterbox, resize_map
from boneage.preprocessing.hand.segmenters import HAND_SAM_FILE, LANDMARKS_FILE, UNET_FILE, WEIGHTS_FOLDER
from boneage.preprocessing.segmentation.hand_sam import HAND_SAM_SIZE_PX, MAX_POINTS, SHORTER_SIDES_PX, predict_masks
from boneage.preprocessing.segmentation.mask_selection import score_candidate
from boneage.preprocessing.segmentation.morphology import second_component_share
from boneage.preprocessing.segmentation.prompts import Prompts
from boneage.preprocessing.segmentation.segmentation import (
    Segmentation,
    postprocess_mask,
    segment_rotated,
    segment_with_prompts,
)


def answer_with_points(image, points, labels):
    """A model whose four masks are: what is bright, its opposite, nothing, and the box of the prompts."""
    assert image.shape[:2] == (1, 1) and max(image.shape) == HAND_SAM_SIZE_PX and image.dtype == np.float32
    assert min(image.shape[2:]) in {*SHORTER_SIDES_PX, HAND_SAM_SIZE_PX}
    assert points.shape == (1, MAX_POINTS, 2) and points.dtype == np.float32
    assert labels.shape == (1, MAX_POINTS) and labels.dtype == np.float32
    bright = (image[0, 0] - 127) / 10
    (left, top), (right, bottom) = np.rint(points[0, :2]).astype(int)
    box = np.full_like(bright, -9.0)
    box[top : bottom + 1, left : right + 1] = 9.0
    return np.stack([bright, -bright, np.full_like(bright, -9.0), box])[None], np.float32([[0.9, 0.2, 0.9, 0.5]])


@pytest.mark.parametrize("shape", [(100, 100), (256, 200), (500, 900), (1000, 400)])
def test_masks_and_prompts_keep_their_place(shape):
    height, width = shape
    pixels = np.zeros(shape, np.uint8)
    pixels[height // 4 : height // 2, width // 5 : width // 2] = 255
    box = (width // 5, height // 4, width // 2, height // 2)
    candidates = predict_masks(answer_with_points, pixels, Prompts(box, points=((width // 3, height // 3),)))
    assert [candidate.predicted_iou for candidate in candidates] == pytest.approx([0.9, 0.2, 0.9, 0.5])
    for index in (0, 3):  # what is bright, and the box around it
        mask = postprocess_mask(candidates[index].logits, shape=shape)
        assert mask.shape == shape
        assert (mask & (pixels > 0)).sum() / (mask | (pixels > 0)).sum() > 0.9


def look_at(pixels, prompts):
    """Run the model that returns what is bright; return the candidates and the images that it was given."""
    shown = []

    def listen(image, points, labels):
        shown.append((image[0, 0], points[0], labels[0]))
        return answer_with_points(image, points, labels)

    return predict_masks(listen, pixels, prompts), shown


@pytest.mark.parametrize("corner", [(0, 0), (333, 217), (600, 500)], ids=["edge", "middle", "other edge"])
def test_a_hand_that_fills_little_of_the_frame_gets_a_close_up(corner):
    """What is found then lies where it is, to a tenth of a pixel of the network's."""
    top, left = corner
    pixels = np.zeros((1000, 800), np.uint8)
    pixels[top : top + 400, left : left + 300] = 255
    pixels[top + 150 : top + 250, left : left + 100] = 0
    prompts = Prompts(
        (0, 0, 800, 1000), points=((left + 200, top + 200),), points_outside=((left, top + 200), (790, 5))
    )
    candidates, shown = look_at(pixels, prompts)
    assert len(shown) == 2 and len(candidates) == 4
    assert (shown[1][0] > 0).sum() > 3 * (shown[0][0] > 0).sum()
    assert shown[1][2].tolist() == [2, 3, 1, 0, -1, -1]  # (790, 5) is out of sight
    mask = postprocess_mask(candidates[0].logits, shape=pixels.shape)
    assert np.abs(np.argwhere(mask).mean(axis=0) - np.argwhere(pixels).mean(axis=0)).max() < 0.4
    assert (mask & (pixels > 0)).sum() / (mask | (pixels > 0)).sum() > 0.98


def test_of_overview_and_close_up_the_more_certain_one_decides():
    """The lower half is hand in the overview only; the close-up is a little less or a little more certain."""
    pixels = np.zeros((500, 400), np.uint8)
    pixels[100:250, 100:220] = 255
    kept = {}
    for doubt in (-3.0, -5.0):
        shown = []

        def change_mind(image, points, labels, doubt=doubt, shown=shown):
            shown.append(image)
            lit = image[0, 0] > 127
            logits = np.where(lit, np.float32(4), np.float32(-4))
            if len(shown) == 2:
                rows = np.flatnonzero(lit.any(axis=1))
                logits[rows[len(rows) // 2] :][lit[rows[len(rows) // 2] :]] = doubt
            return np.stack([logits] * 4)[None], np.full((1, 4), 0.9, np.float32)

        candidates = predict_masks(change_mind, pixels, Prompts((0, 0, 400, 500)))
        assert len(shown) == 2
        kept[doubt] = postprocess_mask(candidates[0].logits, shape=pixels.shape)[:, 160]
    assert kept[-3.0].sum() == pytest.approx(150, abs=3) and kept[-5.0].sum() == pytest.approx(75, abs=3)


def test_a_hand_that_fills_the_frame_and_two_hands_get_no_close_up():
    pixels = np.zeros((500, 400), np.uint8)
    pixels[20:470, 90:300] = 255
    assert len(look_at(pixels, Prompts((0, 0, 400, 500)))[1]) == 1
    pixels[:] = 0
    pixels[20:200, 90:300] = pixels[300:490, 90:300] = 255
    candidates, shown = look_at(pixels, Prompts((0, 0, 400, 500)))
    assert len(shown) == 1 and second_component_share(candidates[0].logits > 0) > 0.9


def test_points_are_labelled_and_missing_ones_too():
    captured = {}

    def listen(image, points, labels):
        captured.update(points=points[0], labels=labels[0].tolist())
        return answer_with_points(image, points, labels)

    prompts = Prompts((0, 0, 512, 256), points=((100, 50), (300, 200)))
    predict_masks(listen, np.zeros((256, 512), np.uint8), prompts)
    assert captured["labels"] == [2, 3, 1, 1, -1, -1]
    # Half as large, and 32 rows of black above it.
    np.testing.assert_allclose(
        captured["points"][:4], [[-0.25, 31.75], [255.25, 159.25], [49.75, 56.75], [149.75, 131.75]]
    )


def test_points_off_the_hand_are_labelled_as_such():
    captured = []

    def listen(image, points, labels):
        captured.extend(labels[0].tolist())
        return answer_with_points(image, points, labels)

    prompts = Prompts((0, 0, 512, 256), points=((100, 50),), points_outside=((300, 200), (400, 200)))
    predict_masks(listen, np.zeros((256, 512), np.uint8), prompts)
    assert captured == [2, 3, 1, 0, 0, -1]


def test_the_best_candidate_is_selected_and_all_are_kept():
    pixels = np.zeros((200, 160), np.uint8)
    pixels[40:160, 40:110] = 255
    pixels[100:160, 40:60] = 0  # no rectangle: a hand fills its hull no more than so
    found = segment_with_prompts(lambda *arguments: predict_masks(answer_with_points, *arguments), pixels)
    assert len(found.candidates) == 4 and found.prompts is not None
    assert found.score == found.candidates[0].score == max(candidate.score for candidate in found.candidates)
    assert (found.mask & (pixels > 0)).sum() / (found.mask | (pixels > 0)).sum() > 0.9


@given(
    corner=st.tuples(st.integers(0, 120), st.integers(0, 100)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 50)),
    quarter_turns=st.integers(-4, 5),
)
def test_the_result_of_a_rotated_radiograph_is_rotated_back(corner, size, quarter_turns):
    (top, left), (height, width) = corner, size
    pixels = np.zeros((200, 160), np.uint8)
    pixels[top : top + height, left : left + width] = 255

    def outline(turned):
        assert turned.flags.c_contiguous and turned.shape == np.rot90(pixels, quarter_turns).shape
        box = bounding_box(turned > 0)
        prompts = Prompts(box, points=((box[0], box[1]),), points_outside=((0, 0),))
        return Segmentation(
            turned > 0, 0.5, prompts, (score_candidate(turned.astype(np.float32) - 9, predicted_iou=0.5),)
        )

    found = segment_rotated(outline, pixels, quarter_turns=quarter_turns)
    np.testing.assert_array_equal(found.mask, pixels > 0)
    np.testing.assert_array_equal(found.candidates[0].logits > 0, pixels > 0)
    assert found.prompts.box == (left, top, left + width, top + height)
    assert pixels[found.prompts.points[0][::-1]] == 255
    assert found.prompts.points_outside[0] in {(0, 0), (159, 0), (0, 199), (159, 199)}
    assert found.input_rotation_degrees == quarter_turns * 90 % 360


def test_specks_and_holes_do_not_come_back_when_enlarged():
    logits = np.full((50, 50), -9.0, np.float32)
    logits[10:40, 10:40] = 9.0
    logits[20, 20] = -9.0  # a hole
    logits[3, 3] = 9.0  # a speck
    mask = postprocess_mask(logits, shape=(500, 500))
    assert mask[205, 205] and not mask[25:45, 25:45].any()


@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (700, 300)])
def test_letterbox_places_points_where_it_places_pixels(shape):
    box = Letterbox(shape, 128)
    pixels = np.zeros(shape, np.uint8)
    row, column = shape[0] // 3, shape[1] // 4
    pixels[row - 5 : row + 6, column - 5 : column + 6] = 255
    square = box.apply(pixels)
    rows, columns = np.nonzero(square > 100)
    (placed,) = box.map_points(np.array([[float(column), float(row)]]))
    assert placed == pytest.approx([columns.mean(), rows.mean()], abs=1.0)
    back = resize_map(np.ascontiguousarray(square[box.frame_slices]), shape=shape)
    rows, columns = np.nonzero(back > 100)
    assert (rows.mean(), columns.mean()) == pytest.approx((row, column), abs=1.0 / box.scale)


@given(shape=st.tuples(st.integers(1, 700), st.integers(1, 700)), shorter=st.sampled_from([(64, 96), (96,), (32, 64)]))
def test_a_canvas_is_the_middle_of_the_square_and_the_least_that_holds_the_frame(shape, shorter):
    square, canvas = Letterbox(shape, 128), Letterbox(shape, 128, shorter_px=shorter)
    assert max(canvas.canvas_size) == 128
    for side, filled in zip(canvas.canvas_size, canvas.frame_size, strict=True):
        assert side in {*shorter, 128} and not any(filled <= less < side for less in shorter)
    top, left = ((128 - side) // 2 for side in canvas.canvas_size)
    shown = square.apply(np.full(shape, 200, np.uint8))
    middle = shown[top : 128 - top, left : 128 - left]
    assert shown.sum() == middle.sum()
    np.testing.assert_array_equal(canvas.apply(np.full(shape, 200, np.uint8)), middle)
    corner = np.zeros((1, 2))
    np.testing.assert_allclose(square.map_points(corner) - canvas.map_points(corner), [[left, top]])


@pytest.mark.parametrize("path", [HAND_SAM_FILE, UNET_FILE, LANDMARKS_FILE], ids=lambda path: path.stem)
def test_the_card_names_the_weights_that_ship(path):
    card = (WEIGHTS_FOLDER / "README.md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert path.stat().st_size < 15e6
    assert re.search(rf"`{path.name}`", card)
