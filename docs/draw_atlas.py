"""Draw a sheet of an atlas of synthetic radiographs for the documentation.

python docs/draw_atlas.py docs/images/atlas.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import boneage
from boneage.preprocessing.synthetic import draw_radiograph

AGES_MONTHS = tuple(range(76, 139, 4))
NUM_READERS, ERROR_MONTHS = 3, 4.0


def main() -> None:
    """Read the arguments, draw the radiographs, simulate the readings, and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    rng = np.random.default_rng(0)
    rows = ["id,reader,months,sex"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "radiographs").mkdir()
        for number, age in enumerate(AGES_MONTHS):
            pixels = draw_radiograph(age, sex="female", seed=number).pixels
            Image.fromarray(pixels).save(folder / "radiographs" / f"{number}.png")
            readings = age + rng.normal(0, ERROR_MONTHS, NUM_READERS)
            rows += [f"{number},{reader},{months:.0f},female" for reader, months in enumerate(readings)]
        (folder / "readings.csv").write_text("\n".join(rows))
        boneage.reference_atlas(folder / "readings.csv", folder / "radiographs", out=folder / "atlas")
        shutil.copyfile(folder / "atlas" / "atlas-female.png", path)


if __name__ == "__main__":
    main()
