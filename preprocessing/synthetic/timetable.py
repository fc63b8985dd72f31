"""Ages at which each ossification centre of hand and wrist appears, is fully grown and fuses, by sex.

Ages of appearance follow the medians of Garn, Rohmann & Silverman, "Radiographic standards for postnatal ossification
and tooth calcification", Medical Radiography and Photography 43 (1967) 45-66, to about a month; the pisiform, which
they omit, is chosen within the ranges of Scheuer & Black, "Developmental Juvenile Osteology" (2000).
Ages of fusion approximate the sequence of Greulich & Pyle, "Radiographic Atlas of Skeletal Development of the Hand and
Wrist" (2nd edition, 1959), and Gilsanz & Ratib, "Hand Bone Age" (2005), from first bridging to the last trace of a
growth plate. They are for drawing only, not a reference for reading radiographs.
"""

from dataclasses import dataclass

from boneage.tfrecords.schema import SEXES

# Age of appearance in months: (female, male).
ONSET_MONTHS = {
    "capitate": (2, 3),
    "hamate": (2, 4),
    "triquetrum": (21, 29),
    "lunate": (31, 49),
    "scaphoid": (49, 68),
    "trapezium": (49, 70),
    "trapezoid": (50, 75),
    "pisiform": (108, 132),
    "sesamoid": (129, 153),
    "radius": (10, 13),
    "ulna": (64, 85),
    "metacarpal_1": (19, 31),
    "metacarpal_2": (13, 19),
    "metacarpal_3": (14, 21),
    "metacarpal_4": (15, 24),
    "metacarpal_5": (16, 26),
    "proximal_1": (20, 36),
    "proximal_2": (11, 17),
    "proximal_3": (10, 16),
    "proximal_4": (11, 18),
    "proximal_5": (14, 21),
    "middle_2": (16, 26),
    "middle_3": (15, 24),
    "middle_4": (15, 25),
    "middle_5": (24, 41),
    "distal_1": (12, 18),
    "distal_2": (30, 38),
    "distal_3": (18, 29),
    "distal_4": (18, 29),
    "distal_5": (24, 39),
}

# First bridging and complete fusion of a growth plate in months: ((female), (male)).
FUSION_MONTHS = {
    "distal": ((150, 164), (175, 189)),
    "proximal": ((156, 172), (182, 196)),
    "middle": ((158, 175), (184, 198)),
    "metacarpal_1": ((154, 168), (180, 194)),
    "metacarpal": ((160, 178), (186, 202)),
    "ulna": ((172, 196), (196, 216)),
    "radius": ((176, 206), (200, 222)),
}

# An epiphysis is as wide as its metaphysis this many months before its plate begins to close; chosen by eye.
CAPPING_MONTHS = 36

# A bone without a growth plate (carpals, sesamoid) has its adult shape by this age in months: (female, male).
ADULT_SHAPE_MONTHS = (162, 186)


@dataclass(frozen=True)
class Stage:
    """Developmental stage of one ossification centre.

    Attributes:
        growth: 0 while absent, then its width as a share of its metaphysis (or of the adult carpal), rising to 1.
        capping: 0 until the epiphysis is as wide as its metaphysis, then rising to 1 as its edge bends over the shaft.
        fusion: 0 while the growth plate is open, 1 once it has closed; always 0 where there is no plate.
    """

    growth: float
    capping: float
    fusion: float


def find_stage(centre: str, *, bone_age_months: float | int, sex: str, delay_months: float = 0.0) -> Stage:
    """Return the stage of a centre at a bone age.

    Args:
        centre: A key of `ONSET_MONTHS`.
        bone_age_months: Bone age in months.
        sex: `"female"` or `"male"`.
        delay_months: Delay of this centre relative to the median, in months; negative if earlier.

    Returns:
        The stage. None of its values decreases with age.
    """
    column = SEXES.index(sex)
    age_months = bone_age_months - delay_months
    onset_months = ONSET_MONTHS[centre][column]
    if age_months < onset_months:
        return Stage(growth=0.0, capping=0.0, fusion=0.0)
    fusion_months = FUSION_MONTHS.get(centre) or FUSION_MONTHS.get(centre.split("_")[0])
    if fusion_months is None:
        return Stage(
            growth=_centre_width(age_months, onset_months, ADULT_SHAPE_MONTHS[column]), capping=0.0, fusion=0.0
        )
    begin_months, end_months = fusion_months[column]
    wide_months = begin_months - CAPPING_MONTHS
    return Stage(
        growth=_centre_width(age_months, onset_months, wide_months),
        capping=_share(age_months, wide_months, begin_months),
        fusion=_share(age_months, begin_months, end_months),
    )


def measure_immaturity(bone_age_months: float | int, *, sex: str) -> float:
    """Return immaturity: 1 at birth, 0 once the hand has its adult shape."""
    return 1 - _share(bone_age_months, 0, ADULT_SHAPE_MONTHS[SEXES.index(sex)])


def _centre_width(age_months: float | int, onset_months: int, wide_months: int) -> float:
    """Return the width of a centre that has appeared, from a quarter of its final width, growing ever more slowly."""
    return 0.25 + 0.75 * float(_share(age_months, onset_months, wide_months) ** 0.5)


def _share(age_months: float | int, begin_months: int, end_months: int) -> float:
    """Return the share of the time from begin to end that has passed, in [0, 1]."""
    return min(1.0, max(0.0, (age_months - begin_months) / (end_months - begin_months)))
