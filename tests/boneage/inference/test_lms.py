import numpy as np
import pytest

from boneage.inference.lms import find_lms_score, find_lms_value

CDC = {"power": -0.1600954, "median": 9.476500305, "deviation": 0.11218624}


def test_find_lms_score_gives_the_example_of_the_cdc():
    assert round(float(find_lms_score(9.7, **CDC)), 3) == 0.207


def test_find_lms_value_gives_the_deviations_of_the_who():
    # Heights of 2007: boys of 120 months, girls of 228 months; its tables state these standard deviations.
    boys = find_lms_value(np.array([-2.0, 0, 1]), power=1, median=137.7795, deviation=0.04626)
    girls = find_lms_value(np.array([-2.0, 0, 1]), power=1, median=163.1548, deviation=0.04009)
    assert boys == pytest.approx([137.7795 - 2 * 6.3737, 137.7795, 137.7795 + 6.3737], abs=1e-3)
    assert girls == pytest.approx([163.1548 - 2 * 6.5409, 163.1548, 163.1548 + 6.5409], abs=1e-3)


@pytest.mark.parametrize("power", [0.0, 1e-12, -1e-12, 1e-9])
def test_find_lms_score_is_a_logarithm_where_l_is_zero(power):
    assert find_lms_score(110, power=power, median=100, deviation=0.1) == pytest.approx(0.9531017980, abs=1e-9)
    assert find_lms_value(1, power=power, median=100, deviation=0.1) == pytest.approx(110.5170918, abs=1e-7)


@pytest.mark.parametrize("power", [-2.0, 0.0, 0.5, 1.0, 3.0])
def test_find_lms_value_is_the_inverse(power):
    scores = np.linspace(-3, 3, 7)
    values = find_lms_value(scores, power=power, median=120.0, deviation=0.09)
    assert (np.diff(values) > 0).all()
    assert find_lms_score(values, power=power, median=120.0, deviation=0.09) == pytest.approx(scores)


def test_find_lms_value_ends_where_no_measurement_has_the_score():
    assert find_lms_value(-6, power=1, median=10, deviation=0.2) == 0
    assert find_lms_value(6, power=-1, median=10, deviation=0.2) == np.inf
