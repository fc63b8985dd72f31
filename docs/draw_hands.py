"""Draw the picture of the hand stage for the README: radiograph, mask and crop of six hard synthetic radiographs.

python docs/draw_hands.py docs/images/hands.png
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.process import process
from boneage.preprocessing.synthetic import draw_radiograph

CASES: dict[str, tuple[int, float, str, float, Callable[[np.ndarray], np.ndarray]]] = {
    # age in months, seed, side and angle of the drawing, and the change of its pixels
    "rotated": (168, 11, "left", 135.0, lambda pixels: pixels),
    "right hand": (120, 12, "right", -40.0, lambda pixels: pixels),
    "inverted": (96, 13, "left", 15.0, lambda pixels: 255 - pixels),
    "framed": (60, 14, "left", -20.0, lambda pixels: _frame(pixels)),
    "dim and noisy": (190, 15, "left", 5.0, lambda pixels: _dim(pixels)),
    "64 pixels": (36, 16, "left", 90.0, lambda pixels: cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_NEAREST)),
}


def _frame(pixels: np.ndarray) -> np.ndarray:
    for level in (15, 240, 60):
        pixels = cv2.copyMakeBorder(pixels, *[24] * 4, cv2.BORDER_CONSTANT, value=(level,))
    return pixels


def _dim(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2.5, pixels.shape)
    return np.clip(pixels * 0.12 + 6 + noise, 0, 255).astype(np.uint8)


def main() -> None:
    """Read the arguments and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG file to write")
    path = parser.parse_args().out
    figure = Figure(figsize=(13, 6.8), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(CASES))
    for column, (name, (months, seed, side, angle, change)) in enumerate(CASES.items()):
        drawn = draw_radiograph(months, sex="female", seed=seed, size_px=(512, 512), angle_degrees=angle, side=side)
        pixels = change(drawn.pixels)
        radiograph = Radiograph(pixels, None, None, None, None, "0" * 64)
        prepared = process(radiograph, PreprocessingConfig(image_size_px=384))
        pictures = (pixels, prepared.hand.segmentation.mask, prepared.image)
        for axis, picture in zip(axes[:, column], pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.dtype == bool else 255)
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(name)
    for axis, label in zip(axes[:, 0], ("radiograph", "mask", "crop"), strict=True):
        axis.set_ylabel(label, fontsize=13)
    figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
