"""Radiographs with masks: reading, dividing before augmenting, and measuring."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data.mask_pairs import (
    MaskPair,
    MaskPairsError,
    read_folds,
    read_mask_pairs,
    score_mask,
    split_into_folds,
    write_folds,
)


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
    pair = read_mask_pairs(folders / "radiographs", masks=folders / "masks", max_hand_px=40)[0]
    assert pair.pixels.shape == pair.mask.shape
    left, top, right, bottom = bounding_box(pair.mask)
    assert max(right - left, bottom - top) == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(None, "no radiograph"), (np.ones((9, 9)), "redraw the mask"), (np.zeros((100, 80)), "empty mask")],
)
def test_radiographs_and_masks_that_do_not_match_are_an_error(folders, mask, message):
    name = "c.png" if mask is None else "a.png"
    cv2.imwrite(str(folders / "masks" / name), np.zeros((100, 80)) if mask is None else mask * 255)
    with pytest.raises(MaskPairsError, match=message):
        read_mask_pairs(folders / "radiographs", masks=folders / "masks")


def test_folds_share_no_image_and_lose_none():
    pairs = [MaskPair(str(number), np.zeros((1, 1), np.uint8), np.ones((1, 1), np.bool_)) for number in range(11)]
    folds = split_into_folds(pairs, num_folds=3, seed=0)
    assert sorted(len(fold) for fold in folds) == [3, 4, 4]
    assert sorted(pair.name for fold in folds for pair in fold) == sorted(pair.name for pair in pairs)
    with pytest.raises(ValueError, match=r"must lie in \[2, 11\]"):
        split_into_folds(pairs, num_folds=12, seed=0)


def test_folds_are_found_again(tmp_path):
    pairs = [MaskPair(str(number), np.zeros((1, 1), np.uint8), np.ones((1, 1), np.bool_)) for number in range(7)]
    folds = split_into_folds(pairs, num_folds=3, seed=0)
    write_folds(folds, tmp_path)
    assert read_folds(tmp_path, pairs) == folds
    other = MaskPair("other", pairs[0].pixels, pairs[0].mask)
    with pytest.raises(MaskPairsError, match="other is in no fold"):
        read_folds(tmp_path, [*pairs, other])


def test_other_folds_are_not_written_beside_their_networks(tmp_path):
    pairs = [MaskPair(str(number), np.zeros((1, 1), np.uint8), np.ones((1, 1), np.bool_)) for number in range(7)]
    folds = split_into_folds(pairs, num_folds=3, seed=0)
    write_folds(folds, tmp_path)
    write_folds(folds, tmp_path)
    for others in (split_into_folds(pairs, num_folds=2, seed=0), split_into_folds(pairs[:6], num_folds=3, seed=0)):
        with pytest.raises(
            MaskPairsError, match=r"folds\.csv: written for other masks or another number of folds; choose"
        ):
            write_folds(others, tmp_path)
    assert read_folds(tmp_path, pairs) == folds


def test_scores_of_a_mask():
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
