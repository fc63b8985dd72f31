"""Draw the errors of two simulated predictions of adult height for the documentation.

python docs/draw_outcomes.py docs/images/outcomes.png
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

import boneage

NUM_CHILDREN, NUM_RADIOGRAPHS = 150, 2
# Adult height in cm, and the ages in years at which radiographs are taken, by sex.
SEXES = {"female": (165, 8, 16), "male": (178, 10, 18)}
# Errors of the growth potential, in percent.
METHODS = {"A": 1.4, "B": 1.1}


def main() -> None:
    """Read the arguments, simulate the children, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    rng = np.random.default_rng(0)
    rows = []
    for sex, (middle, first, last) in SEXES.items():
        for child in range(NUM_CHILDREN):
            final = rng.normal(middle, 6)
            for age in rng.uniform(first, last, NUM_RADIOGRAPHS):
                potential = 2.5 * (last - age)
                height = final * (1 - potential / 100)
                answers = [height / (1 - (potential + rng.normal(0, error)) / 100) for error in METHODS.values()]
                texts = (f"{number:.1f}" for number in (12 * age, height, final, *answers))
                rows.append(",".join([f"{sex}-{child}", sex, *texts]))
    header = f"child,sex,age_months,height_cm,final_height_cm,{','.join(f'predicted_{name}_cm' for name in METHODS)}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cohort.csv").write_text("\n".join([header, *rows]))
        boneage.outcomes(folder / "cohort.csv", out=folder / "outcomes")
        shutil.copyfile(folder / "outcomes" / "outcomes.png", path)


if __name__ == "__main__":
    main()
