"""Segmenters: what finds the hand in a radiograph."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8

from tfrecords.errors import check_choice


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Where a segmenter sees the hand.

    Args:
        mask: True on the hand, shape `(height, width)`, bool.
        score: Trust in the mask, in [0, 1]; `None` where the segmenter measures nothing.
    """

    mask: Bool[np.ndarray, "height width"]
    score: float | None


Segmenter = Callable[[UInt8[np.ndarray, "height width"]], Segmentation]
"""A function from a contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone, to the hand's mask."""


def whole_frame(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Take the whole frame for the hand."""
    return Segmentation(mask=np.ones(pixels.shape, np.bool_), score=None)


SEGMENTERS: dict[str, Segmenter] = {"none": whole_frame}


def get_segmenter(name: str) -> Segmenter:
    """Look a segmenter up by name.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    check_choice("segmenter", name, SEGMENTERS)
    return SEGMENTERS[name]
