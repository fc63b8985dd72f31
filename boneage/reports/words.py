"""The sentences that every report of a reading carries, in ASCII, which any character set of DICOM holds."""

import math
from importlib.metadata import version

from boneage.reader import Reader, Reading
from boneage.web.words import explain_warning

NOTICE = "Research use, not a medical device"
VERSION = version("boneage")


def has_interval(reading: Reading) -> bool:
    """Tell whether the bundle knows between which months the bone age lies."""
    return not math.isnan(reading.low_months)


def name_interval(reader: Reader) -> str:
    """Name the interval by the share of readings that it holds, where the bundle tells."""
    share = (reader.age.metadata.get("interval") or {}).get("coverage_share")
    return "Prediction interval" if share is None else f"{share:.0%} prediction interval"


def say_interval(reading: Reading, *, reader: Reader) -> str:
    """Say between which months the bone age lies.

    Example:
        `"90% prediction interval: 105.3 to 143.9 months"`
    """
    if not has_interval(reading):
        return f"{name_interval(reader)}: not known"
    return f"{name_interval(reader)}: {reading.low_months:.1f} to {reading.high_months:.1f} months"


def say_sex(reading: Reading) -> str:
    """Say for which sex the bone age holds; empty where the network asks for none."""
    return f"Read for the sex: {reading.sex}" if reading.sex else ""


def list_warnings(reading: Reading) -> list[str]:
    """List what to look at."""
    return [explain_warning(warning) for warning in reading.warnings]


def list_remarks(reading: Reading) -> list[str]:
    """List what whoever reads the number must know beside it."""
    return [*filter(None, [say_sex(reading)]), *list_warnings(reading), NOTICE]
