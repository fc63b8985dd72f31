"""Transformations of radiographs that should not change a bone age: those of a published study, and those of films.

The first are the 33 of Santomartino et al. 2024, doi:10.1148/ryai.230240. What the paper leaves open is assumed: the
grid of brightness is that of contrast, a resolution is that of the longer side, and the marker is a white letter L in
the upper left corner. The others are what scanners, viewers and vendors do to a film.

Every transformation takes and returns pixels of shape `(height, width)`, uint8 or uint16, bright bone.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

Pixels = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
Change = Callable[[Pixels], Pixels]

PUBLISHED, OWN = "Santomartino 2024", "film"
"""Where a transformation is from."""
_FACTORS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9)
_SIDES_PX = (32, 64, 128, 256, 512, 1024)
# A screen of 16:9, with the panels of a viewer in dark grey and its text in light grey, as shares of white.
_SCREEN_SHARE, _PANEL_GREY, _TEXT_GREY = 16 / 9, 0.18, 0.75


@dataclass(frozen=True)
class Transformation:
    """A transformation.

    Args:
        family: What it belongs to, such as `contrast`.
        source: `PUBLISHED` or `OWN`.
        change: From pixels to pixels.
    """

    family: str
    source: str
    change: Change


def find_white(pixels: Pixels) -> int:
    """Return the largest grey value that the bit depth allows: 255, or of uint16 that of the bits in use."""
    return 255 if pixels.dtype == np.uint8 else (1 << max(8, int(pixels.max(initial=0)).bit_length())) - 1


def scale_contrast(pixels: Pixels, factor: float) -> Pixels:
    """Scale the distance of each grey value from their mean, as Pillow's `ImageEnhance.Contrast` does."""
    mean = int(pixels.mean() + 0.5)
    return _truncate(mean + factor * (pixels.astype(np.float32) - mean), pixels)


def scale_brightness(pixels: Pixels, factor: float) -> Pixels:
    """Scale each grey value, as Pillow's `ImageEnhance.Brightness` does."""
    return _truncate(factor * pixels.astype(np.float32), pixels)


def set_resolution(pixels: Pixels, longer_side_px: int) -> Pixels:
    """Resize a picture to a length of its longer side, proportions kept."""
    return scale(pixels, longer_side_px / max(pixels.shape))


def scale(pixels: Pixels, factor: float) -> Pixels:
    """Resize a picture: by area averaging where it shrinks, else linearly."""
    height, width = (max(1, round(side * factor)) for side in pixels.shape)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return _same(cv2.resize(pixels, (width, height), interpolation=interpolation), pixels)


def rotate(pixels: Pixels, quarters: int) -> Pixels:
    """Rotate by quarters of a turn, counter-clockwise."""
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def invert(pixels: Pixels) -> Pixels:
    """Swap black and white."""
    return (find_white(pixels) - pixels.astype(np.int32)).astype(pixels.dtype)


