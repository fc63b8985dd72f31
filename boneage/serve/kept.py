"""What is kept in memory of a file for its viewer and its reports: a small film, and nothing of the full radiograph."""

import dataclasses
import importlib
import json
import math
import uuid
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports.fhir import make_observation
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.crop.crop import shrink
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.radiograph import Radiograph

_LONGEST_PX = 1600
_JPEG_QUALITY = 90
_NO_PIXELS = np.zeros((1, 1), np.uint8)
_PATH = Path("file")
OBSERVATION, REPORT, CAPTURE = "observation.json", "report.dcm", "capture.dcm"


@dataclasses.dataclass(frozen=True, eq=False)
class Film:
    """The radiograph for the viewer.

    Args:
        jpeg: The contrast-normalised radiograph, at most 1600 pixels on its longest side.
        size_px: Its width and height in pixels.
        mask: The mask of the hand in the same frame, as PNG; None without a hand.
    """

    jpeg: bytes = dataclasses.field(repr=False)
    size_px: tuple[int, int]
    mask: bytes | None = dataclasses.field(repr=False)

    @property
    def outline(self) -> str:
        """The outline of the hand as an SVG path in pixels of the film; empty without a hand."""
        if self.mask is None:
            return ""
        contours, _ = cv2.findContours(_decode(self.mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return "".join("M" + "L".join(f"{x} {y}" for x, y in contour[:, 0]) + "Z" for contour in contours)


def keep_film(radiograph: Radiograph, hand: Hand | None) -> Film:
    """Make the film of a radiograph, with the mask of its hand if one was found."""
    shown = stretch_contrast(radiograph.pixels) if hand is None else hand.pixels
    pixels, _ = shrink(shown, max_size_px=_LONGEST_PX)
    height, width = pixels.shape
    mask = None
    if hand is not None:
        small = cv2.resize(hand.segmentation.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        mask = cv2.imencode(".png", small)[1].tobytes()
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return Film(jpeg, (width, height), mask)


@dataclasses.dataclass(frozen=True, eq=False)
class KeptReading:
    """A reading and the header of its file, without pixels.

    Args:
        radiograph: The radiograph; its header identifies the patient, so that only DICOM objects use it.
        reading: The reading.
    """

    radiograph: Radiograph = dataclasses.field(repr=False)
    reading: Reading = dataclasses.field(repr=False)

    @property
    def contradicts_header(self) -> bool:
        """Whether the film was read again with a sex or an age that its header contradicts."""
        sex, age = self.radiograph.sex, self.radiograph.chronological_age_months
        is_other_sex = sex is not None and tuple(self.reading.predictions) != (sex,)
        return is_other_sex or (age is not None and self.reading.comparison.chronological_age_months != floor_age(age))

    @property
    def has_study(self) -> bool:
        """Whether DICOM objects can be made: not of what the header of the file contradicts."""
        return self.radiograph.header is not None and not self.contradicts_header

    def make(self, name: str, *, film: Film, reader: Reader) -> bytes | None:
        """Make a report.

        Args:
            name: `OBSERVATION`, `REPORT` or `CAPTURE`.
            film: The film of the same file.
            reader: The reader.

        Returns:
            The content of the file; None if a DICOM object is asked for and `has_study` is False.

        Raises:
            ReportError: If the header does not allow it.
        """
        header = self.radiograph.header if self.has_study else None
        if name == OBSERVATION:
            observation = make_observation(self.reading, reader=reader, id=str(uuid.uuid4()), study=header)
            return json.dumps(observation, indent=2, allow_nan=False).encode()
        if header is None:
            return None
        dicom = importlib.import_module("boneage.inference.reports.dicom")
        pixels = _decode(film.jpeg)
        radiograph = dataclasses.replace(self.radiograph, pixels=pixels)
        hand, part = _with_pixels(self.reading.hand, pixels, film.mask), radiograph if self.reading.part else None
        reading = dataclasses.replace(self.reading, hand=hand, part=part)
        made = dicom.make_dicom_objects(header, radiograph, reading, reader=reader, path=_PATH)
        report, capture = made.values()
        return bytes(report if name == REPORT else capture)


def floor_age(months: float) -> float:
    """Return the whole months of an age: exact to the day, with the study date it would reveal the date of birth."""
    return float(math.floor(months))


def keep_reading(radiograph: Radiograph, reading: Reading) -> KeptReading:
    """Keep a reading, without the pixels of the radiograph and its mask.

    Args:
        radiograph: The radiograph, or the part of it that shows the hand.
        reading: Its reading.
    """
    small = dataclasses.replace(radiograph, pixels=_NO_PIXELS, coloured=None)
    hand, part = _with_pixels(reading.hand, _NO_PIXELS, None), small if reading.part else None
    return KeptReading(small, dataclasses.replace(reading, hand=hand, part=part, other=None))


def _with_pixels(hand: Hand | None, pixels: UInt8[np.ndarray, "height width"], mask: bytes | None) -> Hand | None:
    if hand is None:
        return None
    decoded: Bool[np.ndarray, "height width"] = (_NO_PIXELS if mask is None else _decode(mask)) > 0
    return dataclasses.replace(hand, pixels=pixels, segmentation=dataclasses.replace(hand.segmentation, mask=decoded))


def _decode(encoded: bytes) -> UInt8[np.ndarray, "height width"]:
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(pixels, np.uint8)
