"""The steps from a radiograph to a prepared square, and the fingerprint that names them."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from preprocessing.contrast import stretch_contrast
from preprocessing.crop import Box, bounding_box, crop, to_square
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.segmenters import get_segmenter, weights_sha256

# Raised whenever the same configuration would give other pixels than before, so that no model meets what it never saw.
PIPELINE_VERSION = 1


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """How a radiograph becomes a prepared square.

    Args:
        segmenter: Name of the segmenter; `"none"` takes the whole frame, `"unet"` finds the hand.
        image_size_px: Longest side of the prepared square in pixels. Smaller radiographs are never enlarged.
        contrast_low_percentile: Percentile of the grey values that becomes black.
        contrast_high_percentile: Percentile of the grey values that becomes white.
    """

    segmenter: str = "none"
    image_size_px: int = 512
    contrast_low_percentile: float = 1.0
    contrast_high_percentile: float = 99.0

    def __post_init__(self):
        """Check every value, so that a mistake is named before the first file is read."""
        for name in ("contrast_low_percentile", "contrast_high_percentile"):
            # 1 and 1.0 are the same percentile and must have the same fingerprint.
            object.__setattr__(self, name, float(getattr(self, name)))
        get_segmenter(self.segmenter)
        if not 16 <= self.image_size_px <= 4096:
            raise ValueError(f"`image_size_px` must lie in [16, 4096]. Received: {self.image_size_px}.")
        if not 0 <= self.contrast_low_percentile < self.contrast_high_percentile <= 100:
            raise ValueError(
                "`contrast_low_percentile` must be below `contrast_high_percentile`, both in [0, 100]. "
                f"Received: {self.contrast_low_percentile} and {self.contrast_high_percentile}."
            )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared radiograph and what was decided on the way.

    Args:
        image: The square, shape `(size, size)`, uint8, bright bone, padding 0.
        crop_box_px: Box `(left, top, right, bottom)` in the source, right and bottom exclusive.
        rotation_degrees: Turn applied, counter-clockwise positive.
        mask_score: Trust in the mask, in [0, 1], `None` where the segmenter measures nothing.
        pixel_spacing_mm: Side of one pixel of `image` in mm, `None` where the source does not tell.
    """

    image: UInt8[np.ndarray, "size size"]
    crop_box_px: Box
    rotation_degrees: float
    mask_score: float | None
    pixel_spacing_mm: float | None


def fingerprint(config: PreprocessingConfig) -> str:
    """Name the preprocessing: equal fingerprints mean equal pixels from the same file (16 hexadecimal digits)."""
    decided = {"version": PIPELINE_VERSION, **dataclasses.asdict(config)}
    if weights := weights_sha256(config.segmenter):
        decided["segmenter_sha256"] = weights
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]


def process(radiograph: Radiograph, config: PreprocessingConfig, *, path: Path) -> Prepared:
    """Take one radiograph through all the steps: contrast, segmentation, crop, square.

    Args:
        radiograph: The radiograph.
        config: The preprocessing.
        path: Its file, named in the error.

    Raises:
        UnreadableImage: If the segmenter finds no hand (`no_hand`).
    """
    stretched = stretch_contrast(
        radiograph.pixels,
        low_percentile=config.contrast_low_percentile,
        high_percentile=config.contrast_high_percentile,
    )
    segmentation = get_segmenter(config.segmenter)(stretched)
    if not segmentation.mask.any():
        raise UnreadableImage(f"{path}: no hand was found in it; look at it and leave it out.", reason="no_hand")
    box = bounding_box(segmentation.mask)
    image, scale = to_square(crop(stretched, box=box), max_size_px=config.image_size_px)
    spacing = radiograph.pixel_spacing_mm
    return Prepared(
        image=image,
        crop_box_px=box,
        rotation_degrees=0.0,
        mask_score=segmentation.score,
        # Detectors have square pixels; the mean covers the rounding of the few whose two spacings differ in a digit.
        pixel_spacing_mm=None if spacing is None else float(np.mean(spacing)) / scale,
    )
