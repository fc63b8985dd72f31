"""Result of a segmenter, and post-processing of logits into one clean mask."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from boneage.preprocessing.crop.letterbox import resize_map
from boneage.preprocessing.segmentation.film_edge import cut_at_film_edges
from boneage.preprocessing.segmentation.mask_selection import Candidate, rank_candidates
from boneage.preprocessing.segmentation.morphology import clean_mask, second_component_share
from boneage.preprocessing.segmentation.prompts import Prompts, find_prompts

CLOSING_SHARE = 0.01
_MAX_LOGIT = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of a segmenter.

    Args:
        mask: True on the hand, shape `(height, width)`, bool.
        score: Confidence in the mask, in [0, 1]; None where the segmenter measures none.
        prompts: Prompts of the model; None if it takes none.
        candidates: All masks that the model proposed, best first; empty if it proposes one only.
        second_share: Size of the second largest piece of the raw mask relative to the largest.
        input_rotation_degrees: Rotation of the radiograph before segmentation, counter-clockwise.
    """

    mask: Bool[np.ndarray, "height width"]
    score: float | None
    prompts: Prompts | None = None
    candidates: tuple[Candidate, ...] = ()
    second_share: float = 0.0
    input_rotation_degrees: int = 0

    def place_in_frame(self, corner: tuple[int, int], *, shape: tuple[int, int]) -> "Segmentation":
        """Return the segmentation of a frame of `shape`, of which this one shows the part from a corner `(x, y)` on."""
        left, top = corner
        around = tuple(
            (before, whole - before - part)
            for before, whole, part in zip((top, left), shape, self.mask.shape, strict=True)
        )
        return dataclasses.replace(
            self,
            mask=np.pad(self.mask, around),
            prompts=self.prompts and self.prompts.shift(left, top),
            candidates=tuple(candidate.pad(around, shape=self.mask.shape) for candidate in self.candidates),
        )


Segmenter = Callable[[UInt8[np.ndarray, "height width"]], Segmentation]
"""A function from a contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone, to the hand's mask."""

Predictor = Callable[[UInt8[np.ndarray, "height width"], Prompts], list[Candidate]]
"""A Segment Anything model: from such a radiograph and prompts to the masks that it proposes."""


def segment_with_prompts(predict: Predictor, pixels: UInt8[np.ndarray, "height width"]) -> Segmentation:
    """Find the hand with any Segment Anything model: prompts, masks, selection, film edges, cleaning.

    Args:
        predict: The model.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
    """
    prompts = find_prompts(pixels)
    candidates = rank_candidates(predict(pixels, prompts))
    best = candidates[0]
    logits = cut_at_film_edges(best.logits, pixels)
    return Segmentation(
        mask=postprocess_mask(logits, shape=pixels.shape),
        score=best.score,
        prompts=prompts,
        candidates=tuple(candidates),
        second_share=second_component_share(logits > 0),
    )


def segment_rotated(
    segmenter: Segmenter, pixels: UInt8[np.ndarray, "height width"], *, quarter_turns: int
) -> Segmentation:
    """Segment a rotated radiograph and rotate the result back.

    Args:
        segmenter: The segmenter.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        quarter_turns: Number of counter-clockwise quarter turns.
    """
    rotated = np.ascontiguousarray(np.rot90(pixels, quarter_turns))
    segmentation = segmenter(rotated)
    return dataclasses.replace(
        segmentation,
        mask=np.ascontiguousarray(np.rot90(segmentation.mask, -quarter_turns)),
        prompts=segmentation.prompts and segmentation.prompts.rotate(-quarter_turns, shape=rotated.shape),
        candidates=tuple(candidate.rotate(-quarter_turns) for candidate in segmentation.candidates),
        input_rotation_degrees=quarter_turns % 4 * 90,
    )


def postprocess_mask(
    logits: Float32[np.ndarray, "rows columns"], *, shape: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Convert a coarse map of logits to one clean mask at the size of the frame.

    Cleaning precedes enlarging, since the coarse map has a hundred times fewer pixels.

    Args:
        logits: Above 0 on the hand, a map over the whole frame.
        shape: Height and width of the frame in pixels.
    """
    clean = clean_mask(logits > 0, closing_share=CLOSING_SHARE)
    share = 1 / (1 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))
    # Pixels that cleaning added or removed must remain so in the enlarged map, in spite of overshoot.
    share = np.where(clean & (share <= 0.5), 0.9, np.where(~clean & (share > 0.5), 0.1, share)).astype(np.float32)
    return resize_map(share, shape=shape) > 0.5
