"""Texts for reason and warning codes, as shown on the web page and in reports."""

import math
from collections.abc import Sequence

from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS

TIMED_OUT = "timed_out"
INTERNAL_ERROR = "internal_error"

REASONS = {
    "empty_file": "The file is empty. Copy it again from its source.",
    "not_an_image": "The file is not an image of a known format. Use PNG, JPEG, TIFF or DICOM.",
    "damaged_image": "The file is damaged or incomplete. Export it again from its source.",
    "too_large": "The image has too many pixels. Crop or downscale it.",
    "too_slow": "The file takes too long to decode. Export it again from its source.",
    "no_pixels": "The file contains no pixels: a report, a directory or a truncated file. Use the image of the study.",
    "multi_frame": "The file contains several images. Save one radiograph per file.",
    "not_a_radiograph": "The image is not a greyscale radiograph. Use the radiograph itself, not a photograph of it.",
    "for_processing": "The DICOM file contains raw detector values. Export the image FOR PRESENTATION.",
    "unsupported_encoding": "The compression of the DICOM file is not supported. Convert it to Explicit VR Little "
    "Endian.",
    "too_dark": "The hand has too few grey levels. Export the image again with more of them.",
    "too_noisy": "The hand is too noisy to read.",
    "too_coarse": "The hand has too few pixels to read. Use the radiograph at its full size.",
    "no_hand": "This may not be a hand radiograph: no hand was found.",
    "several_hands": "More than one hand is visible, and not two whole ones with a gap between them. Use one "
    "file per hand.",
    "cut_off": "The edge of the film cuts off a large part of the hand.",
    "no_wrist": "The wrist is not in the image. Use a radiograph of the hand with its wrist.",
    "in_cast": "Wrist or palm are in a cast, which hides the bones. Use a radiograph without a cast.",
    "low_contrast": "The contrast between hand and background is too low.",
    "bad_mask": "The segmentation of the hand is unreliable.",
    "unsure_orientation": "This may not be a hand radiograph: the orientation of a hand is unclear.",
    "sex_conflict": "The sex in the file contradicts the chosen one. Check which is right.",
    "sex_unknown": "The sex in the file is not understood. Correct PatientSex to F or M, or clear it.",
    "rejected_by_reviewer": "A reviewer rejected it.",
    "age_missing": "The model needs the chronological age, which was not given, is beyond 20 years, or has no stated "
    "unit. Give it in months.",
    "impossible_answer": "The model's answer is outside 0 to 20 years and was discarded.",
    TIMED_OUT: "Time limit exceeded. Send fewer files at once, or send this one again.",
    INTERNAL_ERROR: "Internal error. The other files are not affected.",
}

WARNINGS = {
    "two_hands": "The film shows two hands. Left and right are told by the thumbs, as on a film made palms down and "
    "not mirrored. Check the side.",
    "hand_cut_off": "The edge of the film cuts off a part of the hand, such as a fingertip or the thumb.",
    "sex_looks_wrong": "The recorded sex does not match the image. Check it.",
    "age_unit_doubtful": "The chronological age is more than 4 standard deviations from the bone age and was not used: "
    "it may be in years. State its unit.",
    "age_looks_wrong": "Bone age and chronological age are further apart than in 999 of 1,000 healthy children, the "
    "error of the model included. Check the age, and that the radiograph is of this child.",
    "answered_without_age": "The chronological age, which the model uses, was not given, is beyond 20 years, or has no "
    "stated unit: the model answered without it and is less accurate.",
    "side_looks_wrong": "Header, letter on the film and thumb disagree about the side: the image may be mirrored, the "
    "palm may face the tube, or header or letter may be wrong. Check the side.",
    "unlike_header": "Read again with a sex or an age other than in the header of the file. Check which is right. No "
    "DICOM report is made.",
    "sex_from_image": "The sex was not given; it was predicted from the image and may be wrong.",
    "sex_unknown": "The sex is unknown; the bone age is the mean of that of a girl and of a boy.",
}


# Of 62 radiographs of other parts of the body, and slices of CT and MR, all are rejected for one of these.
_NOT_A_HAND = ("no_hand", "unsure_orientation")


def may_be_no_hand(reasons: Sequence[str]) -> bool:
    """Whether a radiograph was rejected because it may show no hand."""
    return any(reason in _NOT_A_HAND for reason in reasons)


def list_reasons(reasons: Sequence[str]) -> list[str]:
    """List the texts of reason codes, those first that say that it may not be a hand."""
    ordered = sorted(reasons, key=lambda reason: reason not in _NOT_A_HAND)
    return [REASONS.get(reason, f"Rejected ({reason}).") for reason in ordered]


def explain_reasons(reasons: Sequence[str]) -> str:
    """Return the texts of reason codes in one line, as `list_reasons` does."""
    return " ".join(list_reasons(reasons))


def explain_warning(warning: str) -> str:
    """Return the text of a warning code."""
    return WARNINGS.get(warning, warning.replace("_", " "))


def format_age(months: float) -> str:
    """Format an age in years and months.

    Args:
        months: Age in months, 0 or more.

    Example:
        >>> format_age(125.6)
        '10 years 6 months'
    """
    years, rest = divmod(math.floor(months + 0.5), 12)
    return f"{_count(years, 'year')} {_count(rest, 'month')}"


def format_interval(low_months: float, high_months: float) -> str:
    """Format a prediction interval; one that is open to the upper side has only a lower end.

    Args:
        low_months: Lower end in months; NaN without an interval.
        high_months: Upper end in months, `boneage.evaluation.conformal.MAX_BONE_AGE_MONTHS` for an open one.

    Example:
        >>> format_interval(105.3, 143.9), format_interval(165.4, 240.0)
        ('105.3 to 143.9 months', '165.4 months or more')
    """
    if math.isnan(low_months):
        return ""
    if high_months >= MAX_BONE_AGE_MONTHS:
        return f"{low_months:.1f} months or more"
    return f"{low_months:.1f} to {high_months:.1f} months"


def format_difference(months: float) -> str:
    """Format the difference between bone age and chronological age.

    Args:
        months: Bone age minus chronological age, in months.

    Example:
        >>> format_difference(-13.2)
        '1 year 1 month behind'
    """
    whole = math.floor(abs(months) + 0.5)
    if not whole:
        return "no difference"
    distance = format_age(whole) if whole >= 12 else _count(whole, "month")
    return f"{distance} {'ahead' if months > 0 else 'behind'}"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
