"""The official Segment Anything models, by torch: a checkpoint as a predictor."""

import functools
import multiprocessing
import pickle
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from preprocessing.choice import Candidate, weigh
from preprocessing.prompts import Prompts
from preprocessing.sam import stand_in
from preprocessing.sam.checkpoints import CheckpointUnavailable, find_checkpoint
from preprocessing.segmentation import Predictor

stand_in.install()
from segment_anything import SamPredictor, sam_model_registry  # noqa: E402
from segment_anything.modeling import Sam  # noqa: E402

_NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")


def load_sam(model: str, *, checkpoint: str = "") -> Predictor:
    """Load a Segment Anything model, on the GPU where there is one.

    One of several worker processes keeps to one core; alone in its process, the model takes all that torch is given.
    Each process holds its own copy, in the GPU's memory too.

    Args:
        model: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        checkpoint: Path of its checkpoint; the official one, fetched once, without it.

    Returns:
        A predictor that offers three candidates: SAM's answers to ambiguous prompts, the part, the whole and between.

    Raises:
        ValueError: If there is no model of that name.
        CheckpointUnavailable: If the checkpoint is missing, damaged, or of another model.
    """
    path = find_checkpoint(model, checkpoint=checkpoint)
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    sam = _read(path, model=model).to("cuda" if torch.cuda.is_available() else "cpu")
    return functools.partial(predict_with, SamPredictor(sam))


def _read(path: Path, *, model: str) -> Sam:
    sam = sam_model_registry[model]().eval()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointUnavailable(
            f"{path}: damaged, or no checkpoint of weights alone, and what else is in it is not run; fetch it again."
        ) from error
    try:
        sam.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointUnavailable(
            f"{path}: no checkpoint of {model}; name its model by --sam-model, or another file by --sam-checkpoint."
        ) from error
    return sam


@torch.inference_mode()
def predict_with(
    predictor: SamPredictor, pixels: UInt8[np.ndarray, "height width"], prompts: Prompts
) -> list[Candidate]:
    """Ask the model for masks.

    The image encoder, which takes nearly all of the time, runs in bfloat16 where the processor has it: outlines may
    then differ by a pixel from one processor to another. The rest is float32.

    Args:
        predictor: The model; it keeps the last image.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        prompts: What the model is told.

    Returns:
        Three candidates.
    """
    device = predictor.device.type
    with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
        predictor.set_image(np.repeat(pixels[..., None], 3, axis=2))
    predictor.features = predictor.features.float()
    left, top, right, bottom = prompts.box
    _, quality, logits = predictor.predict(
        point_coords=np.array(prompts.points) if prompts.points else None,
        point_labels=np.ones(len(prompts.points)) if prompts.points else None,
        box=np.array([left, top, right - 1, bottom - 1]),
        multimask_output=True,
    )
    filled = np.array(predictor.input_size) / predictor.model.image_encoder.img_size
    return [
        weigh(cut_padding(each, filled=(filled[0], filled[1])), predicted_iou=float(iou))
        for each, iou in zip(logits, quality, strict=True)
    ]


def cut_padding(
    logits: Float32[np.ndarray, "side side"], *, filled: tuple[float, float]
) -> Float32[np.ndarray, "rows columns"]:
    """Cut a square map of logits to the frame, which fills its upper left.

    Where the frame ends between two coarse pixels, those of the result are that much narrower or wider.

    Args:
        logits: The square map.
        filled: Share of its height and of its width that the frame fills.
    """
    height, width = (share * len(logits) for share in filled)
    rows, columns = max(1, round(height)), max(1, round(width))
    down, across = height / rows, width / columns
    # Centres of pixels lie at halves: pixel 0 of the result is centred at half of its own size.
    back = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(logits, back, (columns, rows), flags=how, borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Tell whether a device, `"cuda"` or `"cpu"`, has instructions for bfloat16; without them it is slower in it."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without instructions of its own for it, a processor is slower in bfloat16. Older versions of torch do not tell.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _NATIVE_BFLOAT16)
