"""Segmenters by name: functions that find the hand in a radiograph."""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from boneage.base.errors import check_choice
from boneage.preprocessing.sam.checkpoints import CHECKPOINTS, find_checkpoint, hash_file
from boneage.preprocessing.segmentation.segmentation import Segmentation, Segmenter, segment_with_prompts

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
HAND_SAM_FILE = WEIGHTS_FOLDER / "hand_sam.onnx"
UNET_FILE = WEIGHTS_FOLDER / "unet.onnx"
LANDMARKS_FILE = WEIGHTS_FOLDER / "landmarks.onnx"
DEFAULT_SAM_MODEL = "vit_b"


def whole_frame(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Return the whole frame as the hand."""
    return Segmentation(mask=np.ones(pixels.shape, np.bool_), score=None)


def hand_sam(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Find the hand with the small Segment Anything model that ships with the package."""
    return _load_hand_sam()(pixels)


@functools.cache
def _load_hand_sam() -> Segmenter:
    # Imported late: ONNX Runtime is slow to import and not needed for whole frames.
    from boneage.preprocessing.segmentation.hand_sam import load_hand_sam

    return functools.partial(segment_with_prompts, load_hand_sam(HAND_SAM_FILE))


def unet(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Find the hand with the U-Net that ships with the package."""
    return _load_unet()(pixels)


@functools.cache
def _load_unet() -> Segmenter:
    from boneage.preprocessing.segmentation.unet import load_unet

    return load_unet(UNET_FILE)


def sam(
    pixels: UInt8[np.ndarray, "height width"], /, *, model: str = DEFAULT_SAM_MODEL, checkpoint: str = ""
) -> Segmentation:
    """Find the hand with an official Segment Anything model; see `boneage.preprocessing.sam.official.load_sam`."""
    return _load_sam(model, checkpoint)(pixels)


@functools.cache
def _load_sam(model: str, checkpoint: str) -> Segmenter:
    # The only segmenter that needs torch.
    from boneage.preprocessing.sam.official import load_sam

    return functools.partial(segment_with_prompts, load_sam(model, checkpoint=checkpoint))


SEGMENTERS: dict[str, Segmenter] = {"hand_sam": hand_sam, "unet": unet, "sam": sam, "none": whole_frame}
_WEIGHTS = {"hand_sam": HAND_SAM_FILE, "unet": UNET_FILE}


def get_segmenter(name: str, *, sam_model: str = DEFAULT_SAM_MODEL, sam_checkpoint: str = "") -> Segmenter:
    """Return a segmenter by name.

    Args:
        name: Its name.
        sam_model: Official model of `"sam"`; other segmenters ignore it.
        sam_checkpoint: Path of its checkpoint (default: the official one).

    Raises:
        ValueError: If there is no segmenter or model of that name; the message lists the valid names.
    """
    check_choice("segmenter", name, SEGMENTERS)
    check_choice("sam_model", sam_model, CHECKPOINTS)
    if name == "sam":
        return functools.partial(sam, model=sam_model, checkpoint=sam_checkpoint)
    return SEGMENTERS[name]


def weights_sha256(name: str, *, sam_model: str = DEFAULT_SAM_MODEL, sam_checkpoint: str = "") -> str | None:
    """Return the SHA-256 of the weights of a segmenter; None if it has none.

    Raises:
        CheckpointUnavailableError: If a checkpoint of `"sam"` is missing and cannot be downloaded.
    """
    path = find_checkpoint(sam_model, checkpoint=sam_checkpoint) if name == "sam" else _WEIGHTS.get(name)
    return hash_file(path) if path else None
