"""Hand-SAM: a small Segment Anything model that ships with the package, by ONNX Runtime; torch is not needed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from preprocessing.choice import Candidate, weigh
from preprocessing.inference import open_session
from preprocessing.letterbox import Letterbox
from preprocessing.prompts import Prompts

HAND_SAM_SIZE_PX = 256
# Two corners of the box and up to four points; those there are not are labelled -1.
MAX_POINTS = 6

Forward = Callable[
    [
        Float32[np.ndarray, "1 1 side side"],
        Float32[np.ndarray, "1 points 2"],
        Float32[np.ndarray, "1 points"],
    ],
    tuple[Float32[np.ndarray, "1 masks side side"], Float32[np.ndarray, "1 masks"]],
]
"""From a square radiograph in [0, 255], points and their labels to logits of masks and their predicted IoU."""


def predict_with(forward: Forward, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts) -> list[Candidate]:
    """Ask the model for masks.

    Args:
        forward: The network.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        prompts: What the model is told.

    Returns:
        Four candidates: the answer to clear prompts, then the three to ambiguous ones.
    """
    box = Letterbox(pixels.shape, HAND_SAM_SIZE_PX)
    left, top, right, bottom = prompts.box
    corners = (left, top), (right - 1, bottom - 1)
    known = np.array([*corners, *prompts.points, *prompts.points_outside][:MAX_POINTS], np.float64)
    points = np.zeros((1, MAX_POINTS, 2), np.float32)
    labels = np.full((1, MAX_POINTS), -1, np.float32)
    points[0, : len(known)] = box.place_points(known)
    labels[0, : len(known)] = (2, 3, *[1] * len(prompts.points), *[0] * len(prompts.points_outside))[:MAX_POINTS]
    logits, quality = forward(box.place(pixels)[None, None], points, labels)
    return [
        weigh(np.ascontiguousarray(each[box.inside]), predicted_iou=float(iou))
        for each, iou in zip(logits[0], quality[0], strict=True)
    ]


def load_hand_sam(path: Path) -> Callable[[UInt8[np.ndarray, "height width"], Prompts], list[Candidate]]:
    """Load hand-SAM from ONNX as a predictor."""
    session = open_session(path)

    def forward(image: np.ndarray, points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(session.run(None, {"image": image, "points": points, "labels": labels}))

    return lambda pixels, prompts: predict_with(forward, pixels, prompts)
