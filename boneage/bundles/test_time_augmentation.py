"""Test-time augmentation: the mean prediction over rotated and mirrored copies of a radiograph."""

import cv2
import numpy as np


def turn_and_mirror(images: np.ndarray, *, angle_degrees: float, mirrored: bool) -> np.ndarray:
    """Rotate each image of a batch about its centre, then mirror it; pixels from outside the image are black.

    Args:
        images: Shape `(batch, size, size, 1)`, uint8.
        angle_degrees: Rotation, positive counter-clockwise.
        mirrored: Whether to mirror left to right.

    Returns:
        Same shape, uint8.
    """
    if angle_degrees:
        middle = (images.shape[1] - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), angle_degrees, 1.0)
        images = np.stack([cv2.warpAffine(image[..., 0], matrix, image.shape[1::-1])[..., None] for image in images])
    return images[:, :, ::-1] if mirrored else images
