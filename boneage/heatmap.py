"""What in a hand the network looks at: how the answer changes when a patch of it is blurred away.

Occlusion (Zeiler & Fergus 2014, arXiv:1311.2901) needs no gradients, hence works for every network and every ensemble,
and its map has a unit: months.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from boneage.bundle import Bundle
from tfrecords.write import write_whole

PATCHES = 12
_BATCH_SIZE = 16
_SHOWN_PX = 384


def measure_importance(
    bundle: Bundle, crop: UInt8[np.ndarray, "side side"], *, male: float
) -> Float32[np.ndarray, "size size"]:
    """Measure how much the answer rests on each place.

    Args:
        bundle: The bundle.
        crop: What the network saw, uint8.
        male: 1 for male, 0 for female.

    Returns:
        Change of the answer, in months and without sign, when the place is blurred away, at the network's input size.
    """
    image = bundle.fit(crop)[..., 0]
    size = image.shape[0]
    width = 2 * size / PATCHES
    blurred = cv2.GaussianBlur(image, (0, 0), width / 2)
    places = (np.arange(PATCHES) + 0.5) * size / PATCHES
    axis = np.arange(size) + 0.5
    # Soft windows, twice as wide as they lie apart, so that no edge of a patch looks like an edge of a bone.
    windows = np.exp(-0.5 * ((axis[None] - places[:, None]) / (width / 4)) ** 2)
    masks = np.einsum("iy,jx->ijyx", windows, windows).reshape(-1, size, size)
    shown = [index for index, mask in enumerate(masks) if (mask * image).max() > 1]  # the rest is black
    looks = [np.rint(image * (1 - masks[index]) + blurred * masks[index]).astype(np.uint8) for index in shown]
    males = np.full((len(looks) + 1, 1), male, np.float32)
    batch = np.stack([image, *looks])[..., None]
    months = np.concatenate(
        [
            bundle.predict_batch(batch[start : start + _BATCH_SIZE], males[start : start + _BATCH_SIZE], views="one")
            for start in range(0, len(batch), _BATCH_SIZE)
        ]
    )
    changes = np.zeros(len(masks))
    changes[shown] = np.abs(months[1:] - months[0])
    return np.einsum("k,kyx->yx", changes, masks / masks.sum(axis=0)).astype(np.float32)


def draw_heat_map(
    crop: UInt8[np.ndarray, "side side"], importance: Float32[np.ndarray, "size size"]
) -> UInt8[np.ndarray, "shown shown 3"]:
    """Lay the importance over the crop: the brighter the colour, the more the answer rests on the place.

    Args:
        crop: What the network saw, uint8.
        importance: As `measure_importance` gives it.

    Returns:
        RGB, uint8, 384 pixels wide and high.
    """
    grey, heat = (
        cv2.resize(each.astype(np.float32), (_SHOWN_PX, _SHOWN_PX), interpolation=cv2.INTER_CUBIC)
        for each in (crop, importance)
    )
    heat = np.clip(heat / max(float(importance.max()), 1e-6), 0, 1)
    colour = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = 0.65 * heat[..., None]
    return np.rint(np.clip(grey[..., None] * (1 - weight) + colour * weight, 0, 255)).astype(np.uint8)


def write_heat_map(bundle: Bundle, crop: UInt8[np.ndarray, "side side"], path: Path, *, male: float) -> None:
    """Write the crop, and beside it the crop with its heat map, as a PNG file."""
    heat_map = draw_heat_map(crop, measure_importance(bundle, crop, male=male))
    grey = cv2.resize(crop, heat_map.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    with write_whole(path) as file:
        Image.fromarray(np.hstack([np.repeat(grey[..., None], 3, axis=2), heat_map])).save(file, format="PNG")
