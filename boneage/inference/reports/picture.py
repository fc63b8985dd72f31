"""The image of a reading for an archive: the radiograph with its outline, the crop, and the result as text."""

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from boneage.inference.drawing import outline_hand
from boneage.inference.messages import format_age
from boneage.inference.reader import Reader, Reading, describe_model
from boneage.inference.reports.wording import NOTICE, VERSION, format_hand, format_interval, list_lines, list_warnings
from boneage.preprocessing.io.radiograph import Radiograph

_HEIGHT_PX = 1024
_CROP_PX = 512
_GAP_PX = 24
_WHITE, _GREY, _AMBER = (255, 255, 255), (190, 190, 190), (255, 190, 60)


def draw_report(radiograph: Radiograph, reading: Reading, *, reader: Reader) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a reading.

    Args:
        radiograph: The radiograph.
        reading: Its reading.
        reader: The reader.

    Returns:
        The image, uint8, channels red, green, blue, 1024 pixels high.
    """
    picture = cv2.cvtColor(outline_hand(radiograph, reading.hand, max_size_px=_HEIGHT_PX), cv2.COLOR_BGR2RGB)
    outlined = ImageOps.contain(Image.fromarray(picture), (_HEIGHT_PX, _HEIGHT_PX))
    left = outlined.width + _GAP_PX
    canvas = Image.new("RGB", (left + _CROP_PX + _GAP_PX, _HEIGHT_PX))
    canvas.paste(outlined, (0, (_HEIGHT_PX - outlined.height) // 2))
    crop = Image.fromarray(reading.crop).resize((_CROP_PX, _CROP_PX), Image.Resampling.BICUBIC)
    canvas.paste(crop.convert("RGB"), (left, _GAP_PX))
    pen = ImageDraw.Draw(canvas)
    months = max(reading.bone_age_months, 0.0)
    lines = [
        (format_hand(reading), 28, _WHITE),
        (f"Bone age {months:.1f} months", 36, _WHITE),
        (format_age(months), 28, _WHITE),
        (format_interval(reading, reader=reader), 22, _WHITE),
        *((line, 16, _WHITE) for line in list_lines(reading, reader=reader, with_age=True)),
        *((remark, 22, _AMBER) for remark in (*list_warnings(reading), NOTICE)),
        (f"boneage {VERSION}, model {describe_model(reader).label}", 16, _GREY),
    ]
    top = _GAP_PX + _CROP_PX + _GAP_PX
    for text, size_px, colour in filter(lambda line: line[0], lines):
        top = _write(pen, text, (left, top), size_px=size_px, colour=colour)
    return np.asarray(canvas)


def _write(
    pen: ImageDraw.ImageDraw, text: str, place: tuple[int, int], *, size_px: int, colour: tuple[int, int, int]
) -> int:
    """Draw a text in lines no wider than the crop, and return the top of the next one in pixels."""
    font = ImageFont.load_default(size_px)
    left, top = place
    line = ""
    for word in [*text.split(), None]:
        longer = f"{line} {word}".strip()
        if word is not None and pen.textlength(longer, font) <= _CROP_PX:
            line = longer
            continue
        pen.text((left, top), line, font=font, fill=colour)
        top += round(size_px * 1.45)
        line = word or ""
    return top
