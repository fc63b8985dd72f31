import numpy as np
import pandas as pd
import pytest

from boneage.cohorts.significance import determine, find_significant, mcnemar, wilcoxon
from boneage.inference.growth_reference import load_growth_reference

NAN = float("nan")


def test_mcnemar_gives_the_published_figures():
    # Santomartino et al. 2024, doi:10.1148/ryai.230240.
    test = mcnemar(121, 59)
    assert (round(test.statistic, 2), round(test.corrected, 2)) == (21.36, 20.67)
    assert test.p_value == pytest.approx(4.4e-6, rel=0.1)


@pytest.mark.parametrize(
    ("counts", "statistic", "p_value"),
    [((0, 0), None, 1.0), ((3, 3), 0.0, 1.0), ((5, 0), 5.0, 2 / 32), ((0, 5), 5.0, 2 / 32), ((1, 3), 1.0, 10 / 16)],
)
def test_mcnemar_of_few_pairs_is_exact(counts, statistic, p_value):
    test = mcnemar(*counts)
    assert (test.statistic, test.p_value) == (statistic, pytest.approx(p_value))


def test_wilcoxon_of_paired_changes():
    # All ten positive and of different size: two of 2**10 orders of signs are as extreme.
    assert wilcoxon(np.arange(1.0, 11)) == pytest.approx(2 / 2**10)
    assert wilcoxon(np.zeros(5)) is None


def test_determine_needs_sex_and_age_within_the_table():
    frame = pd.DataFrame(
        {
            "sex": ["female", "female", "female", None, "female", "female"],
            "chronological_age_months": [120.0, 120.0, 120.0, 120.0, NAN, 1.0],
        }
    )
    months = pd.Series([120.0, 70.0, 170.0, 120.0, 120.0, 120.0])
    found = determine(frame, months, reference=load_growth_reference())
    assert found == ["normal", "delayed", "advanced", "", "", ""]


def test_an_error_is_significant_if_it_changes_the_determination():
    significant, known = find_significant(
        ["normal", "normal", "delayed", "", "normal"],
        ["normal", "advanced", "normal", "normal", ""],
        np.array([30.0, 1.0, 1.0, 50.0, NAN]),
    )
    assert significant.tolist() == [False, True, True, False, False]
    assert known.tolist() == [True, True, True, False, False]


def test_without_ages_an_error_is_significant_beyond_two_years():
    significant, known = find_significant(["", "", ""], ["", "", ""], np.array([24.0, -24.1, NAN]))
    assert significant.tolist() == [False, True, False]
    assert known.tolist() == [True, True, False]
