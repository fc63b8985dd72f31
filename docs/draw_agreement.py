"""Draw the figure of a study for the documentation: three simulated readers and a simulated model.

python docs/draw_agreement.py docs/images/agreement.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

import boneage

NUM_RADIOGRAPHS = 120
# Bias and error in months.
READERS = {"A": (0.0, 7.0), "B": (4.0, 8.0), "C": (-3.0, 6.0)}
MODEL_ERROR_MONTHS = 5.0


def main() -> None:
    """Read the arguments, simulate the readings, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, NUM_RADIOGRAPHS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            f"{number},{reader},{months + rng.normal(bias, error):.1f}\n"
            for reader, (bias, error) in READERS.items()
            for number, months in enumerate(truth)
        ]
        (folder / "readings.csv").write_text("".join(["id,reader,months\n", *rows]))
        answers = [
            f"{n},{months:.1f}\n" for n, months in enumerate(truth + rng.normal(0, MODEL_ERROR_MONTHS, len(truth)))
        ]
        (folder / "model.csv").write_text("".join(["id,months\n", *answers]))
        boneage.agree(folder / "readings.csv", model=folder / "model.csv", out=folder / "study")
        shutil.copyfile(folder / "study" / "agreement.png", path)


if __name__ == "__main__":
    main()
