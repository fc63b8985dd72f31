"""Resample images whose pixels are not square, so that a hand has its true proportions."""

from pathlib import Path

import cv2
import numpy as np

from boneage.preprocessing.io.grey import GreyImage
from boneage.preprocessing.io.radiograph import UnreadableImageError, check_size

# Spacings that differ in their last digit alone are left: interpolating costs more than the stretch of a hundredth.
_TOLERANCE = 0.01
# No detector or scanner has longer pixels; a file that states them has a wrong header.
_MAX_ASPECT = 4.0


def resample_to_square(image: GreyImage, *, aspect: float, path: Path, max_pixels: int) -> GreyImage:
    """Interpolate rows or columns until the pixels are square; no row or column is lost.

    Args:
        image: The image.
        aspect: Height of a pixel divided by its width.
        path: Name used in error messages.
        max_pixels: The most pixels of the result.

    Returns:
        The image as it is where the pixels are square to within a hundredth, else the longer one.

    Raises:
        UnreadableImageError: If `aspect` is beyond reason (`damaged_image`), or the result is too large (`too_large`).
    """
    if abs(aspect - 1) <= _TOLERANCE:
        return image
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise UnreadableImageError(
            f"{path} states pixels {aspect:.3g} times as high as wide; correct its pixel spacing or resolution.",
            reason="damaged_image",
        )
    height, width = image.pixels.shape
    height, width = round(height * max(1.0, aspect)), round(width * max(1.0, 1 / aspect))
    check_size(path, height=height, width=width, max_pixels=max_pixels)
    coloured = image.coloured
    if coloured is not None:
        coloured = cv2.resize(coloured.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) == 1
    return GreyImage(cv2.resize(image.pixels, (width, height), interpolation=cv2.INTER_LINEAR), coloured)
