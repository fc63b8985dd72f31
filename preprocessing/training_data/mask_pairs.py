"""Pairs of radiograph and hand mask: read them, split them into folds, and score masks against them.

Split before augmenting: augmented copies of one image must not be in two folds.
"""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_text
from boneage.base.spreadsheets import format_frame
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.sources.listing import list_files

# Longer side of a hand in pixels; networks, which see close-ups of small hands, use at most half of it.
_MAX_HAND_PX = 512
_FOLDS_FILE = "folds.csv"


class MaskPairsError(BoneAgeError):
    """Radiographs and masks that do not match."""


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


def read_mask_pairs(radiographs: Path, *, masks: Path, max_hand_px: int = _MAX_HAND_PX) -> list[MaskPair]:
    """Read all masks of a folder and the radiographs of the same names.

    Args:
        radiographs: Folder of radiographs; those without a mask are ignored.
        masks: Folder of masks with the same relative file names; 255 on the hand, 0 elsewhere.
        max_hand_px: Longer side of a hand in pixels, to which pairs with larger hands are downscaled.

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
            raise MaskPairsError(f"{path}: no radiograph {radiographs / name}; name masks like their radiographs.")
        try:
            pixels = stretch_contrast(read_radiograph(radiographs / name).pixels)
            mask = read_radiograph(path).pixels > 127
        except UnreadableImageError as error:
            raise MaskPairsError(str(error)) from error
        if mask.shape != pixels.shape:
            raise MaskPairsError(
                f"{path}: shape {mask.shape} differs from its radiograph's {pixels.shape}; redraw the mask."
            )
        if not mask.any():
            raise MaskPairsError(f"{path}: empty mask; a mask must be 255 on the hand and 0 elsewhere.")
        left, top, right, bottom = bounding_box(mask)
        scale = min(1.0, max_hand_px / max(right - left, bottom - top))
        if scale < 1:
            size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        pairs.append(MaskPair(name, pixels, mask))
    if not pairs:
        raise MaskPairsError(f"{masks}: contains no PNG masks; give the folder that contains them.")
    return pairs


def split_into_folds(pairs: list[MaskPair], *, num_folds: int, seed: int) -> list[list[MaskPair]]:
    """Split pairs into folds at random, by image and of equal size.

    Raises:
        ValueError: If there are fewer pairs than folds, or fewer than two folds.
    """
    if not 2 <= num_folds <= len(pairs):
        raise ValueError(f"`num_folds` must lie in [2, {len(pairs)}]. Received: num_folds={num_folds}.")
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [[pairs[index] for index in sorted(order[fold::num_folds])] for fold in range(num_folds)]


def write_folds(folds: list[list[MaskPair]], out: Path) -> None:
    """Write `folds.csv`, the fold of each radiograph, so that a network is never evaluated on its training images.

    Raises:
        MaskPairsError: If the file exists with other folds, to which the networks beside it belong.
    """
    rows = [{"file": pair.name, "fold": number} for number, fold in enumerate(folds) for pair in fold]
    text = format_frame(pd.DataFrame(rows))
    path = out / _FOLDS_FILE
    if path.exists() and path.read_text() != text:
        raise MaskPairsError(
            f"{path}: written for other masks or another number of folds; choose another folder with --out."
        )
    write_text(path, text)


def read_folds(folder: Path, pairs: list[MaskPair]) -> list[list[MaskPair]]:
    """Split pairs into the folds that `write_folds` wrote.

    Raises:
        MaskPairsError: If a pair is in no fold.
    """
    numbers = pd.read_csv(folder / _FOLDS_FILE, dtype={"file": str}).set_index("file").fold
    if missing := [pair.name for pair in pairs if pair.name not in numbers.index]:
        raise MaskPairsError(
            f"{folder / _FOLDS_FILE}: {missing[0]} is in no fold; pass the masks that the folds were made from."
        )
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
