"""The benchmark of corrections by clicks: whether hand-SAM heeds them, and what they are worth."""

import time
from pathlib import Path

import cv2
import numpy as np
from hands import LARGEST_PX, LOOKS
from measure import Row, rounded

from preprocessing.contrast import stretch_contrast
from preprocessing.correct import Click, ask_with_clicks, correct_mask, ending_at_rims
from preprocessing.hand_sam import load_hand_sam
from preprocessing.mask_pairs import read_folds, read_mask_pairs, score_mask

# What a person sees to be wrong, and clicks on: half as deep as this share of the frame's longest side, or deeper.
_SEEN_SHARE = 0.01
_SHOWN = ("as they are", "turned by 45 degrees", "framed, dark and bright")


def clicking(files: Path, masks: Path, folds: Path, *, num_clicks: int = 3) -> list[Row]:
    """What up to three clicks, each in the middle of what is most wrong, make of masks of unseen radiographs.

    Args:
        files: Folder of radiographs.
        masks: Their masks, made by hand.
        folds: What `boneage train-sam` wrote: a network for each fold that has not seen it.
        num_clicks: Most clicks on one radiograph.
    """
    divided = read_folds(folds, read_mask_pairs(files, masks=masks, max_hand_px=LARGEST_PX))
    rows = []
    for change in _SHOWN:
        before, after, seconds, heeded = [], [], [], []
        for number, fold in enumerate(divided):
            predict = ending_at_rims(load_hand_sam(folds / f"fold-{number}" / "hand_sam.onnx"))
            for pair in fold:
                pixels, truth = LOOKS[change](pair)
                pixels = stretch_contrast(pixels)
                clicks: list[Click] = []
                mask = correct_mask(predict, pixels, clicks=clicks)
                first = score_mask(mask, truth=truth)["dice"]
                while len(clicks) < num_clicks and (click := _find_worst(mask, truth)):
                    clicks.append(click)
                    _, contradicted = ask_with_clicks(predict, pixels, clicks)
                    heeded.append(click not in contradicted)
                    began = time.perf_counter()
                    mask = correct_mask(predict, pixels, clicks=clicks)
                    seconds.append(time.perf_counter() - began)
                if clicks:
                    before.append(first)
                    after.append(score_mask(mask, truth=truth)["dice"])
        rows.append(
            {
                "radiographs": change,
                "clicked on": len(before),
                "clicks": len(seconds),
                "heeded by hand-SAM": rounded(float(np.mean(heeded))),
                "Dice before": rounded(float(np.mean(before))),
                "Dice after": rounded(float(np.mean(after))),
                "seconds": rounded(float(np.median(seconds))),
            }
        )
    return rows


def _find_worst(mask: np.ndarray, truth: np.ndarray) -> Click | None:
    """Return a click on the place deepest within what is wrong; None where no person would see any."""
    wrong = np.pad(mask != truth, 1).astype(np.uint8)
    depth = cv2.distanceTransform(wrong, cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), mask.shape[1])
    if depth[row, column] < _SEEN_SHARE / 2 * max(mask.shape):
        return None
    return Click(float(column), float(row), bool(truth[row, column]))
