"""Sentences shared by all reports of a reading, in ASCII, which is part of every DICOM character set."""

import math
from importlib.metadata import version

from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.inference import messages
from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.statements import list_statements

NOTICE = "Research use, not a medical device"
VERSION = version("boneage")


def has_interval(reading: Reading) -> bool:
    """Whether the reading has a prediction interval."""
    return not math.isnan(reading.low_months)


def is_open(reading: Reading) -> bool:
    """Whether the prediction interval has no upper end."""
    return reading.high_months >= MAX_BONE_AGE_MONTHS


def interval_label(reader: Reader) -> str:
    """Name the prediction interval, with its coverage if the bundle records it."""
    share = (reader.age_bundle.metadata.get("interval") or {}).get("coverage_share")
    return "Prediction interval" if share is None else f"{share:.0%} prediction interval"


def format_interval(reading: Reading, *, reader: Reader) -> str:
    """Format the prediction interval.

    Example:
        `"90% prediction interval: 105.3 to 143.9 months"`, or `"90% prediction interval: 165.4 months or more"`
    """
    ends = messages.format_interval(reading.low_months, reading.high_months)
    return f"{interval_label(reader)}: {ends or 'unknown'}"


def format_hand(reading: Reading) -> str:
    """Name the hand on a film of two; empty on a film of one."""
    return f"{reading.part.laterality or ''} hand of two".capitalize() if reading.part else ""


def list_warnings(reading: Reading) -> list[str]:
    """List the warnings as texts."""
    return [messages.explain_warning(warning) for warning in reading.warnings]


def list_lines(reading: Reading, *, reader: Reader, with_age: bool) -> list[str]:
    """List the statements about a reading as lines, without the interval.

    Args:
        reading: The reading.
        reader: The reader.
        with_age: Whether to name the chronological age and the difference from it.
    """
    statements = list_statements(reading, metadata=reader.age_bundle.metadata, with_age=with_age)
    return [f"{name}: {text}" for name, text in statements[1:]]


def list_remarks(reading: Reading, *, reader: Reader, with_age: bool = False) -> list[str]:
    """List what a reader must know beside the bone age and its interval: statements, warnings, notice."""
    return [*list_lines(reading, reader=reader, with_age=with_age), *list_warnings(reading), NOTICE]
