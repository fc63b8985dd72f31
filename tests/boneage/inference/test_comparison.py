import math

import pytest

from boneage.inference.comparison import compare_ages
from boneage.inference.growth_reference import load_growth_reference

REFERENCE = load_growth_reference()


def compare(months, *, age, sex="female", interval=None, predictions=None, **options):
    return compare_ages(
        REFERENCE,
        predictions or {sex: months},
        bone_age_months=months,
        interval_months=interval or (months - 18, months + 18),
        sex=sex,
        chronological_age_months=age,
        **options,
    )


@pytest.mark.parametrize(
    ("sds", "determination"),
    [(-2.01, "delayed"), (-2, "normal"), (0, "normal"), (2, "normal"), (2.01, "advanced")],
)
def test_compare_ages_determines_by_two_standard_deviations(sds, determination):
    # Girls of 120 months: 125.66 and 11.73.
    comparison = compare(125.66 + sds * 11.73, age=120)
    assert comparison.sds == pytest.approx(sds)
    assert comparison.determination == determination
    assert comparison.normal_months == pytest.approx((125.66 - 23.46, 125.66 + 23.46))
    assert comparison.reference == "Brush Foundation (Greulich and Pyle 1959)"
    assert not comparison.missing


@pytest.mark.parametrize(("sds", "centile"), [(-1.88, 2.9), (0, 50.0), (1.28, 90.3), (9, 100.0)])
def test_centile_is_that_of_the_score_to_a_tenth(sds, centile):
    assert compare(125.66 + sds * 11.73, age=120).centile == centile


@pytest.mark.parametrize(
    ("options", "missing", "determination"),
    [
        ({"age": None}, "no_age", ""),
        ({"age": 230}, "age_outside_table", "indeterminate"),
        ({"age": 120, "sex": None, "predictions": {"female": 120.0, "male": 130.0}}, "no_sex", "indeterminate"),
        ({"age": 30, "is_unit_stated": False}, "age_not_used", "indeterminate"),
    ],
)
def test_compare_ages_says_why_there_is_no_score(options, missing, determination):
    comparison = compare(125.0, **options)
    assert math.isnan(comparison.sds) and math.isnan(comparison.centile)
    assert (comparison.missing, comparison.determination) == (missing, determination)
    assert comparison.normal_months is None


def test_compare_ages_is_indeterminate_where_it_depends_on_the_sex():
    both = {"female": 150.0, "male": 160.0}
    assert compare(160.0, age=120, sex="male", predictions=both).determination == "advanced"
    both["female"] = 130.0
    assert compare(160.0, age=120, sex="male", predictions=both).determination == "indeterminate"
    # Beyond the ages of girls, that of boys counts.
    assert compare(200.0, age=198, sex="male", predictions={"female": 190.0, "male": 200.0}).determination == "normal"


@pytest.mark.parametrize(
    ("months", "interval", "age", "is_far"),
    [
        (10, (0, 35), 120, True),  # an infant's hand, and a header that says ten years
        (120, (100, 140), 12, True),  # months for years
        (72, (50, 92), 120, False),  # a child far behind
        (20, (0, 37), 6, False),  # an infant, read too old
        (60, (40, 80), 480, True),  # a grown-up's age
        (190, (165, 240), 480, False),  # a grown-up
    ],
)
def test_compare_ages_tells_ages_that_do_not_belong_together(months, interval, age, is_far):
    assert compare(float(months), age=float(age), interval=interval).is_far == is_far
    assert compare(float(months), age=float(age), interval=interval, sex="male").is_far == is_far


def test_compare_ages_without_an_interval_uses_the_reference_alone():
    nothing = (math.nan, math.nan)
    assert compare(125.66 + 4.2 * 11.73, age=120, interval=nothing).is_far is False
    assert compare(125.66 + 4.4 * 11.73, age=120, interval=nothing).is_far is True
