"""Segmenters: what finds the hand in a radiograph."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from tfrecords.errors import check_choice

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
UNET_FILE = WEIGHTS_FOLDER / "unet.onnx"
LANDMARKS_FILE = WEIGHTS_FOLDER / "landmarks.onnx"


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


def unet(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Find the hand with the U-Net that ships with the package."""
    return _load_unet()(pixels)


@functools.cache
def _load_unet() -> Segmenter:
    # ONNX Runtime takes a moment to import, which whoever takes whole frames need not wait for.
    from preprocessing.unet import load_unet

    return load_unet(UNET_FILE)


SEGMENTERS: dict[str, Segmenter] = {"none": whole_frame, "unet": unet}
_WEIGHTS = {"unet": UNET_FILE}


def get_segmenter(name: str) -> Segmenter:
    """Look a segmenter up by name.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    check_choice("segmenter", name, SEGMENTERS)
    return SEGMENTERS[name]


@functools.cache
def weights_sha256(name: str) -> str | None:
    """Hash the weights of a segmenter: other weights are another segmenter. None where it has none."""
    return hashlib.sha256(_WEIGHTS[name].read_bytes()).hexdigest() if name in _WEIGHTS else None
