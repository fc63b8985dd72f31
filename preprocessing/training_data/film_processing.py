"""What printing and the image processing of digital systems make of a radiograph, simulated for training."""

import cv2
import numpy as np
from jaxtyping import UInt8

Film = UInt8[np.ndarray, "height width"]


def _print_on_paper(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Print a radiograph as in a book: a steep curve, by which soft tissue is nearly black."""
    middle, width = rng.uniform(0.15, 0.6), rng.uniform(0.04, 0.15)
    curve = 1 / (1 + np.exp((middle - np.arange(256) / 255) / width))
    table = np.rint((curve - curve[0]) / (curve[-1] - curve[0]) * 255).astype(np.uint8)
    return cv2.LUT(pixels, table)


def _enhance_locally(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Enhance the local contrast, as the image processing of digital systems does."""
    tiles = int(rng.integers(4, 12))
    return cv2.createCLAHE(float(rng.uniform(1, 5)), (tiles, tiles)).apply(pixels)


def _sharpen(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Enhance edges by an unsharp mask."""
    image = pixels.astype(np.float32)
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.004, 0.03) * max(pixels.shape))
    return np.clip(image + rng.uniform(0.5, 2) * (image - blurred), 0, 255).astype(np.uint8)


def _equalise(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Equalise the histogram, fully or in part."""
    return cv2.addWeighted(cv2.equalizeHist(pixels), share := float(rng.uniform(0.5, 1)), pixels, 1 - share, 0)


def _burn_out(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Clip the brightest grey values, so that bone is white."""
    bright = pixels[pixels >= pixels.mean()]
    burnt: Film = np.minimum(pixels, np.uint8(np.percentile(bright, rng.uniform(30, 90))))
    return burnt


def process_film(pixels: Film, *, rng: np.random.Generator) -> Film:
    """Process a radiograph in one way, by chance.

    Printed with soft tissue nearly black, local contrast enhanced, sharpened, equalised, or with burnt-out bone.

    Args:
        pixels: Radiograph, shape `(height, width)`, uint8, bright bone.
        rng: Random generator.
    """
    ways = (_print_on_paper, _enhance_locally, _sharpen, _equalise, _burn_out)
    return ways[int(rng.integers(len(ways)))](pixels, rng=rng)
