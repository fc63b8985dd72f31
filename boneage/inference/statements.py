"""Statements about a reading, the same on the page, in the reports and in the text to copy: ASCII, whole months."""

import math
from collections.abc import Mapping
from typing import Any

from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.inference.comparison import NO_AGE, NO_SEX, OUTSIDE, UNUSED_AGE
from boneage.inference.messages import format_age, format_difference
from boneage.inference.reading import Reading
from boneage.tfrecords.schema import sex_from_male

MISSING_SCORES = {
    NO_AGE: "none: the chronological age is not known",
    UNUSED_AGE: "none: the unit of the chronological age is doubtful",
    NO_SEX: "none: the sex is not known",
    OUTSIDE: "none: the chronological age is outside the table",
}
_THUMBS = {
    "left": "thumb lies right: taken for a left hand",
    "right": "thumb lies left: taken for a right hand, mirrored",
}


def list_statements(reading: Reading, *, metadata: Mapping[str, Any], with_age: bool) -> list[tuple[str, str]]:
    """List what there is to say of a reading beside its bone age, as pairs of a name and a text.

    Args:
        reading: The reading.
        metadata: Metadata of the bone-age bundle.
        with_age: Whether to name the chronological age and the difference from it.
    """
    comparison = reading.comparison
    statements = [(name_interval(metadata), state_interval(reading)), ("Sex", state_sex(reading))]
    if len(reading.predictions) > 1:
        statements.append(("By sex", state_by_sex(reading)))
    statements += [
        ("Sex in the image", state_sex_in_image(reading)),
        ("Side", state_side(reading.laterality, reading.side, reading.marker)),
    ]
    if metadata.get("chronological_age", "none") != "none":
        statements.append(("Age in the model", state_age_in_model(reading)))
    age = comparison.chronological_age_months
    if with_age and age is not None:
        statements.append(("Chronological age", format_age(age)))
        statements.append(("Difference", format_difference(reading.bone_age_months - age)))
    statements.append(("Standard deviation score", state_score(reading)))
    if not comparison.missing:
        statements.append(("Centile", state_centile(reading)))
    if comparison.determination:
        statements.append(("Determination", comparison.determination))
    return statements


def name_interval(metadata: Mapping[str, Any]) -> str:
    """Name the prediction interval of a bundle: `90% interval`; without percentage if the bundle does not record it.

    Args:
        metadata: Metadata of the bone-age bundle.
    """
    share = (metadata.get("interval") or {}).get("coverage_share")
    return "Interval" if share is None else f"{share:.0%} interval"


def state_interval(reading: Reading) -> str:
    """State the prediction interval in years and months, and that it spans both sexes if it does."""
    if math.isnan(reading.low_months):
        return "none with this model"
    text = f"{format_age(reading.low_months)} or more"
    if reading.high_months < MAX_BONE_AGE_MONTHS:
        text = f"{format_age(reading.low_months)} to {format_age(reading.high_months)}"
    return f"{text}, for both sexes" if len(reading.predictions) > 1 else text


def state_sex(reading: Reading) -> str:
    """State the sex that the bone age holds for, and where it is from."""
    if reading.sex is None:
        return "unknown: the bone age is the mean for both sexes"
    if len(reading.predictions) == 1:
        return f"{reading.sex}, as given"
    if not tells_sex(reading.male_probability):
        return f"{reading.sex}, assumed: the image does not tell"
    return f"{reading.sex}, predicted from the image"


def state_by_sex(reading: Reading) -> str:
    """State the bone age by plausible sex.

    Example:
        `"as female 15 years 1 month, as male 16 years 8 months"`
    """
    return ", ".join(f"as {sex} {format_age(max(months, 0.0))}" for sex, months in reading.predictions.items())


def state_sex_in_image(reading: Reading) -> str:
    """State the sex that the image shows, with its probability, or that it does not tell."""
    if math.isnan(reading.male_probability):
        return "not predicted with this model"
    sex = sex_from_male(reading.male_probability)
    if not tells_sex(reading.male_probability):
        return "the image does not tell: either is as probable"
    # Never certain, as the network is not.
    return f"{sex}, probability {min(_find_probability(reading.male_probability), 0.99):.0%}"


def tells_sex(male_probability: float) -> bool:
    """Return whether one sex is likelier than the other in whole percent; so it is if nothing predicted it (NaN)."""
    return f"{_find_probability(male_probability):.0%}" != "50%"


def _find_probability(male_probability: float) -> float:
    return max(male_probability, 1 - male_probability)


def state_age_in_model(reading: Reading) -> str:
    """State whether the network, which uses the chronological age, was given it.

    A network that knows the age answers nearer to it, which is right of most children and least of the sick.
    """
    if reading.network_age_months is None:
        return "used by the model, but not known: it answered without"
    return "used by the model: it pulls the bone age towards normal"


def state_side(laterality: str | None, side: str | None, marker: str | None = None) -> str:
    """State the side by the header, by the letter on the film and by the image.

    Args:
        laterality: The side by the header, `"left"`, `"right"` or None.
        side: The side by the pose of the hand, likewise.
        marker: `"left"` if a letter L is read on the film, else None.
    """
    header = f"{laterality} by the header" if laterality else ""
    letter = "letter L on the film" if marker == "left" else ""
    return "; ".join(filter(None, [header, letter, _THUMBS.get(side or "", "")])) or "unknown"


def state_score(reading: Reading) -> str:
    """State the standard deviation score and its reference, or why there is none."""
    comparison = reading.comparison
    if comparison.missing:
        text = MISSING_SCORES[comparison.missing]
        return f"{text} {comparison.reference}" if comparison.missing == OUTSIDE else text
    return f"{comparison.sds:+.1f} by {comparison.reference}"


def state_centile(reading: Reading) -> str:
    """State the centile, and its reference."""
    comparison, whole = reading.comparison, math.floor(reading.comparison.centile + 0.5)
    if whole < 1:
        text = "below the 1st"
    elif whole > 99:
        text = "above the 99th"
    else:
        ending = "th" if 10 < whole < 20 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
        text = f"{whole}{ending}"
    return f"{text} by {comparison.reference}"
