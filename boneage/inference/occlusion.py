"""Occlusion map: change of the prediction in months when a patch is blurred.

Occlusion (Zeiler & Fergus 2014, arXiv:1311.2901) needs no gradients, so it works for every network and every ensemble,
and its map has a unit: months.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from boneage.base.files import open_atomic
from boneage.bundles.bundle import Bundle

PATCHES_PER_SIDE = 12
_BATCH_SIZE = 16
_SHOWN_PX = 384


def measure_occlusion(
    bundle: Bundle, crop: UInt8[np.ndarray, "side side"], *, male: float, age_months: float | None = None
) -> Float32[np.ndarray, "size size"]:
    """Compute the occlusion map of a crop.

    Args:
        bundle: The bundle.
        crop: The network input before resizing, uint8.
        male: 1 for male, 0 for female.
        age_months: The chronological age that the network is given, in months, or None.

    Returns:
        Absolute change of the prediction, in months, when the patch around a pixel is blurred; float32, at the input
        size of the network.
    """
    image = bundle.resize_to_input(crop)[..., 0]
    size = image.shape[0]
    width = 2 * size / PATCHES_PER_SIDE
    blurred = cv2.GaussianBlur(image, (0, 0), width / 2)
    places = (np.arange(PATCHES_PER_SIDE) + 0.5) * size / PATCHES_PER_SIDE
    axis = np.arange(size) + 0.5
    # Soft windows, twice as wide as their distance, so that no edge of a patch resembles an edge of a bone.
    windows = np.exp(-0.5 * ((axis[None] - places[:, None]) / (width / 4)) ** 2)
    masks = np.einsum("iy,jx->ijyx", windows, windows).reshape(-1, size, size)
    shown = [index for index, mask in enumerate(masks) if (mask * image).max() > 1]  # the others are black
    occluded = [np.rint(image * (1 - masks[index]) + blurred * masks[index]).astype(np.uint8) for index in shown]
    batch = np.stack([image, *occluded])[..., None]
    males = np.full((len(batch), 1), male, np.float32)
    ages = np.full((len(batch), 1), np.nan if age_months is None else age_months, np.float32)
    parts = [slice(start, start + _BATCH_SIZE) for start in range(0, len(batch), _BATCH_SIZE)]
    months = np.concatenate(
        [bundle.predict_batch(batch[part], males[part], ages_months=ages[part], tta="none") for part in parts]
    )
    changes = np.zeros(len(masks))
    changes[shown] = np.abs(months[1:] - months[0])
    weights = masks / masks.sum(axis=0)
    return np.asarray(np.einsum("k,kyx->yx", changes, weights), np.float32)


def draw_occlusion_map(
    crop: UInt8[np.ndarray, "side side"], change_months: Float32[np.ndarray, "size size"]
) -> UInt8[np.ndarray, "shown shown 3"]:
    """Overlay the occlusion map on the crop: the brighter the colour, the larger the change.

    Args:
        crop: The network input before resizing, uint8.
        change_months: The map computed by `measure_occlusion`.

    Returns:
        RGB, uint8, 384 pixels wide and high.
    """
    grey, heat = (
        cv2.resize(image.astype(np.float32), (_SHOWN_PX, _SHOWN_PX), interpolation=cv2.INTER_CUBIC)
        for image in (crop, change_months)
    )
    heat = np.clip(heat / max(float(change_months.max()), 1e-6), 0, 1)
    colour = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = 0.65 * heat[..., None]
    blended = grey[..., None] * (1 - weight) + colour * weight
    return np.asarray(np.rint(np.clip(blended, 0, 255)), np.uint8)


def write_occlusion_map(
    bundle: Bundle,
    crops: Sequence[UInt8[np.ndarray, "side side"]],
    path: Path,
    *,
    male: float,
    age_months: float | None = None,
) -> None:
    """Write each crop, and beside it the crop with its occlusion map, as one PNG file, one crop below the other."""
    rows = []
    for crop in crops:
        overlay = draw_occlusion_map(crop, measure_occlusion(bundle, crop, male=male, age_months=age_months))
        grey = cv2.resize(crop, overlay.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        rows.append(np.hstack([np.repeat(grey[..., None], 3, axis=2), overlay]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        Image.fromarray(np.vstack(rows)).save(file, format="PNG")
