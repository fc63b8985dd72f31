"""Draw the heights of simulated children for the documentation, by tables of round numbers that are nobody's.

python docs/draw_height.py docs/images/height.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import boneage

# Name, sex, height in cm, bone age in months, half the width of its interval, heights of mother and father in cm.
CHILDREN = (
    ("A", "male", 138, 126, 12, 165, 178),
    ("B", "male", 151, 150, 13, 160, 172),
    ("C", "male", 149, 138, 11, 172, 185),
    ("D", "female", 131, 114, 12, 158, 171),
    ("E", "female", 146, 126, 13, 170, 180),
    ("F", "female", 142, 132, 14, 155, 168),
)
# Percent of adult height at 8 and at 14 years of bone age.
PERCENTS = {"male": (70, 90), "female": (78, 98)}


def main() -> None:
    """Read the arguments, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            f"{child},{sex},{height},{bone},{bone - half},{bone + half},average,{mother},{father}\n"
            for child, sex, height, bone, half, mother, father in CHILDREN
        ]
        header = "child,sex,height_cm,bone_age_months,low_months,high_months,maturation,mother_cm,father_cm\n"
        (folder / "children.csv").write_text("".join([header, *rows]))
        percents = [
            f"{sex},average,{bone_age},{percent}\n"
            for sex, ends in PERCENTS.items()
            for bone_age, percent in zip((96, 168), ends, strict=True)
        ]
        (folder / "tables.csv").write_text(
            "".join(["sex,maturation,bone_age_months,percent_of_adult_height\n", *percents])
        )
        boneage.height(folder / "children.csv", tables=folder / "tables.csv", out=folder / "heights")
        shutil.copyfile(folder / "heights" / "height-1.png", path)


if __name__ == "__main__":
    main()
