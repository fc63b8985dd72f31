"""The preprocessing configuration, and the fingerprint that ties models to pixels."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

from boneage.base.errors import check_shares
from boneage.preprocessing.hand.gate import GateConfig
from boneage.preprocessing.hand.segmenters import DEFAULT_SAM_MODEL, LANDMARKS_FILE, get_segmenter, weights_sha256

# Raised whenever the same configuration gives different pixels, so that no model gets images from other preprocessing.
FRAME_VERSION, HAND_VERSION = 2, 14
WHOLE_FRAME = "none"
# Settings that do not apply to whole frames.
_HAND_ONLY_KEYS = ("forearm_share", "margin_share", "gate")
# Settings that the hash of the weights covers, and that do not apply to other segmenters.
_SAM_KEYS = ("sam_model", "sam_checkpoint")


@dataclasses.dataclass(frozen=True)
class PreprocessingConfig:
    """How a radiograph becomes a prepared square.

    Args:
        segmenter: Name of the segmenter that finds the hand. `"none"` takes the whole frame: only size and contrast
            apply then.
        image_size_px: Longest side of the prepared square in pixels. Hands are enlarged to twice their size at most,
            whole frames never.
        contrast_low_percentile: Percentile of the grey values that becomes black.
        contrast_high_percentile: Percentile of the grey values that becomes white.
        forearm_share: Length of forearm kept below the wrist, as a share of the hand's length from wrist to middle
            fingertip: the same for all, so that it carries no information.
        margin_share: Black margin around the hand, as a share of its length.
        gate: Thresholds of the gate.
        sam_model: Official model of the segmenter `"sam"`: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        sam_checkpoint: Path of its checkpoint (default: the official one, downloaded once). The fingerprint depends on
            the content of the file, not on its path.
    """

    segmenter: str = "hand_sam"
    image_size_px: int = 512
    contrast_low_percentile: float = 1.0
    contrast_high_percentile: float = 99.0
    forearm_share: float = 0.15
    margin_share: float = 0.04
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    sam_model: str = DEFAULT_SAM_MODEL
    sam_checkpoint: str = ""

    def __post_init__(self) -> None:
        """Check every value, so that a mistake is named before the first file is read."""
        for name in ("contrast_low_percentile", "contrast_high_percentile", "forearm_share", "margin_share"):
            # 1 and 1.0 are the same value and must have the same fingerprint.
            object.__setattr__(self, name, float(getattr(self, name)))
        get_segmenter(self.segmenter, sam_model=self.sam_model)
        if not 16 <= self.image_size_px <= 4096:
            raise ValueError(f"`image_size_px` must lie in [16, 4096]. Received: {self.image_size_px}.")
        if not 0 <= self.contrast_low_percentile < self.contrast_high_percentile <= 100:
            raise ValueError(
                "`contrast_low_percentile` must be below `contrast_high_percentile`, both in [0, 100]. "
                f"Received: {self.contrast_low_percentile} and {self.contrast_high_percentile}."
            )
        check_shares(self, "forearm_share", "margin_share")


def fingerprint(config: PreprocessingConfig) -> str:
    """Return the fingerprint of the preprocessing: equal fingerprints mean equal pixels from the same file.

    Returns:
        16 hexadecimal digits.

    Raises:
        CheckpointUnavailableError: If the checkpoint of the segmenter `"sam"` is missing and cannot be downloaded.
    """
    whole = config.segmenter == WHOLE_FRAME
    settings: dict[str, Any] = {"version": FRAME_VERSION if whole else HAND_VERSION, **dataclasses.asdict(config)}
    if whole:
        for name in _HAND_ONLY_KEYS:
            del settings[name]
    else:
        settings["landmarks_sha256"] = _landmarks_sha256()
        settings["unet_sha256"] = weights_sha256("unet")
    sam = {name: settings.pop(name) for name in _SAM_KEYS}
    if weights := weights_sha256(config.segmenter, **sam):
        settings["segmenter_sha256"] = weights
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _landmarks_sha256() -> str:
    return hashlib.sha256(LANDMARKS_FILE.read_bytes()).hexdigest()
