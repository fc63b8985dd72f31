"""Draw the course of a simulated girl for the documentation.

python docs/draw_follow.py docs/images/follow.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import boneage

# Chronological age, bone age, half the width of the interval, in months.
VISITS = ((84, 89, 13), (95, 103, 13), (107, 124, 14), (119, 148, 14))


def main() -> None:
    """Read the arguments, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [f"A,female,{age},{bone},{bone - half},{bone + half}\n" for age, bone, half in VISITS]
        header = "child,sex,chronological_age_months,bone_age_months,low_months,high_months\n"
        (folder / "visits.csv").write_text("".join([header, *rows]))
        boneage.follow(folder / "visits.csv", out=folder / "course")
        shutil.copyfile(folder / "course" / "child-1.png", path)


if __name__ == "__main__":
    main()
