"""From the bytes of an upload to an answer: a bone age with its interval, or the reasons why there is none."""

import dataclasses
import logging
import math
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from boneage.reader import Reader, settle_sex
from boneage.web.pictures import draw_crop, draw_radiograph
from boneage.web.words import INTERNAL_ERROR, explain_reasons
from preprocessing.hand import Hand
from preprocessing.pipeline import Untrusted
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.read import decode_radiograph

_log = logging.getLogger("boneage.web")
# What errors call the file: its name is the user's, and is not logged.
_PATH = Path("file")


@dataclasses.dataclass(frozen=True)
class Upload:
    """A file that was sent, and what was said of the child.

    Args:
        name: Name of the file as it was sent.
        data: The whole file.
        sex: `"female"`, `"male"`, or None where it is not known.
        chronological_age_months: Age of the child in months, or None.
    """

    name: str
    data: bytes = dataclasses.field(repr=False)
    sex: str | None = None
    chronological_age_months: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a file was answered.

    Args:
        file: Name of the file as it was sent.
        accepted: Whether there is a bone age.
        reasons: Codes that tell why there is none.
        warnings: Codes of what to look at.
        bone_age_months: The bone age, in months, or None.
        low_months: Lower end of its interval; None where the model knows none.
        high_months: Upper end.
        sex: The sex that it holds for, as recorded or told from the image; None where it is not known.
        male_share: Probability of a boy by the image, in [0, 1]; None without a network that tells it.
        chronological_age_months: As given, else as a DICOM file tells, to whole months.
        sds: Standard deviation score of the bone age, to a tenth; None where age or sex is not known, or
            the reference table does not reach so far.
        side: Which hand it is, `"left"` or `"right"`; None where it is not known.
        has_outline: Whether the picture shows the outline of the hand.
        picture: The radiograph, with the outline where a hand was looked for, JPEG; None where it could not be read.
        crop: What the network saw, or would have seen, shape `(size, size)`, uint8, or None.
    """

    file: str
    accepted: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bone_age_months: float | None = None
    low_months: float | None = None
    high_months: float | None = None
    sex: str | None = None
    male_share: float | None = None
    chronological_age_months: float | None = None
    sds: float | None = None
    side: str | None = None
    has_outline: bool = False
    picture: bytes | None = dataclasses.field(default=None, repr=False)
    crop: UInt8[np.ndarray, "size size"] | None = dataclasses.field(default=None, repr=False)

    @property
    def detail(self) -> str:
        """Why there is no bone age, in words; empty where there is one."""
        return explain_reasons(self.reasons)

    @property
    def difference_months(self) -> float | None:
        """Bone age less chronological age, in months."""
        if self.bone_age_months is None or self.chronological_age_months is None:
            return None
        return round(self.bone_age_months - self.chronological_age_months, 2)

    def draw_crop(self) -> bytes | None:
        """Draw the crop as PNG."""
        return None if self.crop is None else draw_crop(self.crop)


def refuse(upload: Upload, reason: str) -> Answer:
    """Answer a file that was not looked at."""
    return Answer(
        file=upload.name,
        accepted=False,
        reasons=(reason,),
        sex=upload.sex,
        chronological_age_months=upload.chronological_age_months,
    )


def read_upload(reader: Reader, upload: Upload) -> Answer:
    """Read one file; whatever is wrong with it becomes its answer.

    Args:
        reader: What reads it.
        upload: The file.
    """
    try:
        return _read(reader, upload)
    except UnreadableImage as error:
        return refuse(upload, error.reason)
    except Exception as error:  # one file must never fail the others
        # An error may quote what it met in the file, so that only its kind and its place are told.
        _log.error("a file could not be read: %s", name_error(error))
        return refuse(upload, INTERNAL_ERROR)


def _read(reader: Reader, upload: Upload) -> Answer:
    radiograph = decode_radiograph(upload.data, path=_PATH)
    sex, age_months = None, upload.chronological_age_months
    if age_months is None and radiograph.chronological_age_months is not None:
        # To the day, beside the date of the study, it would tell the date of birth.
        age_months = float(math.floor(radiograph.chronological_age_months))
    try:
        sex = settle_sex(radiograph.sex, upload.sex, path=_PATH)
        reading = reader.read(radiograph, path=_PATH, sex=sex, chronological_age_months=age_months)
    except Untrusted as error:
        reasons = tuple(error.reason.split(";"))
        return _refuse_seen(
            upload, radiograph, reasons=reasons, age_months=age_months, sex=sex, hand=error.hand, crop=error.crop
        )
    except UnreadableImage as error:
        return _refuse_seen(upload, radiograph, reasons=(error.reason,), age_months=age_months, sex=sex)
    return Answer(
        file=upload.name,
        accepted=True,
        warnings=reading.warnings,
        bone_age_months=_number(max(reading.bone_age_months, 0.0)),
        low_months=_number(reading.low_months),
        high_months=_number(reading.high_months),
        sex=reading.sex,
        male_share=_number(reading.male_share, digits=4),
        chronological_age_months=age_months,
        sds=_number(reading.sds, digits=1),
        side=_side(reading.hand),
        has_outline=reading.hand is not None,
        picture=draw_radiograph(radiograph, reading.hand),
        crop=reading.crop,
    )


def _refuse_seen(
    upload: Upload,
    radiograph: Radiograph,
    *,
    reasons: tuple[str, ...],
    age_months: float | None,
    sex: str | None = None,
    hand: Hand | None = None,
    crop: UInt8[np.ndarray, "size size"] | None = None,
) -> Answer:
    return Answer(
        file=upload.name,
        accepted=False,
        reasons=reasons,
        sex=sex,
        chronological_age_months=age_months,
        side=_side(hand),
        has_outline=hand is not None,
        picture=draw_radiograph(radiograph, hand),
        crop=crop,
    )


def _side(hand: Hand | None) -> str | None:
    return hand.pose.side if hand and hand.pose else None


def _number(value: float, *, digits: int = 2) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def name_error(error: BaseException) -> str:
    """Name an error by its kind and its place, without the values that it quotes."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f" in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    return f"{type(error).__name__}{where}"
