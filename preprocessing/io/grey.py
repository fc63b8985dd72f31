"""Tell a radiograph that is stored in colour from a photograph, and take its grey channel.

A radiograph in colour is grey in all but name, toned in one colour like an old film, or annotated in colours. In a
toned film the colour follows from the brightness. In a photograph the same brightness has many colours.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8, UInt16

from boneage.preprocessing.io.radiograph import UnreadableImageError

# JPEG stores colour differences coarsely, so a grey image saved in colour comes back with channels a few levels apart;
# a radiograph may also carry a small coloured mark. A photograph differs by more, over most of its area.
_COLOURED_LEVELS = 16 / 255
_COLOURED_SHARE = 0.01
# Annotations leave half of the frame grey; whether one hides the hand, its mask tells later.
_ANNOTATED_SHARE = 0.5

# Noise of scanners and of JPEG averages out in a copy of this size; the colours of skin do not.
_TONE_SIZE_PX = 256
# Share of the coloured pixels that follow the tone; the others may be labels.
_TONED_SHARE = 0.85
# How far colours may lie off the tone. Skin is 5.5 to 8 of 255 levels off the tone that fits it best, toned radiographs
# with noise of 6 levels or JPEG of quality 60 at most 3.5.
_TONE_LEVELS, _BROWN_TONE_LEVELS = 8 / 255, 4 / 255
# A tone colours every level of a range; a label has one brightness, and a photograph a grey background.
_TONE_RANGE = 0.08
# Green as a share of red: 0.89 in sepia, 0.6 to 0.85 in skin.
_MIN_GREEN_OF_RED = 0.86


@dataclass(frozen=True, eq=False)
class GreyImage:
    """The grey values of an image stored in colour.

    Attributes:
        pixels: Shape `(height, width)`, of the dtype of the colours.
        coloured: Where the image is neither grey nor of the tone of its film, shape `(height, width)`; None where that
            is a trace at most.
    """

    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
    coloured: Bool[np.ndarray, "height width"] | None


def to_grey(channels: Shaped[np.ndarray, "height width 3"], *, maximum: int, path: Path) -> GreyImage:
    """Take the grey values of an image stored as RGB.

    Args:
        channels: Red, green and blue, uint8 or uint16.
        maximum: Largest value of a channel.
        path: Name used in the error message.

    Raises:
        UnreadableImageError: If it is a colour photograph.
    """
    coloured = _spread(channels) > _COLOURED_LEVELS * maximum
    if np.mean(coloured) <= _COLOURED_SHARE:
        return GreyImage(channels[..., 1].copy(), None)
    grey = channels[..., 1].copy()
    if (tone := _find_tone(channels, maximum=maximum)) is not None:
        brightness = channels.sum(axis=2, dtype=np.uint32)
        grey = (brightness // 3).astype(channels.dtype)
        curve = np.polynomial.polynomial.polyval(np.arange(3 * maximum + 1) / (3 * maximum), tone.T)
        coloured = np.zeros(grey.shape, bool)
        for channel, expected in zip(np.moveaxis(channels, 2, 0), maximum * curve, strict=True):
            coloured |= np.abs(channel - expected.astype(np.float32)[brightness]) > _COLOURED_LEVELS * maximum
    share = np.mean(coloured)
    if share > _ANNOTATED_SHARE:
        raise UnreadableImageError(
            f"{path} is a colour photograph; give the radiograph itself (a tinted one: saved as greyscale).",
            reason="not_a_radiograph",
        )
    return GreyImage(grey, coloured if share > _COLOURED_SHARE else None)


def _spread(channels: Shaped[np.ndarray, "... 3"]) -> Shaped[np.ndarray, "..."]:
    spread: np.ndarray = channels.max(axis=-1) - channels.min(axis=-1)
    return spread


def _find_tone(
    channels: Shaped[np.ndarray, "height width 3"], *, maximum: int
) -> Float[np.ndarray, "3 coefficients"] | None:
    """Fit each channel as a cubic of the brightness; None where the colours do not follow from it, or are skin's."""
    share = min(1.0, _TONE_SIZE_PX / max(channels.shape[:2]))
    size = tuple(max(1, round(side * share)) for side in channels.shape[1::-1])
    small = cv2.resize(channels, size, interpolation=cv2.INTER_AREA).reshape(-1, 3) / maximum
    brightness = small.mean(axis=1)
    is_coloured = _spread(small) > _COLOURED_LEVELS
    if not is_coloured.any():
        return None
    darkest, brightest = np.quantile(brightness[is_coloured], (0.05, 0.95))
    between = (brightness >= darkest) & (brightness <= brightest)
    if brightest - darkest < _TONE_RANGE or np.mean(is_coloured[between]) < _TONED_SHARE:
        return None
    powers = np.stack([brightness**power for power in range(4)], axis=1)
    follows = np.ones(len(small), bool)
    for _ in range(3):  # The first fit includes labels, the next ones less and less of them.
        coefficients = np.linalg.lstsq(powers[follows], small[follows], rcond=None)[0]
        distance = np.abs(small - powers @ coefficients).max(axis=1)
        follows = distance <= np.quantile(distance, _TONED_SHARE)
    red, green, blue = small[is_coloured & follows].mean(axis=0) if (is_coloured & follows).any() else np.zeros(3)
    is_brown = red > max(green, blue)
    limit = _BROWN_TONE_LEVELS if is_brown else _TONE_LEVELS
    if (is_brown and green < _MIN_GREEN_OF_RED * red) or np.quantile(distance[is_coloured], _TONED_SHARE) > limit:
        return None
    tone: np.ndarray = coefficients.T
    return tone
