"""The U-Net segmenter: ONNX Runtime on one core, neither TensorFlow nor torch."""

import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from preprocessing.inference import load_network
from preprocessing.morphology import clean_mask
from preprocessing.segmenters import Segmentation

UNET_SIZE_PX = 256
CLOSING_SHARE = 0.01
# Stability as SAM measures it (Kirillov et al. 2023, arXiv:2304.02643): overlap of the masks at logits of -1 and +1.
_LOOSE, _STRICT = 0.269, 0.731

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
    height, width = pixels.shape
    scale = UNET_SIZE_PX / max(height, width)
    small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((1, UNET_SIZE_PX, UNET_SIZE_PX, 1), np.float32)
    top, left = (UNET_SIZE_PX - small_height) // 2, (UNET_SIZE_PX - small_width) // 2
    inside = (0, slice(top, top + small_height), slice(left, left + small_width), 0)
    square[inside] = cv2.resize(pixels, (small_width, small_height), interpolation=how).astype(np.float32) / 255
    share = 1 / (1 + np.exp(-forward(square)[inside]))
    # Cubic: the outline between two coarse pixels is smooth, and so is what it is cut from.
    fine = cv2.resize(share, (width, height), interpolation=cv2.INTER_CUBIC)
    loose, strict = int((share > _LOOSE).sum()), int((share > _STRICT).sum())
    return Segmentation(
        mask=clean_mask(fine > 0.5, closing_share=CLOSING_SHARE), score=strict / loose if loose else 0.0
    )


def load_unet(path: Path) -> Callable[[UInt8[np.ndarray, "height width"]], Segmentation]:
    """Load a U-Net from ONNX as a segmenter."""
    return functools.partial(segment_with, load_network(path))
