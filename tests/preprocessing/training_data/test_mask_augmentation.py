"""Augmentation of radiographs with masks: the mask still fits."""

import cv2
import numpy as np

from boneage.preprocessing.crop.letterbox import resize_map
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data.mask_augmentation import (
    _place_in_letterbox,
    _simulate_film_edge,
    augment_film,
    augment_pair,
    subsample,
)
from boneage.preprocessing.training_data.mask_pairs import MaskPair, score_mask


def test_augmentation_keeps_radiograph_and_mask_together():
    """Augment a radiograph that is its own mask: any shift between the two is visible."""
    drawn = draw_radiograph(120, sex="female", seed=1, size_px=(256, 208))
    pair = MaskPair("hand", drawn.mask.astype(np.uint8) * 200, drawn.mask)
    alike = []
    for seed in range(30):
        pixels, mask = augment_pair(pair, size_px=128, rng=np.random.default_rng(seed))
        assert pixels.shape == mask.shape == (128, 128) and pixels.dtype == np.uint8
        assert mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
        alike.append(abs(np.corrcoef(pixels.ravel(), mask.ravel())[0, 1]))
    # In the others an edge or a field covers a part of the film, or local contrast darkens the middle of the hand.
    assert np.quantile(alike, 0.8) > 0.9, sorted(alike)
    same = [augment_pair(pair, size_px=128, rng=np.random.default_rng(7))[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_augmented_masks_keep_outlines_at_subpixel_precision():
    rows, columns = np.mgrid[:512, :512]
    disc = np.hypot(rows - 255.5, columns - 255.5) < 150
    pair = MaskPair("disc", disc.astype(np.uint8) * 200, disc)
    _, share = _place_in_letterbox(pair, size_px=64, rng=np.random.default_rng(0))  # a disc is the same in every turn
    whole = (share > 0.5).astype(np.float32)
    kept, stepped = (
        score_mask(resize_map(image, shape=disc.shape) > 0.5, truth=disc)["dice"] for image in (share, whole)
    )
    assert kept > 0.997 and stepped < 0.991


def test_a_film_edge_across_the_forearm_ends_the_hand_and_hardly_more_of_it():
    drawn = draw_radiograph(120, sex="female", seed=1, size_px=(256, 208)).mask
    hand = drawn[: np.flatnonzero(drawn.any(axis=1))[-1]]  # down to the frame's edge
    for seed in range(20):
        mounted = _simulate_film_edge(
            MaskPair("hand", hand.astype(np.uint8) * 200, hand), rng=np.random.default_rng(seed)
        )
        assert mounted.pixels.shape == mounted.mask.shape and mounted.pixels.dtype == np.uint8
        found = cv2.matchTemplate(mounted.mask.astype(np.float32), hand.astype(np.float32), cv2.TM_CCORR)
        top, left = np.unravel_index(int(found.argmax()), found.shape)
        kept = mounted.mask[top : top + hand.shape[0], left : left + hand.shape[1]]
        assert kept.sum() == mounted.mask.sum() and not (kept & ~hand).any()
        tips, palm, forearm = (
            kept[rows].sum() / hand[rows].sum() for rows in (slice(80), slice(80, 170), slice(170, None))
        )
        assert tips > 0.9 and palm > 0.99 and 0.2 < forearm < 0.99


def test_augmentation_of_a_film_moves_nothing():
    """Half a coarse pixel is much of the soft tissue's width; nearest neighbours of OpenCV's kind would move it so."""
    rows, columns = np.mgrid[:128, :128]
    disc = np.hypot(rows - 63.5, columns - 63.5) < 30
    moved = []
    for seed in range(150):
        seen = augment_film(np.where(disc, 200, 40).astype(np.uint8), rng=np.random.default_rng(seed))
        seen = 255 - seen if seen[64, 64] < seen[64, 10] else seen
        _, found = cv2.threshold(seen, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        if score_mask(found == 1, truth=disc)["dice"] > 0.95:  # elsewhere a slope of brightness is what Otsu finds
            moved.append(np.argwhere(found).mean(axis=0) - 63.5)
    assert len(moved) > 100
    assert np.abs(moved).mean() < 0.18


def test_subsampling_takes_the_nearest_pixels():
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert subsample(pixels, shape=(2, 2)).tolist() == [[7, 10], [25, 28]]
    np.testing.assert_array_equal(subsample(pixels, shape=(6, 6)), pixels)
    assert subsample(pixels > 9, shape=(2, 2)).tolist() == [[False, True], [True, True]]
    assert subsample(pixels, shape=(6, 1)).tolist() == [[3], [9], [15], [21], [27], [33]]
