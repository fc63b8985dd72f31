"""Examples to train the landmark network on: radiographs with landmarks, real ones and drawings."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, UInt8

from boneage.base.errors import BoneAgeError
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.hand.landmarks import LANDMARKS_SIZE_PX, MARGIN_SHARE
from boneage.preprocessing.hand.pose import NUM_LANDMARKS
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.synthetic import draw_radiographs
from boneage.preprocessing.training_data.finger_poses import move_fingers
from boneage.preprocessing.training_data.mask_augmentation import augment_film

_DRAWN_SIZE_PX = (256, 208)


class LandmarksError(BoneAgeError):
    """A table of landmarks that cannot be used."""


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkExample:
    """A radiograph and its landmarks.

    Args:
        id: Its id.
        pixels: Contrast-normalised radiograph in true proportions, shape `(height, width)`, uint8, bright bone.
        landmarks: Points `(x, y)` in pixels, shape `(21, 2)`.
    """

    id: str
    pixels: UInt8[np.ndarray, "height width"]
    landmarks: Float[np.ndarray, "21 2"]


def read_landmark_examples(
    table: Path, *, radiographs: Path, ids: Collection[str] | None = None
) -> list[LandmarkExample]:
    """Read radiographs with landmarks.

    Args:
        table: CSV with `id,width_px,height_px` and 21 pairs of columns `<landmark>_x,<landmark>_y`, shares of width and
            height, from the wrist to the little finger's tip.
        radiographs: Folder of `<id>.png`, of any size; each is resized to the proportions of the table.
        ids: Ids to read; None reads all.

    Raises:
        LandmarksError: If the table lacks one of these columns.
    """
    frame = pd.read_csv(table, dtype={"id": str})
    across = [name for name in frame.columns if name.endswith("_x")]
    down = [f"{name[:-2]}_y" for name in across]
    if len(across) != NUM_LANDMARKS or not {"id", "width_px", "height_px", *down} <= set(frame.columns):
        raise LandmarksError(f"{table}: needs id, width_px, height_px and {NUM_LANDMARKS} pairs <landmark>_x, _y.")
    examples = []
    for row in frame.to_dict("records"):
        if ids is not None and row["id"] not in ids:
            continue
        pixels = stretch_contrast(read_radiograph(radiographs / f"{row['id']}.png").pixels)
        scale = max(pixels.shape) / max(row["width_px"], row["height_px"])
        width, height = round(row["width_px"] * scale), round(row["height_px"] * scale)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        shares = np.array([[row[x], row[y]] for x, y in zip(across, down, strict=True)])
        examples.append(LandmarkExample(str(row["id"]), pixels, shares * (width, height) - 0.5))
    return examples


def draw_landmark_examples(num_images: int, *, seed: int) -> list[LandmarkExample]:
    """Draw radiographs of left hands with their landmarks, of every age and both sexes."""
    return [
        LandmarkExample(f"drawn-{number}", stretch_contrast(drawn.pixels), drawn.landmarks)
        for number, drawn in enumerate(draw_radiographs(num_images, seed=seed, size_px=_DRAWN_SIZE_PX))
    ]


def augment_example(
    example: LandmarkExample, *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "21 2"]]:
    """Augment a hand: pose of the fingers, rotation, side and box size.

    The box of a mask ends somewhere along the forearm, so it extends beyond the landmarks by a random share on each
    side.

    Args:
        example: The radiograph.
        rng: Random generator.

    Returns:
        The square, uint8, contrast-normalised; and the landmarks as shares of its side, not always inside.
    """
    pixels, landmarks = example.pixels, example.landmarks
    if rng.random() < 0.6:
        pixels, landmarks = move_fingers(pixels, landmarks, rng=rng)
    degrees = rng.uniform(-180, 180) if rng.random() < 0.6 else rng.normal(0, 15)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([stretch * rng.choice([-1, 1]), 1 / stretch])
    points = landmarks @ linear.T
    # The forearm extends the box beyond the wrist.
    forearm = (points[0] - points[9]) * rng.uniform(0.05, 0.8)
    hand = np.concatenate([points, [points[0] + forearm]])
    low, high = hand.min(axis=0), hand.max(axis=0)
    side = float((high - low).max()) * (1 + 2 * MARGIN_SHARE) * float(np.exp(rng.uniform(-0.03, 0.15)))
    corner = (low + high - side) / 2 + rng.uniform(-0.04, 0.04, 2) * side
    scale = LANDMARKS_SIZE_PX / side
    matrix = np.column_stack([linear * scale, -corner * scale])
    source = cv2.GaussianBlur(pixels, (0, 0), max(0.3, 0.4 / scale)) if scale < 1 else pixels
    square = cv2.warpAffine(source, matrix, (LANDMARKS_SIZE_PX, LANDMARKS_SIZE_PX), flags=cv2.INTER_LINEAR)
    return augment_film(square, rng=rng), ((points - corner) / side).astype(np.float32)
