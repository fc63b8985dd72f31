"""Draw the picture of synthetic radiographs for the documentation: six ages, girls above, boys below.

python docs/draw_synthetic.py docs/images/synthetic.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from boneage.preprocessing.synthetic import draw_radiograph

AGES_MONTHS = (12, 36, 72, 108, 144, 204)
FIRST_SEED = 11
SIZE_PX = (300, 232)


def main() -> None:
    """Read the arguments and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    rows = [
        [
            draw_radiograph(months, sex=sex, seed=seed, size_px=SIZE_PX).pixels
            for seed, months in enumerate(AGES_MONTHS, start=FIRST_SEED)
        ]
        for sex in ("female", "male")
    ]
    _, png = cv2.imencode(".png", np.block(rows))
    path.write_bytes(png.tobytes())


if __name__ == "__main__":
    main()
