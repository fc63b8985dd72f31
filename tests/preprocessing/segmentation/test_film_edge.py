"""Film edges: hands end at them, and nowhere else."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.crop.letterbox import Letterbox
from boneage.preprocessing.hand.interactive_correction import Click, correct_mask
from boneage.preprocessing.segmentation.film_edge import cut_at_film_edges
from boneage.preprocessing.segmentation.mask_selection import score_candidate
from boneage.preprocessing.segmentation.segmentation import segment_with_prompts
from boneage.preprocessing.segmentation.unet import UNET_SIZE_PX, segment_with_unet
from boneage.preprocessing.synthetic import draw_radiographs

HEIGHT, WIDTH = 480, 400


def draw_film(
    *, width: float = 90.0, film_edge: bool = True, shade: float = 0.0, bright: float = 190.0, degrees: float = 0.0
):
    """Draw a forearm with bone that continues through the edge of a film; return pixels, its mask, and the film."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    middle = np.array([(HEIGHT - 1) / 2, (WIDTH - 1) / 2])
    turn = np.radians(degrees)
    down = (rows - middle[0]) * np.cos(turn) - (columns - middle[1]) * np.sin(turn) + middle[0]
    across = (rows - middle[0]) * np.sin(turn) + (columns - middle[1]) * np.cos(turn) + middle[1]
    forearm = (np.abs(across - WIDTH / 2) < width / 2) & (down > 120)
    palm = (down - 150) ** 2 / 100**2 + (across - WIDTH / 2) ** 2 / 80**2 < 1
    mask = forearm | palm
    greys = np.where(mask, 110.0, 60.0) + np.where(mask & (np.abs(across - WIDTH / 2) < 12), 60.0, 0.0)
    greys *= 1 - shade * np.clip((down - 380) / 20, 0, 1)
    if film_edge:
        greys = np.where(down > 400, bright + 0.3 * (greys - 60), greys)
        greys = np.where(down > 412, 10 + 0.2 * (greys - 60), greys)
    greys += np.random.default_rng(0).normal(0, 1.5, greys.shape)
    return np.clip(greys, 0, 255).astype(np.uint8), mask, down


def to_logits(mask: np.ndarray, *, rows: int = 256) -> np.ndarray:
    """Answer as a network that sees the forearm go on."""
    size = (round(rows * mask.shape[1] / mask.shape[0]), rows)
    return (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) - 0.5) * 16


def enlarge(logits: np.ndarray) -> np.ndarray:
    return cv2.resize(logits, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) > 0


@pytest.mark.parametrize("degrees", [0.0, 33.0, 90.0, -120.0, 180.0])
def test_a_hand_ends_at_the_film_edge(degrees):
    pixels, mask, down = draw_film(degrees=degrees)
    logits = to_logits(mask & (down < 430))
    ended = enlarge(cut_at_film_edges(logits, pixels))
    assert (down[ended].max()) == pytest.approx(399, abs=3)
    kept = down < 392
    assert (ended[kept] == enlarge(logits)[kept]).all()


def test_where_film_darkens_before_its_edge_the_hand_ends_within_the_shade():
    pixels, mask, down = draw_film(shade=0.6)
    ended = enlarge(cut_at_film_edges(to_logits(mask & (down < 430)), pixels))
    assert 384 < down[ended].max() < 397


def test_without_a_film_edge_nothing_changes():
    pixels, mask, _ = draw_film(film_edge=False)
    logits = to_logits(mask)
    assert cut_at_film_edges(logits, pixels) is logits


@pytest.mark.parametrize("shape", [(480, 400), (3, 200), (1, 1)])
def test_where_there_is_no_line_at_all_nothing_changes(shape):
    logits = np.full((9, 8), 8, np.float32)
    assert cut_at_film_edges(logits, np.full(shape, 90, np.uint8)) is logits


def test_a_line_that_cuts_off_half_a_hand_is_no_film_edge():
    """Otherwise line or mask is something else: a film edge must not remove what the gate should reject."""
    pixels, mask, down = draw_film()
    logits = to_logits(mask & (down > 250))
    assert (cut_at_film_edges(logits, pixels) == logits).all()


def test_a_mask_along_a_film_edge_is_not_cut_by_it():
    pixels, mask, down = draw_film()
    logits = to_logits(mask & (down > 396) & (down < 430))
    assert (cut_at_film_edges(logits, pixels) == logits).all()


def test_a_line_beside_the_hand_is_no_film_edge_unless_it_continues_beyond_it():
    """Such is the edge of a lead marker, whose line would cut off fingers."""
    pixels, mask, down = draw_film(film_edge=False)
    pixels[300:360, 330:390] = 250
    logits = to_logits(mask & (down < 330))
    assert (cut_at_film_edges(logits, pixels) == logits).all()


def test_a_finger_is_not_cut():
    pixels, mask, down = draw_film(width=30)
    logits = to_logits(mask & (down < 430))
    assert (cut_at_film_edges(logits, pixels) == logits).all()


def see_through(mask):
    """A model that continues the forearm through the film edge."""
    return lambda pixels, prompts: [score_candidate(to_logits(mask), predicted_iou=0.9)]


def test_masks_of_segmenters_end_at_the_film_edge():
    pixels, mask, down = draw_film()
    through = mask & (down < 430)
    found = segment_with_prompts(see_through(through), pixels)
    box = Letterbox(pixels.shape, UNET_SIZE_PX)
    answer = (box.apply(through.astype(np.uint8)) - 0.5)[None, ..., None] * 16
    for ended in (found.mask, segment_with_unet(lambda image: answer, pixels).mask):
        assert down[ended].max() == pytest.approx(399, abs=4)
    assert (found.candidates[0].logits == to_logits(through)).all()  # what the model offered is kept as it was


def test_a_correction_starts_at_the_film_edge_and_may_extend_it():
    pixels, mask, down = draw_film()
    predict = see_through(mask & (down < 430))
    initial_mask = segment_with_prompts(predict, pixels).mask
    assert down[initial_mask].max() < 404
    beyond = Click(WIDTH / 2, 405.0, on_hand=True)
    assert correct_mask(predict, pixels, clicks=[beyond], mask=initial_mask)[405, WIDTH // 2]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_image_works_and_nothing_is_added(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 200, 2))
    pixels = np.full((height, width), int(rng.integers(256)), np.uint8)
    logits = np.full([int(side) for side in rng.integers(1, 60, 2)], -5, np.float32)
    for _ in range(int(rng.integers(6))):
        for image, value, thickest in ((pixels, float(rng.integers(256)), 20), (logits, 5.0, 8)):
            ends = (rng.random((2, 2)) * image.shape[::-1]).astype(int).tolist()
            cv2.line(image, *ends, (value,), int(rng.integers(1, thickest)))
    ended = cut_at_film_edges(logits, pixels)
    assert ended.shape == logits.shape and ended.dtype == np.float32 and (ended <= logits).all()


def test_an_empty_mask_stays_empty():
    pixels = draw_film()[0]
    logits = np.full((128, 107), -8, np.float32)
    assert cut_at_film_edges(logits, pixels) is logits


def test_drawn_hands_lose_no_more_than_the_pixel_before_the_film_edge():
    for drawn in draw_radiographs(12, seed=3, size_px=(400, 320)):
        logits = to_logits(drawn.mask)
        lost = (logits > 0) & (cut_at_film_edges(logits, drawn.pixels) <= 0)
        assert lost.sum() <= 0.015 * (logits > 0).sum()
