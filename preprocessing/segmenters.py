"""Segmenters by name: what finds the hand in a radiograph."""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from preprocessing.sam.checkpoints import CHECKPOINTS, find_checkpoint, hash_file
from preprocessing.segmentation import Segmentation, Segmenter, segment_prompted
from tfrecords.errors import check_choice

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
HAND_SAM_FILE = WEIGHTS_FOLDER / "hand_sam.onnx"
UNET_FILE = WEIGHTS_FOLDER / "unet.onnx"
LANDMARKS_FILE = WEIGHTS_FOLDER / "landmarks.onnx"
DEFAULT_SAM_MODEL = "vit_b"


def whole_frame(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Take the whole frame for the hand."""
    return Segmentation(mask=np.ones(pixels.shape, np.bool_), score=None)


def hand_sam(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Find the hand with the small Segment Anything model that ships with the package."""
    return _load_hand_sam()(pixels)


@functools.cache
def _load_hand_sam() -> Segmenter:
    # ONNX Runtime takes a moment to import, which whoever takes whole frames need not wait for.
    from preprocessing.hand_sam import load_hand_sam

    return functools.partial(segment_prompted, load_hand_sam(HAND_SAM_FILE))


def unet(pixels: UInt8[np.ndarray, "height width"], /) -> Segmentation:
    """Find the hand with the U-Net that ships with the package."""
    return _load_unet()(pixels)


@functools.cache
def _load_unet() -> Segmenter:
    from preprocessing.unet import load_unet

    return load_unet(UNET_FILE)


def sam(
    pixels: UInt8[np.ndarray, "height width"], /, *, model: str = DEFAULT_SAM_MODEL, checkpoint: str = ""
) -> Segmentation:
    """Find the hand with an official Segment Anything model; see `preprocessing.sam.official.load_sam`."""
    return _load_sam(model, checkpoint)(pixels)


@functools.cache
def _load_sam(model: str, checkpoint: str) -> Segmenter:
    # The only segmenter that needs torch.
    from preprocessing.sam.official import load_sam

    return functools.partial(segment_prompted, load_sam(model, checkpoint=checkpoint))


SEGMENTERS: dict[str, Segmenter] = {"hand_sam": hand_sam, "unet": unet, "sam": sam, "none": whole_frame}
_WEIGHTS = {"hand_sam": HAND_SAM_FILE, "unet": UNET_FILE}


def get_segmenter(name: str, *, sam_model: str = DEFAULT_SAM_MODEL, sam_checkpoint: str = "") -> Segmenter:
    """Look a segmenter up by name.

    Args:
        name: Its name.
        sam_model: Which model `"sam"` is; no other segmenter asks.
        sam_checkpoint: Path of its checkpoint; the official one without it.

    Raises:
        ValueError: If there is no segmenter or model of that name; the message lists those there are.
    """
    check_choice("segmenter", name, SEGMENTERS)
    check_choice("sam_model", sam_model, CHECKPOINTS)
    if name == "sam":
        return functools.partial(sam, model=sam_model, checkpoint=sam_checkpoint)
    return SEGMENTERS[name]


def weights_sha256(name: str, *, sam_model: str = DEFAULT_SAM_MODEL, sam_checkpoint: str = "") -> str | None:
    """Hash the weights of a segmenter: other weights are another segmenter. None where it has none.

    Raises:
        CheckpointUnavailable: If a checkpoint of `"sam"` is not there and cannot be fetched.
    """
    path = find_checkpoint(sam_model, checkpoint=sam_checkpoint) if name == "sam" else _WEIGHTS.get(name)
    return hash_file(path) if path else None
