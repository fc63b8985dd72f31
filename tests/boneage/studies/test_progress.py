import math

import numpy as np
import pandas as pd
import pytest

from boneage.inference.growth_reference import load_growth_reference
from boneage.studies.progress import ACCELERATED, AS_EXPECTED, SLOWED, Visit, find_courses, find_error, measure_step
from boneage.studies.visits import Visits


def make_visit(age, bone_age, error=5.0):
    return Visit(age, bone_age, None, None, error, None, 1)


def make_visits(*rows):
    names = ["child", "sex", "chronological_age_months", "bone_age_months", "low_months", "high_months"]
    return Visits(pd.DataFrame(rows, columns=names), 0, 0, 0)


def test_find_error_is_half_the_width_over_the_quantile():
    # A normal error of 10 months lies within 16.45 months in 90%, and within 19.6 in 95%.
    assert find_error(100 - 16.449, 100 + 16.449) == pytest.approx(10, abs=1e-3)
    assert find_error(100 - 19.600, 100 + 19.600, coverage_share=0.95) == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("interval", [(math.nan, math.nan), (165.0, 240.0)])
def test_find_error_of_no_interval_or_an_open_one_is_unknown(interval):
    assert find_error(*interval) is None


def test_measure_step_gives_velocity_error_and_smallest_real_change():
    step = measure_step(make_visit(100, 110, error=3), make_visit(124, 140, error=4))
    assert step.change_months == 30
    assert step.velocity == pytest.approx(15)
    # The errors of both add up to 5 months, over two years.
    assert step.velocity_error == pytest.approx(2.5)
    assert (step.velocity_low, step.velocity_high) == pytest.approx((15 - 4.9, 15 + 4.9))
    assert step.smallest_change_months == pytest.approx(9.8)
    assert step.is_real


@pytest.mark.parametrize(
    ("bone_age", "pace"), [(126.0, ACCELERATED), (125.8, AS_EXPECTED), (98.2, AS_EXPECTED), (98.0, SLOWED)]
)
def test_measure_step_flags_what_lies_beyond_the_error(bone_age, pace):
    # 12 months pass; 1.96 * sqrt(2) * 5 = 13.86 months are within the error.
    assert measure_step(make_visit(100, 100), make_visit(112, bone_age)).pace == pace


def test_measure_step_without_error_judges_nothing():
    step = measure_step(make_visit(100, 100, error=None), make_visit(112, 150))
    assert step.velocity == pytest.approx(50)
    assert {step.velocity_error, step.smallest_change_months, step.is_real, step.pace} == {None}


def test_measure_step_needs_time_to_pass():
    with pytest.raises(ValueError, match="later"):
        measure_step(make_visit(100, 100), make_visit(100, 101))


def test_measure_step_calls_a_steady_child_accelerated_or_slowed_in_5_percent():
    rng = np.random.default_rng(0)
    first, second = rng.normal(100, 6, 4000), rng.normal(112, 8, 4000)
    steps = [
        measure_step(make_visit(100, one, error=6), make_visit(112, other, error=8))
        for one, other in zip(first, second, strict=True)
    ]
    assert np.mean([step.pace != AS_EXPECTED for step in steps]) == pytest.approx(0.05, abs=0.01)
    assert np.mean([step.velocity_low <= 12 <= step.velocity_high for step in steps]) == pytest.approx(0.95, abs=0.01)


def test_find_courses_joins_radiographs_of_one_day_and_keeps_their_error():
    visits = make_visits(
        ("A", "female", 100, 110, 100, 120), ("A", "female", 100, 114, 104, 124), ("A", "", 112, 123, 113, 133)
    )
    (course,) = find_courses(visits, reference=load_growth_reference())
    assert course.sex == "female"
    assert [visit.bone_age_months for visit in course.visits] == [112, 123]
    assert [visit.num_radiographs for visit in course.visits] == [2, 1]
    assert course.visits[0].error_months == course.visits[1].error_months == find_error(100, 120)
    assert course.steps == [course.overall]


def test_find_courses_takes_the_score_from_the_reference():
    # Of boys of 120 months: mean 125.68, standard deviation 9.79.
    visits = make_visits(("A", "male", 120, 125.68 - 2 * 9.79, 100, 120), ("A", "male", 400, 130, 120, 140))
    (course,) = find_courses(visits, reference=load_growth_reference())
    assert course.visits[0].sds == pytest.approx(-2)
    assert course.visits[1].sds is None


def test_find_courses_tells_of_what_is_doubtful():
    visits = make_visits(
        ("one", "male", 100, 110, 100, 120),
        ("both", "male", 100, 110, 100, 120),
        ("both", "female", 110, 120, 110, 130),
        ("none", "", 100, 110, math.nan, math.nan),
        ("none", "", 110, 120, math.nan, math.nan),
        ("open", "male", 180, 190, 180, 200),
        ("open", "male", 192, 205, 195, 240),
    )
    courses = {course.child: course for course in find_courses(visits, reference=load_growth_reference())}
    assert "one visit" in courses["one"].remarks[0] and courses["one"].overall is None
    assert "both sexes" in courses["both"].remarks[0] and courses["both"].sex is None
    assert [text.partition(":")[0] for text in courses["none"].remarks] == ["sex unknown", "no interval"]
    assert "end of growth" in courses["open"].remarks[0] and courses["open"].overall.pace is None
    assert courses["open"].visits[1].high_months is None


def test_find_courses_takes_a_given_error_but_not_near_the_end_of_growth():
    visits = make_visits(
        ("A", "male", 180, 190, 170, 210), ("A", "male", 192, 205, 190, 220), ("A", "male", 200, 210, 200, 240)
    )
    (course,) = find_courses(visits, reference=load_growth_reference(), error_months=2.0)
    assert [visit.error_months for visit in course.visits] == [2.0, 2.0, None]
