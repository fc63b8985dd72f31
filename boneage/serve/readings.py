"""Read uploaded files: a bone age with its prediction interval, or rejection reasons."""

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from boneage.base.errors import describe_error
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.inference.drawing import draw_crop, draw_radiograph
from boneage.inference.messages import (
    INTERNAL_ERROR,
    explain_reasons,
    explain_warning,
    format_age,
    format_interval,
    may_be_no_hand,
)
from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports.wording import NOTICE, VERSION
from boneage.inference.statements import list_statements, state_score, state_side
from boneage.inference.two_hands import read_hands
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.io.isolated import decode_isolated
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError, resolve_sex
from boneage.serve.kept import Film, KeptReading, floor_age, keep_film, keep_reading

_log = logging.getLogger("boneage.web")
# Name of the file in errors: the name given by the user is not logged.
_PATH = Path("file")


@dataclasses.dataclass(frozen=True)
class Upload:
    """An uploaded file, with the sex and age sent with it.

    Args:
        name: Name of the file as sent.
        data: Content of the file.
        sex: `"female"`, `"male"`, or None if unknown.
        chronological_age_months: Chronological age in months, or None.
    """

    name: str
    data: bytes = dataclasses.field(repr=False)
    sex: str | None = None
    chronological_age_months: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The result of one file.

    Args:
        file: Name of the file as sent.
        accepted: Whether there is a bone age.
        reasons: Reason codes of a rejection.
        warnings: Warning codes.
        bone_age_months: Bone age in months, or None.
        low_months: Lower end of the prediction interval in months; None if the model has none.
        high_months: Upper end of the prediction interval in months, 240 where it is open.
        sex: The sex assumed, recorded or predicted; None if unknown.
        male_probability: Predicted probability that the child is male, in [0, 1]; None without a sex bundle.
        chronological_age_months: From the DICOM file in whole months, else as sent.
        sds: Standard deviation score of the bone age, rounded to 0.1; None if age or sex is unknown, or the age is
            outside the growth reference.
        centile: Its centile in percent; None without a score.
        reference: Name of the growth reference; None without a score.
        score_missing: Why there is no score; None if there is one or no bone age.
        determination: `delayed`, `normal`, `advanced` or `indeterminate`; None without a chronological age.
        by_sex: Bone age in months by plausible sex; None if the sex was recorded.
        side: `"left"` or `"right"` hand; None if unknown.
        hand: The side of this hand on a film of two; None on a film of one.
        other: Of the left hand of such a film, the answer for the right one.
        side_detail: The side by the header and by the image, as text.
        statements: Names and texts of what there is to say, in their order.
        has_outline: Whether the picture shows the outline of the hand.
        picture: The radiograph, with the outline if a hand was found, as JPEG; None if the file could not be read.
        crop: The network input before resizing, shape `(size, size)`, uint8, or None.
        film: The radiograph for the viewer; None if the file could not be read.
        kept: The reading for reports; None if rejected.
    """

    file: str
    accepted: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bone_age_months: float | None = None
    low_months: float | None = None
    high_months: float | None = None
    sex: str | None = None
    male_probability: float | None = None
    chronological_age_months: float | None = None
    sds: float | None = None
    centile: float | None = None
    reference: str | None = None
    score_missing: str | None = None
    determination: str | None = None
    by_sex: dict[str, float] | None = None
    side: str | None = None
    hand: str | None = None
    other: "Answer | None" = None
    side_detail: str = "unknown"
    statements: tuple[tuple[str, str], ...] = ()
    has_outline: bool = False
    picture: bytes | None = dataclasses.field(default=None, repr=False)
    crop: UInt8[np.ndarray, "size size"] | None = dataclasses.field(default=None, repr=False)
    film: Film | None = None
    kept: KeptReading | None = None

    @property
    def hands(self) -> "tuple[Answer, ...]":
        """The answer for each hand of the film, that for the left one first."""
        return (self,) if self.other is None else (self, self.other)

    @property
    def detail(self) -> str:
        """The rejection reasons as text; empty if accepted."""
        return explain_reasons(self.reasons)

    @property
    def remarks(self) -> str:
        """The warnings as text; empty if there are none."""
        return " ".join(map(explain_warning, self.warnings))

    @property
    def interval(self) -> str | None:
        """The prediction interval as text; None if the model has none."""
        if self.low_months is None or self.high_months is None:
            return None
        return format_interval(self.low_months, self.high_months)

    @property
    def given_sex(self) -> str | None:
        """The sex as recorded or sent; None if it is unknown or predicted."""
        return None if self.by_sex else self.sex

    @property
    def has_upper_end(self) -> bool:
        """Whether the prediction interval has an upper end."""
        return self.high_months is not None and self.high_months < MAX_BONE_AGE_MONTHS

    @property
    def difference_months(self) -> float | None:
        """Bone age minus chronological age, in months."""
        if self.bone_age_months is None or self.chronological_age_months is None:
            return None
        return round(self.bone_age_months - self.chronological_age_months, 2)

    def format_text(self, *, model: str, heights: Sequence[tuple[str, str]] = ()) -> str:
        """Format the answer as plain text, for the report of another system; without the name of the file.

        Args:
            model: Name and digest of the model.
            heights: Names and texts of what there is to say of the heights of the child.
        """
        lines = [f"No bone age: {self.detail}"]
        if self.bone_age_months is not None:
            age = format_age(self.bone_age_months)
            hand = f", {self.hand} hand of two" if self.hand else ""
            lines = [f"Bone age: {age} ({self.bone_age_months:.0f} months){hand}"]
        lines += [f"{name}: {text}" for name, text in (*self.statements, *heights)]
        lines += [f"Check: {explain_warning(warning)}" for warning in self.warnings]
        return "\n".join([*lines, f"boneage {VERSION}, model {model}", f"{NOTICE}."])

    def draw_crop(self) -> bytes | None:
        """Draw the crop as PNG."""
        return None if self.crop is None else draw_crop(self.crop)


def rejected_answer(upload: Upload, reason: str) -> Answer:
    """Return the answer to a file that was rejected unread."""
    return Answer(
        file=upload.name,
        accepted=False,
        reasons=(reason,),
        sex=upload.sex,
        chronological_age_months=upload.chronological_age_months,
    )


def read_upload(reader: Reader, upload: Upload) -> Answer:
    """Read one file; errors become a rejection.

    Args:
        reader: The reader.
        upload: The file.
    """
    try:
        return _read(reader, upload)
    except UnreadableImageError as error:
        return rejected_answer(upload, error.reason)
    except Exception as error:  # one file must not fail the others
        # Errors can quote the content of the file, so that only their type and place are logged.
        _log.error("a file could not be read: %s", describe_error(error))
        return rejected_answer(upload, INTERNAL_ERROR)


def _read(reader: Reader, upload: Upload) -> Answer:
    radiograph = decode_isolated(upload.data, path=_PATH)
    sex, age_months = None, upload.chronological_age_months
    if radiograph.chronological_age_months is not None:
        age_months = floor_age(radiograph.chronological_age_months)
    try:
        sex = resolve_sex(radiograph, upload.sex, path=_PATH)
        read = functools.partial(reader.read, path=_PATH, chronological_age_months=age_months)
        reading = read_hands(read, radiograph, sex=sex)
    except UnreadableImageError as error:
        return _rejected_with_picture(upload, radiograph, reasons=(error.reason,), age_months=age_months, sex=sex)
    if not reading.accepted:
        return _rejected_with_picture(
            upload,
            radiograph,
            reasons=reading.reasons,
            age_months=age_months,
            sex=sex,
            hand=reading.hand,
            crop=reading.crop,
        )
    return _accept(reader, upload, radiograph, reading)


def read_again(reader: Reader, answer: Answer, *, sex: str | None, chronological_age_months: float | None) -> Answer:
    """Read an answered film again with another sex or chronological age, by what is kept of it.

    Args:
        reader: The reader.
        answer: The answer, with a bone age.
        sex: `"female"`, `"male"`, or None if unknown.
        chronological_age_months: Chronological age in months, or None.

    Returns:
        The new answer, with the same pictures; that of the other hand of a film of two is left out.

    Raises:
        ValueError: If the answer has no bone age.
        UnreadableImageError: If the model's answer is discarded.
    """
    if answer.kept is None:
        raise ValueError(f"`answer` must be accepted. Received: {answer.reasons}.")
    reading = reader.read_again(
        answer.kept.reading, path=_PATH, sex=sex, chronological_age_months=chronological_age_months
    )
    kept = dataclasses.replace(answer.kept, reading=reading)
    if kept.contradicts_header:
        reading = dataclasses.replace(reading, warnings=(*reading.warnings, "unlike_header"))
        kept = dataclasses.replace(kept, reading=reading)
    return dataclasses.replace(_state(reader, answer, reading), kept=kept, other=None)


def _accept(reader: Reader, upload: Upload, radiograph: Radiograph, reading: Reading) -> Answer:
    answer = Answer(
        file=upload.name,
        accepted=True,
        other=_accept(reader, upload, radiograph, reading.other) if reading.other else None,
        has_outline=reading.hand is not None,
        picture=draw_radiograph(reading.part or radiograph, reading.hand),
        crop=reading.crop,
        film=keep_film(reading.part or radiograph, reading.hand),
        kept=keep_reading(reading.part or radiograph, reading),
    )
    return _state(reader, answer, reading)


def _state(reader: Reader, answer: Answer, reading: Reading) -> Answer:
    """State an accepted reading in an answer."""
    comparison, predictions = reading.comparison, reading.predictions
    return dataclasses.replace(
        answer,
        warnings=reading.warnings,
        bone_age_months=_number(reading.bone_age_months),
        low_months=_number(reading.low_months),
        high_months=_number(reading.high_months),
        sex=reading.sex,
        male_probability=_number(reading.male_probability, digits=4),
        chronological_age_months=comparison.chronological_age_months,
        sds=_number(reading.sds, digits=1),
        centile=_number(comparison.centile, digits=1),
        reference=None if comparison.missing else comparison.reference,
        score_missing=state_score(reading) if comparison.missing else None,
        determination=comparison.determination or None,
        by_sex={sex: round(months, 2) for sex, months in predictions.items()} if len(predictions) > 1 else None,
        side=reading.side,
        hand=reading.part.laterality if reading.part else None,
        side_detail=state_side(reading.laterality, reading.side, reading.marker),
        statements=tuple(list_statements(reading, metadata=reader.age_bundle.metadata, with_age=True)),
    )


def _rejected_with_picture(
    upload: Upload,
    radiograph: Radiograph,
    *,
    reasons: tuple[str, ...],
    age_months: float | None,
    sex: str | None = None,
    hand: Hand | None = None,
    crop: UInt8[np.ndarray, "size size"] | None = None,
) -> Answer:
    side = None if may_be_no_hand(reasons) else _side(hand)
    statements = [("Sex", sex or "unknown"), ("Side", state_side(radiograph.laterality, side))]
    if age_months is not None:
        statements.append(("Chronological age", format_age(age_months)))
    return Answer(
        file=upload.name,
        accepted=False,
        reasons=reasons,
        sex=sex,
        chronological_age_months=age_months,
        side=side,
        side_detail=state_side(radiograph.laterality, side),
        statements=tuple(statements),
        has_outline=hand is not None,
        picture=draw_radiograph(radiograph, hand),
        crop=crop,
        film=keep_film(radiograph, hand),
    )


def _side(hand: Hand | None) -> str | None:
    return hand.pose.side if hand and hand.pose else None


def _number(value: float, *, digits: int = 2) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
