"""The official Segment Anything models, with torch: a checkpoint as a predictor."""

import functools
import multiprocessing
import pickle
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from boneage.preprocessing.sam import torchvision_stand_in as stand_in
from boneage.preprocessing.sam.checkpoints import CheckpointUnavailableError, find_checkpoint
from boneage.preprocessing.segmentation.mask_selection import Candidate, score_candidate
from boneage.preprocessing.segmentation.prompts import Prompts
from boneage.preprocessing.segmentation.segmentation import Predictor

stand_in.install()
from segment_anything import SamPredictor, sam_model_registry  # noqa: E402
from segment_anything.modeling import Sam  # noqa: E402

_NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")


def load_sam(model: str, *, checkpoint: str = "") -> Predictor:
    """Load a Segment Anything model, on the GPU if available.

    In a worker process it runs on one core, otherwise on all cores that torch uses. Each process has its own copy of
    the model, also in GPU memory.

    Args:
        model: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        checkpoint: Path of its checkpoint (default: the official one, downloaded once).

    Returns:
        A predictor with three candidates: SAM's masks for ambiguous prompts (part, subpart and whole).

    Raises:
        ValueError: If there is no model of that name.
        CheckpointUnavailableError: If the checkpoint is missing, damaged, or of another model.
    """
    path = find_checkpoint(model, checkpoint=checkpoint)
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    sam = _read(path, model=model).to("cuda" if torch.cuda.is_available() else "cpu")
    return functools.partial(predict_masks, SamPredictor(sam))


def _read(path: Path, *, model: str) -> Sam:
    sam = sam_model_registry[model]().eval()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointUnavailableError(
            f"{path}: damaged, or contains more than weights, which is not loaded for safety; download it again."
        ) from error
    try:
        sam.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointUnavailableError(
            f"{path}: not a checkpoint of {model}; set --sam-model to its model, or give another file with "
            "--sam-checkpoint."
        ) from error
    return sam


def predict_masks(
    predictor: SamPredictor, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts
) -> list[Candidate]:
    """Predict masks.

    The image encoder, which takes nearly all of the time, runs in bfloat16 if the processor supports it: outlines may
    then differ by a pixel between processors. The rest is float32.

    Args:
        predictor: The model; it caches the last image.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        prompts: Prompts of the model.

    Returns:
        Three candidates.
    """
    device = predictor.device.type
    left, top, right, bottom = prompts.box
    with torch.inference_mode():
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
            predictor.set_image(np.repeat(pixels[..., None], 3, axis=2))
        predictor.features = predictor.features.float()
        _, quality, logits = predictor.predict(
            point_coords=np.array(prompts.points) if prompts.points else None,
            point_labels=np.ones(len(prompts.points)) if prompts.points else None,
            box=np.array([left, top, right - 1, bottom - 1]),
            multimask_output=True,
        )
    filled = np.array(predictor.input_size) / predictor.model.image_encoder.img_size
    return [
        score_candidate(cut_padding(candidate_logits, filled=(filled[0], filled[1])), predicted_iou=float(iou))
        for candidate_logits, iou in zip(logits, quality, strict=True)
    ]


def cut_padding(
    logits: Float32[np.ndarray, "side side"], *, filled: tuple[float, float]
) -> Float32[np.ndarray, "rows columns"]:
    """Cut a square map of logits to the frame, which fills its upper left.

    If the frame ends between two coarse pixels, the pixels of the result are slightly narrower or wider.

    Args:
        logits: The square map.
        filled: Share of its height and of its width that the frame fills.
    """
    height, width = (share * len(logits) for share in filled)
    rows, columns = max(1, round(height)), max(1, round(width))
    down, across = height / rows, width / columns
    # Pixel centres lie at halves: that of pixel 0 of the result is at half of its own size.
    matrix = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(logits, matrix, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Return whether a device, `"cuda"` or `"cpu"`, has instructions for bfloat16, without which it is slower."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch do not list the capabilities.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _NATIVE_BFLOAT16)
