"""Write drawn radiographs in the layout of the RSNA 2017 bone age download."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from boneage.base.files import write_text
from boneage.preprocessing.synthetic.draw import SyntheticRadiograph, draw_radiograph

IMAGE_FOLDER = "boneage-training-dataset"
TABLE_FILE = "boneage-training-dataset.csv"

# Bone age at shares of the RSNA 2017 training set: 1-228 months, more than half within 10-15 years
# (the data of Halabi et al. 2019, doi:10.1148/radiol.2018180736).
_SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_AGES_MONTHS = (1, 24, 50, 96, 132, 156, 186, 204, 228)
_SHARE_OF_BOYS = 0.54


def draw_radiographs(num_images: int, *, seed: int, size_px: tuple[int, int]) -> Iterator[SyntheticRadiograph]:
    """Draw radiographs of left hands, ages uniform, of both sexes.

    Args:
        num_images: Number of radiographs.
        seed: Random seed; the same arguments give the same drawings.
        size_px: (height, width) of each in pixels.
    """
    rng = np.random.default_rng(seed)
    for _ in range(num_images):
        yield draw_radiograph(
            float(rng.uniform(6, 228)),
            sex=str(rng.choice(["female", "male"])),
            seed=int(rng.integers(2**31)),
            size_px=size_px,
        )


def write_dataset(folder: str | Path, *, num_images: int, seed: int, size_px: tuple[int, int] = (640, 512)) -> None:
    """Write radiographs and their table as in the RSNA download.

    The tree is `boneage-training-dataset/<id>.png` and `boneage-training-dataset.csv` with the columns
    `id,boneage,male`. The table is written last and in one step: a folder that has it is complete.

    Args:
        folder: Folder of the tree; created if missing.
        num_images: Number of radiographs, 1 or more.
        seed: Random seed, 0 or more; the same arguments give the same files.
        size_px: (height, width) of each image in pixels.

    Raises:
        ValueError: If an argument is out of range.
    """
    if num_images < 1:
        raise ValueError(f"`num_images` must be 1 or more. Received: num_images={num_images}.")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Received: seed={seed}.")
    folder, rng = Path(folder), np.random.default_rng(seed)
    # Stratified sampling: even a small data set covers all ages and both sexes.
    shares = (np.arange(num_images) + rng.uniform(size=num_images)) / num_images
    ages_months = np.round(np.interp(shares, _SHARES, _AGES_MONTHS)).astype(int)
    is_male = (np.arange(num_images) * _SHARE_OF_BOYS) % 1 < _SHARE_OF_BOYS
    order = rng.permutation(num_images)
    (folder / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    rows = [("id", "boneage", "male")]
    for number, index in enumerate(order, start=1):
        age_months, male = int(ages_months[index]), bool(is_male[index])
        radiograph = draw_radiograph(
            age_months,
            sex="male" if male else "female",
            seed=int(rng.integers(2**31)),
            size_px=size_px,
        )
        _, encoded = cv2.imencode(".png", radiograph.pixels)
        (folder / IMAGE_FOLDER / f"{number}.png").write_bytes(encoded.tobytes())
        rows.append((str(number), str(age_months), str(male)))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_text(folder / TABLE_FILE, table.getvalue())
