"""What a segmenter gives, and how a model's logits become one clean mask."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from preprocessing.choice import Candidate, choose
from preprocessing.letterbox import resize_map
from preprocessing.morphology import clean_mask, compare_pieces
from preprocessing.prompts import Prompts, find_prompts
from preprocessing.rims import end_at_rims

CLOSING_SHARE = 0.01
_SHARPEST_LOGIT = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Where a segmenter sees the hand.

    Args:
        mask: True on the hand, shape `(height, width)`, bool.
        score: Trust in the mask, in [0, 1]; `None` where the segmenter measures nothing.
        prompts: What the model was told; `None` where it takes no prompts.
        candidates: All masks that the model offered, best first; none where it offers but one.
        second_share: Size of the second largest piece of the raw mask against the largest.
        turned_degrees: By how much, counter-clockwise, the radiograph was turned when it was looked at.
    """

    mask: Bool[np.ndarray, "height width"]
    score: float | None
    prompts: Prompts | None = None
    candidates: tuple[Candidate, ...] = ()
    second_share: float = 0.0
    turned_degrees: int = 0


Segmenter = Callable[[UInt8[np.ndarray, "height width"]], Segmentation]
"""A function from a contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone, to the hand's mask."""

Predictor = Callable[[UInt8[np.ndarray, "height width"], Prompts], list[Candidate]]
"""A Segment Anything model: from such a radiograph and prompts to the masks that it offers."""


def segment_prompted(predict: Predictor, pixels: UInt8[np.ndarray, "height width"]) -> Segmentation:
    """Find the hand with a Segment Anything model, whichever it is: prompts, masks, choice, film's rims, cleaning.

    Args:
        predict: The model.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
    """
    prompts = find_prompts(pixels)
    candidates = choose(predict(pixels, prompts))
    best = candidates[0]
    logits = end_at_rims(best.logits, pixels)
    return Segmentation(
        mask=finish_mask(logits, shape=pixels.shape),
        score=best.score,
        prompts=prompts,
        candidates=tuple(candidates),
        second_share=compare_pieces(logits > 0),
    )


def segment_turned(segmenter: Segmenter, pixels: UInt8[np.ndarray, "height width"], *, quarters: int) -> Segmentation:
    """Turn a radiograph before the hand is looked for; what is found lies as in the radiograph given.

    Args:
        segmenter: What finds the hand.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        quarters: By how often 90 degrees, counter-clockwise, it is turned.
    """
    turned = np.ascontiguousarray(np.rot90(pixels, quarters))
    found = segmenter(turned)
    return dataclasses.replace(
        found,
        mask=np.ascontiguousarray(np.rot90(found.mask, -quarters)),
        prompts=found.prompts and found.prompts.turn(-quarters, shape=turned.shape),
        candidates=tuple(each.turn(-quarters) for each in found.candidates),
        turned_degrees=quarters % 4 * 90,
    )


def finish_mask(
    logits: Float32[np.ndarray, "rows columns"], *, shape: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Turn a coarse map of logits into one clean mask at the frame's own size.

    Cleaning comes before enlarging: it is the same hand, and a hundred times fewer pixels.

    Args:
        logits: Above 0 on the hand, a map over the whole frame.
        shape: Height and width of the frame in pixels.
    """
    clean = clean_mask(logits > 0, closing_share=CLOSING_SHARE)
    share = 1 / (1 + np.exp(-np.clip(logits, -_SHARPEST_LOGIT, _SHARPEST_LOGIT)))
    # What cleaning added or took away must stay so when the map is enlarged, however it swings between pixels.
    share = np.where(clean & (share <= 0.5), 0.9, np.where(~clean & (share > 0.5), 0.1, share)).astype(np.float32)
    return resize_map(share, shape=shape) > 0.5
