"""Prompts for training: boxes and points as accurate as those found in a radiograph, and clicks on errors."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32

from boneage.preprocessing.segmentation.hand_sam import MAX_POINTS


def sample_prompts(
    mask: Bool[np.ndarray, "side side"], *, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "points 2"], Float32[np.ndarray, " points"]]:
    """Sample prompts for a mask: a box from tight to the whole frame, or none, and up to four points, some wrong.

    Args:
        mask: The true mask.
        rng: Random generator.

    Returns:
        Points `(x, y)` in pixels, the two corners of the box first, and labels as in
        `boneage.preprocessing.sam_training.network.PromptedHandSam`; -1 for no point.
    """
    side = mask.shape[0]
    points = np.zeros((MAX_POINTS, 2), np.float32)
    labels = np.full(MAX_POINTS, -1, np.float32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) and rng.random() < 0.85:
        tight = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float64)
        whole = np.array([0, 0, side - 1, side - 1], np.float64)
        loose = rng.random(4) ** 2 if rng.random() < 0.7 else np.ones(4)
        box = tight + (whole - tight) * loose + rng.normal(0, 0.02 * side, 4)
        points[:2] = box.reshape(2, 2).clip(0, side - 1)
        labels[:2] = 2, 3
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 1
    outer = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    for index in range(2, 2 + int(rng.integers(0, MAX_POINTS - 1))):
        positive = rng.random() < 0.7
        # One point in twenty-five lies on the wrong side, as points found in an image sometimes do.
        region = np.flatnonzero(inner if positive != (rng.random() < 0.04) else outer)
        if len(region):
            row, column = divmod(int(region[rng.integers(len(region))]), side)
            points[index] = column, row
            labels[index] = float(positive)
    return points, labels


def add_correction_clicks(
    points: torch.Tensor,
    labels: torch.Tensor,
    *,
    logits: torch.Tensor,
    truth: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the click of a person on the first mask: one point where it is wrong.

    Args:
        points: Prompts so far, shape `(batch, points, 2)`; the last point of each image is overwritten.
        labels: Their labels, shape `(batch, points)`.
        logits: Logits of the first mask, shape `(batch, height, width)`.
        truth: True masks, bool, same shape.
        generator: Random generator, on their device.

    Returns:
        New points and labels, of the same shapes.
    """
    wrong = ((logits > 0) != truth).flatten(1)
    clicked = wrong.any(dim=1)
    # If nothing is wrong, the sample needs some point, which is not used.
    place = torch.multinomial(wrong.float() + 1e-12, 1, generator=generator)
    on_hand = truth.flatten(1).gather(1, place)[:, 0].to(labels.dtype)
    spot = torch.cat([place % truth.shape[2], place // truth.shape[2]], dim=1).to(points.dtype)
    points, labels = points.clone(), labels.clone()
    points[:, -1] = torch.where(clicked[:, None], spot, points[:, -1])
    labels[:, -1] = torch.where(clicked, on_hand, labels[:, -1])
    return points, labels
