import numpy as np
import pandas as pd
import pytest

from boneage.cohorts.cohort import join_answers
from boneage.cohorts.notes import find_whole_years_share, list_notes

SEEDED = {"num_resamples": 200, "seed": 0}
LABELS = 50 + np.arange(40)


def make_notes(cohort):
    labelled, answers = cohort
    return list_notes(join_answers(labelled, answers), labelled.columns, **SEEDED)


def test_a_good_cohort_has_no_notes(make_cohort):
    errors = np.tile([-4, 4], 20)
    assert make_notes(make_cohort(LABELS, errors, columns={"device": ["a", "a", "b", "b"] * 10})) == []


@pytest.mark.parametrize(("bias", "num_notes"), [(5.9, 0), (6.1, 1), (-18, 1)])
def test_a_bias_is_noted_beyond_half_a_year(make_cohort, bias, num_notes):
    notes = make_notes(make_cohort(LABELS, bias + np.tile([-1, 1], 20)))
    assert len(notes) == num_notes
    assert all(f"bias {bias:+.1f} [" in note and "beyond 6" in note for note in notes)


def test_a_bias_that_may_be_chance_is_not_noted(make_cohort):
    assert make_notes(make_cohort([50, 61, 71], [-30, 10, 40])) == []


def test_the_bias_of_a_group_is_that_beside_the_others(make_cohort):
    cells = ["new"] * 10 + ["old"] * 30
    errors = np.where(np.array(cells) == "new", 12, 0)
    notes = make_notes(make_cohort(LABELS, errors, columns={"device": cells}))
    assert [note.partition(":")[0] for note in notes] == ["device new", "device old"]
    assert "+12.0 [+12.0, +12.0]" in notes[0]
    cells[0] = "old"  # nine are too few
    assert make_notes(make_cohort(LABELS, errors, columns={"device": cells})) == []


def test_refusals_are_noted_beyond_a_tenth(make_cohort):
    errors = np.zeros(40)
    errors[:4] = np.nan
    assert make_notes(make_cohort(LABELS, errors)) == []
    errors[4] = np.nan
    assert make_notes(make_cohort(LABELS, errors))[0].startswith("all: 12% refused, beyond 10%")


def test_whole_years_are_noted_beyond_half(make_cohort):
    labels = np.where(np.arange(40) < 20, 120, 121)
    assert make_notes(make_cohort(labels, np.zeros(40))) == []
    labels[30] = 132
    assert make_notes(make_cohort(labels, np.zeros(40)))[0].startswith("52% of the labels are whole years")


def test_find_whole_years_share_allows_for_rounding():
    assert find_whole_years_share(pd.Series([12.0, 24.04, 126.0, 11.96])) == 0.75


def test_unknown_sexes_are_noted(make_cohort):
    labelled, answers = make_cohort(LABELS, np.tile([-1, 1], 20))
    frame = join_answers(labelled, answers)
    frame.loc[:6, "sex"] = None
    (note,) = list_notes(frame, (), **SEEDED)
    assert note.startswith("7 of 40 labelled radiographs have no sex")
