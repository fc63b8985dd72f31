"""Looks at a radiograph: a network that was shown turned and mirrored ones errs less on the mean of several."""

import cv2
import numpy as np

VIEWS = {
    "one": ((0.0, False),),
    "mirrored": ((0.0, False), (0.0, True)),
    "ten": tuple((angle, mirrored) for angle in (0.0, -10.0, -5.0, 5.0, 10.0) for mirrored in (False, True)),
}
"""What a network is asked of each radiograph, to answer with the mean: turns in degrees, and whether mirrored."""


def take_view(images: np.ndarray, *, angle_degrees: float, mirrored: bool) -> np.ndarray:
    """Turn each image of a batch about its middle, then mirror it; what comes into view is black.

    Args:
        images: Shape `(batch, size, size, 1)`, uint8.
        angle_degrees: Turn, counter-clockwise positive.
        mirrored: Whether to mirror left to right.

    Returns:
        Same shape, uint8.
    """
    if angle_degrees:
        middle = (images.shape[1] - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), angle_degrees, 1.0)
        images = np.stack([cv2.warpAffine(each[..., 0], matrix, each.shape[1::-1])[..., None] for each in images])
    return images[:, :, ::-1] if mirrored else images
