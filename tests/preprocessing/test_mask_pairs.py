"""Radiographs with masks: reading, dividing before augmenting, and looks whose mask still fits."""

import cv2
import numpy as np
import pytest

from preprocessing.mask_pairs import (
    MaskPair,
    MaskPairsError,
    _mount,
    augment_pair,
    change_film,
    divide,
    read_mask_pairs,
    score_mask,
)
from preprocessing.synthetic import draw_radiograph


@pytest.fixture
def folders(tmp_path):
    """Two drawings with their masks, one of them in a subfolder."""
    for name, seed in (("a.png", 1), ("more/b.png", 2)):
        drawn = draw_radiograph(120, sex="female", seed=seed, size_px=(100, 80))
        for kind, pixels in (("radiographs", drawn.pixels), ("masks", drawn.mask.astype(np.uint8) * 255)):
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    return tmp_path


def test_pairs_are_read_by_name(folders):
    pairs = read_mask_pairs(folders / "radiographs", masks=folders / "masks")
    assert [pair.name for pair in pairs] == ["a.png", "more/b.png"]
    for pair, seed in zip(pairs, (1, 2), strict=True):
        np.testing.assert_array_equal(pair.mask, draw_radiograph(120, sex="female", seed=seed, size_px=(100, 80)).mask)


def test_large_pairs_are_shrunk_together(folders):
    pair = read_mask_pairs(folders / "radiographs", masks=folders / "masks", max_size_px=50)[0]
    assert pair.pixels.shape == pair.mask.shape == (50, 40)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(None, "no radiograph"), (np.ones((9, 9)), "draw the mask again"), (np.zeros((100, 80)), "shows no hand")],
)
def test_what_does_not_belong_together_is_refused(folders, mask, message):
    name = "c.png" if mask is None else "a.png"
    cv2.imwrite(str(folders / "masks" / name), np.zeros((100, 80)) if mask is None else mask * 255)
    with pytest.raises(MaskPairsError, match=message):
        read_mask_pairs(folders / "radiographs", masks=folders / "masks")


def test_folds_share_no_image_and_lose_none():
    pairs = [MaskPair(str(number), np.zeros((1, 1), np.uint8), np.ones((1, 1), np.bool_)) for number in range(11)]
    folds = divide(pairs, num_folds=3, seed=0)
    assert sorted(len(fold) for fold in folds) == [3, 4, 4]
    assert sorted(pair.name for fold in folds for pair in fold) == sorted(pair.name for pair in pairs)
    with pytest.raises(ValueError, match=r"must lie in \[2, 11\]"):
        divide(pairs, num_folds=12, seed=0)


def test_looks_keep_radiograph_and_mask_together():
    """A radiograph that is its own mask shows in every look how far the two have come apart."""
    drawn = draw_radiograph(120, sex="female", seed=1, size_px=(256, 208))
    pair = MaskPair("hand", drawn.mask.astype(np.uint8) * 200, drawn.mask)
    alike = []
    for seed in range(30):
        pixels, mask = augment_pair(pair, size_px=128, rng=np.random.default_rng(seed))
        assert pixels.shape == mask.shape == (128, 128) and pixels.dtype == np.uint8
        alike.append(abs(np.corrcoef(pixels.ravel(), mask.ravel())[0, 1]))
    assert np.quantile(alike, 0.75) > 0.9  # in the others an edge or a field covers a part of the film
    same = [augment_pair(pair, size_px=128, rng=np.random.default_rng(7))[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_a_rim_across_the_forearm_ends_the_hand_and_hardly_more_of_it():
    drawn = draw_radiograph(120, sex="female", seed=1, size_px=(256, 208)).mask
    hand = drawn[: np.flatnonzero(drawn.any(axis=1))[-1]]  # down to the frame's edge
    for seed in range(20):
        mounted = _mount(MaskPair("hand", hand.astype(np.uint8) * 200, hand), rng=np.random.default_rng(seed))
        assert mounted.pixels.shape == mounted.mask.shape and mounted.pixels.dtype == np.uint8
        found = cv2.matchTemplate(mounted.mask.astype(np.float32), hand.astype(np.float32), cv2.TM_CCORR)
        top, left = np.unravel_index(int(found.argmax()), found.shape)
        kept = mounted.mask[top : top + hand.shape[0], left : left + hand.shape[1]]
        assert kept.sum() == mounted.mask.sum() and not (kept & ~hand).any()
        tips, palm, forearm = (
            kept[rows].sum() / hand[rows].sum() for rows in (slice(80), slice(80, 170), slice(170, None))
        )
        assert tips > 0.9 and palm > 0.99 and 0.2 < forearm < 0.99


def test_no_look_moves_what_lies_on_the_film():
    """Half a coarse pixel is much of the soft tissue's width; nearest neighbours of OpenCV's kind would move it so."""
    rows, columns = np.mgrid[:128, :128]
    disc = np.hypot(rows - 63.5, columns - 63.5) < 30
    moved = []
    for seed in range(150):
        seen = change_film(np.where(disc, 200, 40).astype(np.uint8), rng=np.random.default_rng(seed))
        seen = 255 - seen if seen[64, 64] < seen[64, 10] else seen
        _, found = cv2.threshold(seen, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        if score_mask(found == 1, truth=disc)["dice"] > 0.95:  # elsewhere a slope of brightness is what Otsu finds
            moved.append(np.argwhere(found).mean(axis=0) - 63.5)
    assert len(moved) > 100
    assert np.abs(moved).mean() < 0.18


def test_measures_of_a_mask():
    truth, mask = np.zeros((2, 5), np.bool_), np.zeros((2, 5), np.bool_)
    truth[0, :4] = True
    mask[0, 2:] = mask[1, 0] = True  # 2 right, 2 wrong, 2 missed
    assert score_mask(mask, truth=truth) == {
        "dice": 0.5,
        "iou": pytest.approx(1 / 3),
        "pixel_accuracy": 0.6,
        "precision": 0.5,
        "recall": 0.5,
    }
    assert score_mask(~np.ones_like(truth), truth=truth)["precision"] == 0
