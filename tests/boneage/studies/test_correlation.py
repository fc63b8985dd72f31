"""Correlations: the worked examples of the papers, to the last digit that they give."""

import dataclasses
import math

import pandas as pd
import pytest

from boneage.studies.correlation import correlate, find_mean_squares, krippendorff_alpha

NAN = math.nan
# Shrout and Fleiss 1979, table 2: six targets, four judges.
TARGETS = pd.DataFrame(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
# Krippendorff 2011: four observers, twelve units, gaps.
UNITS = pd.DataFrame(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_correlate_gives_the_example_of_shrout_and_fleiss():
    found = correlate(TARGETS)
    assert found.num_radiographs == 6
    rounded = {name: f"{estimate.value:.2f}" for name, estimate in found.values.items()}
    assert rounded == {
        "ICC(1,1)": "0.17",
        "ICC(2,1)": "0.29",
        "ICC(3,1)": "0.71",
        "ICC(1,k)": "0.44",
        "ICC(2,k)": "0.62",
        "ICC(3,k)": "0.91",
    }
    # Of unrounded ends, the value lies between.
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values.values())
    assert found.values["ICC(2,1)"].low == pytest.approx(0.0188, abs=1e-4)


def test_find_mean_squares_gives_the_example_of_shrout_and_fleiss():
    found = find_mean_squares(TARGETS.to_numpy())
    rounded = {name: f"{value:.2f}" for name, value in dataclasses.asdict(found).items()}
    assert rounded == {"between": "11.24", "within": "6.26", "readers": "32.49", "error": "1.02"}


def test_correlate_leaves_out_what_not_all_have_read():
    gaps = pd.concat([TARGETS, pd.DataFrame([[9, NAN, 5, 8]])])
    assert correlate(gaps) == correlate(TARGETS)
    assert correlate(TARGETS.iloc[:2]) is None
    assert correlate(TARGETS[[0]]) is None


def test_krippendorff_alpha_gives_the_example_with_gaps():
    assert round(krippendorff_alpha(UNITS).value, 3) == 0.849


@pytest.mark.parametrize("wide", [UNITS[[0]], pd.DataFrame([[3.0, 3.0], [3.0, 3.0]]), UNITS.iloc[:0]])
def test_krippendorff_alpha_of_nothing_to_compare_is_unknown(wide):
    assert krippendorff_alpha(wide) is None
