"""The U-Net segmenter, with ONNX Runtime on one core, without TensorFlow and torch."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from boneage.preprocessing.crop.letterbox import Letterbox
from boneage.preprocessing.segmentation.film_edge import cut_at_film_edges
from boneage.preprocessing.segmentation.mask_selection import measure_stability
from boneage.preprocessing.segmentation.morphology import second_component_share
from boneage.preprocessing.segmentation.onnx_session import load_network
from boneage.preprocessing.segmentation.segmentation import Segmentation, postprocess_mask

UNET_SIZE_PX = 256

Forward = Callable[[Float32[np.ndarray, "1 side side 1"]], Float32[np.ndarray, "1 side side 1"]]
"""From a square radiograph in [0, 1] to the logits of the hand."""


def segment_with_unet(forward: Forward, pixels: UInt8[np.ndarray, "height width"]) -> Segmentation:
    """Find the hand with a network that sees the whole frame, letterboxed to its square.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.

    Returns:
        The clean mask at the size of the frame, with its stability as the score.
    """
    box = Letterbox(pixels.shape, UNET_SIZE_PX)
    logits = np.ascontiguousarray(forward(box.apply(pixels)[None, ..., None] / 255)[0, ..., 0][box.frame_slices])
    ended = cut_at_film_edges(logits, pixels)
    return Segmentation(
        mask=postprocess_mask(ended, shape=pixels.shape),
        score=measure_stability(logits),
        second_share=second_component_share(ended > 0),
    )


def load_unet(path: Path) -> Callable[[UInt8[np.ndarray, "height width"]], Segmentation]:
    """Load a U-Net from ONNX as a segmenter."""
    return functools.partial(segment_with_unet, load_network(path))
