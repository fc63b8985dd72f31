"""What codes mean, in words for whoever looks at a page."""

import math
from collections.abc import Sequence

MISSING_SEX = "no_sex"
TIMED_OUT = "timed_out"
INTERNAL_ERROR = "internal_error"

REASONS = {
    "empty_file": "The file is empty. Copy it again from its source.",
    "not_an_image": "The file is no image of a known format. Give a PNG, JPEG, TIFF or DICOM file.",
    "damaged_image": "The file is damaged or incomplete. Export it again from its source.",
    "too_large": "The image claims more pixels than are read. Crop or shrink it.",
    "no_pixels": "The file holds no pixels: a report, a directory, or a file cut short. Give the image of the study.",
    "multi_frame": "The file holds several images. Save one radiograph per file.",
    "not_a_radiograph": "The image is no greyscale radiograph. Give the radiograph itself, not a photograph of it.",
    "unsupported_encoding": "The DICOM file is compressed in a way that is not read. Convert it to Explicit VR Little "
    "Endian.",
    "too_dark": "Its grey levels are too few to see a hand.",
    "no_hand": "No hand was found in it.",
    "several_hands": "It shows more than one hand. Give each hand in a file of its own.",
    "cut_off": "The frame cuts the hand off.",
    "low_contrast": "The hand does not stand out from its background.",
    "bad_mask": "The outline of the hand cannot be trusted.",
    "unsure_orientation": "It is not clear how the hand lies, if it is one.",
    MISSING_SEX: "The sex is not known, and the model needs it. Choose female or male.",
    "sex_conflict": "The file says the other sex than was chosen. Find out which is right.",
    TIMED_OUT: "There was no time left for it. Send fewer files at once, or this one again.",
    INTERNAL_ERROR: "It could not be read, for a reason that is not known. The other files are not affected.",
}

WARNINGS = {
    "sex_looks_wrong": "The recorded sex looks wrong: the image looks like the other one. Check it.",
    "sex_from_image": "The sex was not given. It was told from the image, which may err.",
}


def explain_reasons(reasons: Sequence[str]) -> str:
    """Say why there is no answer."""
    return " ".join(REASONS.get(reason, f"It cannot be trusted ({reason}).") for reason in reasons)


def explain_warning(warning: str) -> str:
    """Say what to look at."""
    return WARNINGS.get(warning, warning.replace("_", " "))


def say_age(months: float) -> str:
    """Say an age in years and months.

    Args:
        months: The age in months, 0 or more.

    Example:
        >>> say_age(125.6)
        '10 years 6 months'
    """
    years, rest = divmod(math.floor(months + 0.5), 12)
    return f"{years} {'year' if years == 1 else 'years'} {rest} {'month' if rest == 1 else 'months'}"


def say_difference(months: float) -> str:
    """Say how far the bone age lies from the chronological age.

    Args:
        months: Bone age less chronological age.
    """
    whole = math.floor(abs(months) + 0.5)
    if not whole:
        return "no difference"
    return f"{whole} {'month' if whole == 1 else 'months'} {'ahead' if months > 0 else 'behind'}"
