"""The U-Net segmenter: ONNX Runtime on one core, neither TensorFlow nor torch."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from preprocessing.choice import measure_stability
from preprocessing.inference import load_network
from preprocessing.letterbox import Letterbox
from preprocessing.morphology import compare_pieces
from preprocessing.rims import end_at_rims
from preprocessing.segmentation import Segmentation, finish_mask

UNET_SIZE_PX = 256

Forward = Callable[[Float32[np.ndarray, "1 side side 1"]], Float32[np.ndarray, "1 side side 1"]]
"""From a square radiograph in [0, 1] to the logits of the hand."""


def segment_with(forward: Forward, pixels: UInt8[np.ndarray, "height width"]) -> Segmentation:
    """Find the hand with a network that sees the whole frame, shrunk or enlarged to its square.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The clean mask at the frame's own size, and its stability as the score.
    """
    box = Letterbox(pixels.shape, UNET_SIZE_PX)
    logits = np.ascontiguousarray(forward(box.place(pixels)[None, ..., None] / 255)[0, ..., 0][box.inside])
    ended = end_at_rims(logits, pixels)
    return Segmentation(
        mask=finish_mask(ended, shape=pixels.shape),
        score=measure_stability(logits),
        second_share=compare_pieces(ended > 0),
    )


def load_unet(path: Path) -> Callable[[UInt8[np.ndarray, "height width"]], Segmentation]:
    """Load a U-Net from ONNX as a segmenter."""
    return functools.partial(segment_with, load_network(path))
