import numpy as np
import pytest

from boneage.cohorts.cohort import (
    MAX_LEVELS,
    Cohort,
    compare_answered,
    join_answers,
    measure_answered,
    measure_beside,
    measure_group,
    measure_groups,
    split_groups,
)
from boneage.cohorts.labelled import BLANK, CohortError

SEEDED = {"num_resamples": 50, "seed": 0}
NAN = float("nan")


def test_measure_group_counts_a_refusal_as_a_miss_of_all(make_cohort):
    group = measure_group(join_answers(*make_cohort([50, 60, 70, 80], [3, -9, 30, NAN])), **SEEDED)
    assert (group.num_images, group.num_refused, group.reasons) == (4, 1, {"no_hand": 1})
    assert group.answered.num_images == 3
    assert group.answered.mae_months.value == pytest.approx(14)
    assert group.answered.bias_months.value == pytest.approx(8)
    assert group.answered.share_within_12_months.value == pytest.approx(2 / 3)
    assert group.share_within_12_months.value == pytest.approx(2 / 4)
    assert group.answered_share.value == pytest.approx(3 / 4)


def test_measure_group_of_refusals_alone_has_no_error(make_cohort):
    group = measure_group(join_answers(*make_cohort([50, 60], [NAN, NAN])), **SEEDED)
    assert group.answered is None
    assert (group.answered_share.value, group.share_within_24_months.value) == (0, 0)


def test_measure_answered_measures_coverage_of_those_answered(make_cohort):
    labelled, answers = make_cohort([50, 60, 70, 80], [3, -9, 5, NAN])
    evaluation = measure_answered(join_answers(labelled, answers), answers, name="here", **SEEDED)
    assert evaluation.overall.num_images == 3
    assert evaluation.coverage["coverage_share"] == 0.9
    assert evaluation.coverage["measured_coverage_share"] == pytest.approx(2 / 3, abs=1e-4)


def test_measure_answered_without_any_answer_names_the_reasons(make_cohort):
    labelled, answers = make_cohort([50, 60], [NAN, NAN])
    with pytest.raises(CohortError, match="no answer for any of 2 labelled radiographs: no_hand 2"):
        measure_answered(join_answers(labelled, answers), answers, name="here", **SEEDED)


def test_intervals_are_clustered_by_patient(make_cohort):
    errors, labels = np.tile([0.0, 10.0], 20), [50] * 40
    patients = ["even", "odd"] * 20
    wide = measure_group(join_answers(*make_cohort(labels, errors, patients=patients)), **SEEDED)
    narrow = measure_group(join_answers(*make_cohort(labels, errors)), **SEEDED)
    assert (wide.answered.mae_months.low, wide.answered.mae_months.high) == (0, 10)
    assert narrow.answered.mae_months.high - narrow.answered.mae_months.low < 5


def test_measure_groups_gives_each_cell_its_figures(make_cohort):
    frame = join_answers(*make_cohort([50, 60, 70], [1, 3, NAN], columns={"device": ["b", BLANK, "a"]}))
    groups = measure_groups(frame, ("device",), **SEEDED)["device"]
    assert list(groups) == ["a", "b", BLANK]
    assert [group.num_refused for group in groups.values()] == [1, 0, 0]
    assert groups["b"].answered.mae_months.value == 1


def test_split_groups_puts_what_is_not_known_last(make_cohort):
    frame = join_answers(*make_cohort([50, 60, 70], [0, 0, 0])).assign(sex=["male", None, "female"])
    assert list(split_groups(frame, "sex")) == ["female", "male", BLANK]


def test_split_groups_refuses_a_column_of_measurements(make_cohort):
    number = MAX_LEVELS + 1
    cells = [str(index) for index in range(number)]
    frame = join_answers(*make_cohort([50] * number, [0] * number, columns={"kvp": cells}))
    with pytest.raises(CohortError, match=f"'kvp' has {number} different cells"):
        split_groups(frame, "kvp")


def test_compare_answered_takes_what_both_answered(make_cohort):
    one = join_answers(*make_cohort([50, 60, 70], [1, NAN, 3]))
    other = join_answers(*make_cohort([50, 60, 70], [4, 0, NAN]))
    compared = compare_answered(one, other.iloc[::-1], **SEEDED)
    assert (compared.num_images, compared.difference_months.value) == (1, -3)
    assert compare_answered(one.iloc[1:2], other.iloc[1:2], **SEEDED) is None


def test_measure_beside_compares_within_groups(make_cohort):
    columns = {"device": ["a", "a", "b"]}
    one = join_answers(*make_cohort([50, 60, 70], [1, 1, 1], columns=columns))
    other = join_answers(*make_cohort([50, 60, 70], [3, 5, 1], columns=columns))
    beside = measure_beside(one, other, ("device",), **SEEDED)
    assert beside.overall.answered.mae_months.value == 3
    assert {level: found.difference_months.value for level, found in beside.paired_by["device"].items()} == {
        "a": -3,
        "b": 0,
    }


def test_table_has_a_row_for_each_group(make_cohort):
    labelled, answers = make_cohort([50, 60, 70, 80], [3, -9, 30, NAN])
    frame = join_answers(labelled, answers)
    cohort = Cohort(
        system="bundle",
        evaluation=measure_answered(frame, answers, name="here", **SEEDED),
        overall=measure_group(frame, **SEEDED),
        by=measure_groups(frame, ("sex",), **SEEDED),
        beside={},
        left_out={},
        whole_years_share=0.0,
    )
    table = cohort.table()
    assert table.index[0] == ("", "all")
    assert {by for by, _ in table.index[1:]} == {"sex"}
    row = table.loc[("", "all")]
    assert (row["num_images"], row["num_refused"]) == (4, 1)
    assert row["mae_months"] == cohort.evaluation.error
    assert row["share_within_12_months"] == pytest.approx(2 / 4)
