"""Draw a growth reference of simulated children, and its comparison with the packaged one, for the documentation.

python docs/draw_reference.py docs/images/reference.png docs/images/comparison.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

import boneage

NUM_CHILDREN = 1200
AGES_MONTHS = {"female": (36, 180), "male": (36, 198)}


def main() -> None:
    """Read the arguments, simulate the children, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    parser.add_argument("comparison", type=Path, metavar="COMPARISON", help="the PNG file of the comparison")
    paths = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    for sex, ends in AGES_MONTHS.items():
        for age in rng.uniform(*ends, NUM_CHILDREN):
            bone_age = 1.03 * age + rng.normal(0, 4 + 0.05 * age)
            rows.append(f"{sex},{age:.1f},{bone_age:.1f}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "children.csv").write_text("".join(["sex,chronological_age_months,bone_age_months\n", *rows]))
        boneage.reference_fit(folder / "children.csv", out=folder / "ours.csv")
        boneage.reference_compare("brush_foundation", folder / "ours.csv", out=folder)
        shutil.copyfile(folder / "ours.png", paths.out)
        shutil.copyfile(folder / "comparison.png", paths.comparison)


if __name__ == "__main__":
    main()
