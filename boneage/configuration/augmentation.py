"""Ranges of the augmentation: the table `[augment]` of an experiment."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the augmentation; values are sampled uniformly for each image.

    Args:
        rotation_degrees: Largest rotation in either direction, in degrees.
        shift_share: Largest shift in either direction, as a fraction of the image size.
        zoom_share: Range of the scale factor: `[1 - zoom_share, 1 + zoom_share]`.
        narrow_share: Range of an additional scale factor of the width: `[1 - narrow_share, 1]`.
        flip_share: Fraction of the images that are mirrored left to right.
        gamma_share: Range of the gamma exponent, log-uniform: `[1 / (1 + gamma_share), 1 + gamma_share]`.
        contrast_share: Range of the contrast factor around middle grey: `[1 - contrast_share, 1 + contrast_share]`.
        brightness_share: Largest offset of the grey values in either direction, as a fraction of their range.
        clip_share: Largest share of the grey range, from white down, that becomes white, as in burnt-out bone.
        local_contrast_share: Largest factor by which the difference from the local mean grows, over a few pixels
            (unsharp masking) or an eighth of the image (local histogram equalisation); half of it where it shrinks.
        blur_px: Largest standard deviation of the Gaussian blur, in pixels.
        noise_share: Largest standard deviation of added Gaussian noise, as a fraction of the grey range.
    """

    rotation_degrees: float = 20.0
    shift_share: float = 0.1
    zoom_share: float = 0.15
    narrow_share: float = 0.1
    flip_share: float = 0.5
    gamma_share: float = 0.3
    contrast_share: float = 0.1
    brightness_share: float = 0.1
    clip_share: float = 0.0
    local_contrast_share: float = 0.0
    blur_px: float = 0.0
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        """Check every range."""
        limits = {"rotation_degrees": 180.0, "blur_px": 5.0, "gamma_share": 4.0, "zoom_share": 0.9, "narrow_share": 0.9}
        limits |= {"clip_share": 0.9, "local_contrast_share": 4.0}
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, 1.0)
            if not 0 <= value <= limit:
                raise ValueError(f"`{field.name}` must lie in [0, {limit:g}]. Received: {value}.")
