"""Radiographs with hand masks to train segmenters on: reading them, dividing them, and measuring masks against them.

A radiograph is divided from the others before it is augmented, never after: copies of one image on both sides of a
split measure memory, not skill.
"""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from preprocessing.contrast import stretch_contrast
from preprocessing.crop import bounding_box
from preprocessing.listing import list_files
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_text

# Hands are kept no longer than this, in pixels; a network, which looks at small hands closer, sees at most half of it.
_KEPT_HAND_PX = 512
_FOLDS_FILE = "folds.csv"


class MaskPairsError(BoneAgeError):
    """Radiographs and masks that do not belong together."""


@dataclasses.dataclass(frozen=True, eq=False)
class MaskPair:
    """A radiograph and the true mask of its hand.

    Args:
        name: File name within the folder, with `/` between folders.
        pixels: Contrast-normalised radiograph, shape `(height, width)`, uint8, bright bone.
        mask: True on hand, wrist and visible forearm, shape `(height, width)`.
    """

    name: str
    pixels: UInt8[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]


def read_mask_pairs(radiographs: Path, *, masks: Path, max_hand_px: int = _KEPT_HAND_PX) -> list[MaskPair]:
    """Read all masks of a folder and the radiographs of the same names.

    Args:
        radiographs: Folder of radiographs; those without a mask are passed over.
        masks: Folder of masks with the same relative file names; 255 is hand, 0 is not.
        max_hand_px: Longer side of the hand to shrink both to, in pixels.

    Returns:
        The pairs, in the order of their names.

    Raises:
        MaskPairsError: If there is no mask, or a mask has no radiograph, another size, or no hand.
    """
    pairs = []
    for path, name in list_files(masks)[0]:
        if path.suffix.lower() != ".png":
            continue
        if not (radiographs / name).exists():
            raise MaskPairsError(f"{path}: no radiograph {radiographs / name}; masks are named like their radiographs.")
        try:
            pixels = stretch_contrast(read_radiograph(radiographs / name).pixels)
            mask = read_radiograph(path).pixels > 127
        except UnreadableImage as error:
            raise MaskPairsError(str(error)) from error
        if mask.shape != pixels.shape:
            raise MaskPairsError(f"{path}: {mask.shape} pixels, its radiograph {pixels.shape}; draw the mask again.")
        if not mask.any():
            raise MaskPairsError(f"{path}: shows no hand; a mask is 255 on the hand and 0 elsewhere.")
        left, top, right, bottom = bounding_box(mask)
        scale = min(1.0, max_hand_px / max(right - left, bottom - top))
        if scale < 1:
            size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        pairs.append(MaskPair(name, pixels, mask))
    if not pairs:
        raise MaskPairsError(f"{masks}: no PNG masks here; name the folder that holds them.")
    return pairs


def divide(pairs: list[MaskPair], *, num_folds: int, seed: int) -> list[list[MaskPair]]:
    """Divide pairs into folds by image, evenly and as if shuffled.

    Raises:
        ValueError: If there are fewer pairs than folds, or fewer than two folds.
    """
    if not 2 <= num_folds <= len(pairs):
        raise ValueError(f"`num_folds` must lie in [2, {len(pairs)}]. Received: num_folds={num_folds}.")
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [[pairs[index] for index in sorted(order[fold::num_folds])] for fold in range(num_folds)]


def write_folds(folds: list[list[MaskPair]], out: Path) -> None:
    """Write `folds.csv`: which fold each radiograph belongs to, so that nobody measures a network on what it saw.

    Raises:
        MaskPairsError: If another division is there already: networks that belong to it lie beside it.
    """
    rows = [{"file": pair.name, "fold": number} for number, fold in enumerate(folds) for pair in fold]
    text = pd.DataFrame(rows).to_csv(index=False)
    path = out / _FOLDS_FILE
    if path.exists() and path.read_text() != text:
        raise MaskPairsError(f"{path}: of other masks or another number of folds; choose another folder by --out.")
    write_text(path, text)


def read_folds(folder: Path, pairs: list[MaskPair]) -> list[list[MaskPair]]:
    """Divide pairs into the folds that `write_folds` wrote.

    Raises:
        MaskPairsError: If a pair is in no fold.
    """
    numbers = pd.read_csv(folder / _FOLDS_FILE, dtype={"file": str}).set_index("file").fold
    if missing := [pair.name for pair in pairs if pair.name not in numbers.index]:
        raise MaskPairsError(f"{folder / _FOLDS_FILE}: {missing[0]} is in no fold; give the masks that were divided.")
    return [[pair for pair in pairs if numbers[pair.name] == fold] for fold in range(numbers.max() + 1)]


def score_mask(mask: Bool[np.ndarray, "height width"], *, truth: Bool[np.ndarray, "height width"]) -> dict[str, float]:
    """Compare a mask with the true one, pixel by pixel.

    Args:
        mask: The mask found.
        truth: The true mask, not empty.

    Returns:
        `dice` (the F1 score of pixels), `iou`, `pixel_accuracy`, `precision` (0 if nothing was found) and `recall`,
        each in [0, 1].
    """
    both, found, true = int((mask & truth).sum()), int(mask.sum()), int(truth.sum())
    return {
        "dice": 2 * both / (found + true),
        "iou": both / (found + true - both),
        "pixel_accuracy": float((mask == truth).mean()),
        "precision": both / found if found else 0.0,
        "recall": both / true,
    }