def add_marker(pixels: Pixels) -> Pixels:
    """Draw a white letter L, a twelfth of the height, in the upper left corner."""
    height = max(3, round(pixels.shape[0] / 12))
    text = ("L", height // 2, height + height // 2)
    return _write(pixels, text, height_px=height, thickness_px=max(1, round(height / 8)), share=1.0)


def cut_edge(pixels: Pixels, num_px: int) -> Pixels:
    """Cut rows off the top and columns off the left."""
    return np.ascontiguousarray(pixels[num_px:, num_px:])


def add_black_border(pixels: Pixels, share: float) -> Pixels:
    """Add a black border: `share` of the height and of the width, half of it on each side."""
    rows, columns = (round(side * share / 2) for side in pixels.shape)
    bordered = cv2.copyMakeBorder(pixels, rows, rows, columns, columns, cv2.BORDER_CONSTANT, value=(0,))
    return _same(bordered, pixels)


def add_noise(pixels: Pixels, share: float) -> Pixels:
    """Add normal noise whose standard deviation is a share of white; the same for pictures of one size."""
    noise = np.random.default_rng(pixels.size).normal(0.0, find_white(pixels) * share, pixels.shape)
    return _round(pixels + noise, pixels)


def apply_gamma(pixels: Pixels, exponent: float) -> Pixels:
    """Raise each grey value, as a share of white, to a power."""
    white = float(find_white(pixels))
    return _round(white * (pixels / white) ** exponent, pixels)


def equalise(pixels: Pixels, limit: float) -> Pixels:
    """Equalise the local contrast (CLAHE) on 8 x 8 tiles, in 8 bits."""
    white = find_white(pixels)
    grey = pixels if pixels.dtype == np.uint8 else (pixels * (255.0 / white)).round().astype(np.uint8)
    equalised = cv2.createCLAHE(clipLimit=limit, tileGridSize=(8, 8)).apply(grey)
    return _round(equalised * (white / 255.0), pixels)


def sharpen(pixels: Pixels) -> Pixels:
    """Apply an unsharp mask: radius 2 px, strength 1."""
    grey = pixels.astype(np.float32)
    return _round(2 * grey - cv2.GaussianBlur(grey, (0, 0), 2.0), pixels)


def burn_out(pixels: Pixels, percentile: float) -> Pixels:
    """Clip the brightest grey values, above a percentile, to white, and stretch the rest."""
    brightest = max(1.0, float(np.percentile(pixels, percentile)))
    return _round(pixels * (find_white(pixels) / brightest), pixels)


def show_in_viewer(pixels: Pixels) -> Pixels:
    """Draw the film as on the wide screen of a viewer: black beside it, a menu above, a panel of text on the left."""
    white, (height, width) = find_white(pixels), pixels.shape
    bar = max(2, round(0.05 * height))
    screen_height = height + 2 * bar
    screen_width = max(round(screen_height * _SCREEN_SHARE), 2 * width)
    screen = np.zeros((screen_height, screen_width), pixels.dtype)
    panel = round(0.15 * screen_width)
    screen[:bar] = screen[:, :panel] = round(_PANEL_GREY * white)
    lines = [("File  View  Tools  Help", bar // 2, round(0.75 * bar))]
    lines += [(text, bar // 4, (3 + 2 * row) * bar) for row, text in enumerate(("HAND PA", "W 4095", "L 2047", "1/1"))]
    for line in lines:
        height_px, thickness_px = max(3, round(0.45 * bar)), max(1, round(bar / 10))
        screen = _write(screen, line, height_px=height_px, thickness_px=thickness_px, share=_TEXT_GREY)
    left = panel + (screen_width - panel - width) // 2
    screen[bar : bar + height, left : left + width] = pixels
    return screen


def _write(pixels: Pixels, line: tuple[str, int, int], *, height_px: int, thickness_px: int, share: float) -> Pixels:
    """Write a line of text; OpenCV does so in 8 bits alone.

    Args:
        pixels: The picture.
        line: The text, and its left and lower end in pixels.
        height_px: Height of its capitals.
        thickness_px: Thickness of its strokes.
        share: Its grey, as a share of white.
    """
    text, left, bottom = line
    ink = np.zeros(pixels.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    size = cv2.getFontScaleFromHeight(font, height_px, thickness_px)
    cv2.putText(ink, text, (left, bottom), font, size, (255,), thickness_px, cv2.LINE_AA)
    opacity = ink / 255.0
    return _round(pixels * (1 - opacity) + share * find_white(pixels) * opacity, pixels)


def _truncate(grey: np.ndarray, pixels: Pixels) -> Pixels:
    """Clip grey values to the range of the pixels that they are made of, and cut their fractions off."""
    cut: Pixels = np.clip(grey, 0, find_white(pixels)).astype(pixels.dtype)
    return cut


def _round(grey: np.ndarray, pixels: Pixels) -> Pixels:
    """Clip grey values to the range of the pixels that they are made of, and round them."""
    rounded: Pixels = np.clip(grey, 0, find_white(pixels)).round().astype(pixels.dtype)
    return rounded


def _same(changed: np.ndarray, pixels: Pixels) -> Pixels:
    return changed.astype(pixels.dtype, copy=False)


def _of(family: str, source: str, changes: dict[str, Change]) -> dict[str, Transformation]:
    return {name: Transformation(family, source, change) for name, change in changes.items()}


def _grid(word: str, function: Callable[..., Pixels], values: tuple[float, ...]) -> dict[str, Change]:
    return {word.format(value): _bind(function, value) for value in values}


def _bind(function: Callable[..., Pixels], value: float) -> Change:
    return lambda pixels: function(pixels, value)


TRANSFORMATIONS: dict[str, Transformation] = {
    **_of("contrast", PUBLISHED, _grid("contrast x {:g}", scale_contrast, _FACTORS)),
    **_of("brightness", PUBLISHED, _grid("brightness x {:g}", scale_brightness, _FACTORS)),
    **_of("resolution", PUBLISHED, _grid("{:g} px", set_resolution, _SIDES_PX)),
    **_of(
        "rotation",
        PUBLISHED,
        {f"rotated by {90 * quarters} degrees": functools.partial(rotate, quarters=quarters) for quarters in (1, 2, 3)},
    ),
    **_of("inversion", PUBLISHED, {"inverted": invert}),
    **_of(
        "flip",
        PUBLISHED,
        {
            "flipped left to right": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
            "flipped top to bottom": lambda pixels: np.ascontiguousarray(pixels[::-1]),
        },
    ),
    **_of("marker", PUBLISHED, {"laterality marker": add_marker}),
    **_of(
        "film edge",
        OWN,
        {
            "a row, a column cut": functools.partial(cut_edge, num_px=1),
            "black border of 5%": functools.partial(add_black_border, share=0.05),
            "black border of 40%": functools.partial(add_black_border, share=0.4),
        },
    ),
    **_of("noise", OWN, {f"noise of {percent}%": _bind(add_noise, percent / 100) for percent in (2, 4, 8)}),
    **_of("gamma", OWN, _grid("gamma {:g}", apply_gamma, (0.6, 1.6))),
    **_of("local contrast", OWN, _grid("CLAHE {:g}", equalise, (2.0, 4.0))),
    **_of("sharpening", OWN, {"unsharp mask": sharpen}),
    **_of("clipped bone", OWN, {"brightest 10% clipped": functools.partial(burn_out, percentile=90.0)}),
    **_of("screenshot", OWN, {"screenshot of a viewer": show_in_viewer}),
}
"""The transformations by name, the published ones first."""
