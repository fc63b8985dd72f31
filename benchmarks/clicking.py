"""The benchmark of corrections by clicks: what they are worth."""

import functools
import time
from pathlib import Path

import cv2
import numpy as np
from hands import LARGEST_PX, PLAIN, VARIANTS, find
from measure import Row, rounded

from boneage.preprocessing.hand.interactive_correction import Click, correct_mask, rotate_predictor
from boneage.preprocessing.segmentation.hand_sam import load_hand_sam
from boneage.preprocessing.segmentation.segmentation import segment_with_prompts
from boneage.preprocessing.training_data.mask_pairs import read_folds, read_mask_pairs, score_mask

# What a person sees to be wrong, and clicks on: half as deep as this share of the frame's longest side, or deeper.
_SEEN_SHARE = 0.01
_SHOWN = ("as they are", "turned by 45 degrees", "turned by 180 degrees", "framed, dark and bright")
# Clicks that make a mask worse by more than this, in Dice, are counted.
_WORSE = 0.0005


def clicking(files: Path, masks: Path, folds: Path, *, num_clicks: int = 3) -> list[Row]:
    """What up to three clicks, each in the middle of what is most wrong, make of masks of unseen radiographs, in Dice.

    Args:
        files: Folder of radiographs.
        masks: Their masks, made by hand.
        folds: What `boneage train-sam` wrote: a network for each fold that has not seen it.
        num_clicks: Most clicks on one radiograph.
    """
    divided = read_folds(folds, read_mask_pairs(files, masks=masks, max_hand_px=LARGEST_PX))
    networks = [load_hand_sam(folds / f"fold-{number}" / "hand_sam.onnx") for number in range(len(divided))]
    rows = []
    for outlines, change in [("hand-SAM", change) for change in _SHOWN] + [("film area, then Otsu", "as they are")]:
        dices, seconds = [], []
        for network, fold in zip(networks, divided, strict=True):
            segmenter = functools.partial(segment_with_prompts, network) if outlines == "hand-SAM" else PLAIN[outlines]
            for pair in fold:
                pixels, truth = VARIANTS[change](pair)
                hand = find(pixels, segmenter)
                predict = rotate_predictor(network, quarter_turns=hand.pose.quarter_turns if hand.pose else 0)
                clicks: list[Click] = []
                mask = hand.segmentation.mask
                reached = [score_mask(mask, truth=truth)["dice"]]
                while len(clicks) < num_clicks and (click := _find_worst(mask, truth)):
                    clicks.append(click)
                    began = time.perf_counter()
                    mask = correct_mask(predict, hand.pixels, clicks=clicks, mask=hand.segmentation.mask)
                    seconds.append(time.perf_counter() - began)
                    reached.append(score_mask(mask, truth=truth)["dice"])
                if clicks:
                    dices.append(reached)
        if not dices:
            continue  # nothing that a person would see
        gains = np.concatenate([np.diff(reached) for reached in dices])
        rows.append(
            {
                "outlines": outlines,
                "radiographs": change,
                "clicked on": len(dices),
                "clicks": len(gains),
                "before": rounded(float(np.mean([reached[0] for reached in dices]))),
                "after one": rounded(float(np.mean([reached[1] for reached in dices]))),
                "after all": rounded(float(np.mean([reached[-1] for reached in dices]))),
                "clicks that made it worse": rounded(float(np.mean(gains < -_WORSE))),
                "worst": rounded(float(gains.min())),
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
