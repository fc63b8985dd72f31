"""The image of a reading for an archive: the radiograph with its outline, the crop, and the result as text."""

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from boneage.inference.drawing import outline_hand
from boneage.inference.messages import format_age
from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports.wording import NOTICE, VERSION, format_hand, format_interval, list_lines, list_warnings
from boneage.preprocessing.io.radiograph import Radiograph

_HEIGHT_PX = 1024
_CROP_PX, _LEAST_CROP_PX = 512, 192
_GAP_PX = 24
_WHITE, _GREY, _AMBER = (255, 255, 255), (190, 190, 190), (255, 190, 60)


def draw_report(radiograph: Radiograph, reading: Reading, *, reader: Reader) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a reading.

    Args:
        radiograph: The radiograph.
        reading: Its reading.
        reader: The reader.

    Returns:
        The image, uint8, channels red, green, blue; 1024 pixels high, or more for long texts.
    """
    picture = cv2.cvtColor(outline_hand(radiograph, reading.hand, max_size_px=_HEIGHT_PX), cv2.COLOR_BGR2RGB)
    outlined = ImageOps.contain(Image.fromarray(picture), (_HEIGHT_PX, _HEIGHT_PX))
    left = outlined.width + _GAP_PX
    months = max(reading.bone_age_months, 0.0)
    lines = [
        (format_hand(reading), 28, _WHITE),
        (f"Bone age {months:.1f} months", 36, _WHITE),
        (format_age(months), 28, _WHITE),
        (format_interval(reading, reader=reader), 22, _WHITE),
        *((line, 16, _WHITE) for line in list_lines(reading, reader=reader, with_age=True)),
        *((warning, 18, _AMBER) for warning in list_warnings(reading)),
        (NOTICE, 22, _AMBER),
        (f"boneage {VERSION}, model {reader.info.label}", 16, _GREY),
    ]
    written = [(_wrap(text, size_px), size_px, colour) for text, size_px, colour in lines]
    text_px = sum(len(parts) * _step(size_px) for parts, size_px, _ in written)
    # Many warnings take room from the crop, and then below it: nothing is cut off.
    crop_px = min(max(_HEIGHT_PX - text_px - 3 * _GAP_PX, _LEAST_CROP_PX), _CROP_PX)
    height_px = max(_HEIGHT_PX, crop_px + text_px + 3 * _GAP_PX)
    canvas = Image.new("RGB", (left + _CROP_PX + _GAP_PX, height_px))
    canvas.paste(outlined, (0, (_HEIGHT_PX - outlined.height) // 2))
    if reading.crop is not None:
        crop = Image.fromarray(reading.crop).resize((crop_px, crop_px), Image.Resampling.BICUBIC)
        canvas.paste(crop.convert("RGB"), (left, _GAP_PX))
    pen = ImageDraw.Draw(canvas)
    top = crop_px + 2 * _GAP_PX
    for parts, size_px, colour in written:
        for part in parts:
            pen.text((left, top), part, font=ImageFont.load_default(size_px), fill=colour)
            top += _step(size_px)
    return np.asarray(canvas)


def _wrap(text: str, size_px: int) -> list[str]:
    """Break a text into lines no wider than `_CROP_PX`."""
    font, lines = ImageFont.load_default(size_px), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _CROP_PX:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _step(size_px: int) -> int:
    """Return the distance between lines in pixels."""
    return round(size_px * 1.45)
