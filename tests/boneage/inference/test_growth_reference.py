import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.inference.growth_reference import BRUSH_FOUNDATION, ReferenceTableError, load_growth_reference

BRUSH = load_growth_reference()


def test_a_bone_age_like_the_mean_scores_0_and_one_deviation_above_1():
    # Boys of ten in Greulich and Pyle: 125.68 months, standard deviation 9.79.
    assert BRUSH.name == "brush_foundation"
    assert BRUSH.sd_score(125.68, chronological_age_months=120, sex="male") == pytest.approx(0)
    assert BRUSH.sd_score(125.68 + 9.79, chronological_age_months=120, sex="male") == pytest.approx(1)
    assert BRUSH.sd_score(125.66 - 2 * 11.73, chronological_age_months=120.0, sex="female") == pytest.approx(-2)


def test_between_two_ages_it_is_interpolated():
    score = BRUSH.sd_score(120.0, chronological_age_months=114, sex="male")
    assert score == pytest.approx((120 - (113.90 + 125.68) / 2) / ((9.00 + 9.79) / 2))


@pytest.mark.parametrize(
    ("months", "sex"), [(None, "male"), (120, None), (2.9, "male"), (192.1, "female"), (205, "male")]
)
def test_what_the_table_does_not_reach_has_no_score(months, sex):
    assert math.isnan(BRUSH.sd_score(120.0, chronological_age_months=months, sex=sex))


@given(age=st.floats(3, 192), bone=st.floats(0, 228), sex=st.sampled_from(["female", "male"]))
def test_an_older_bone_age_scores_higher(age, bone, sex):
    low, high = (BRUSH.sd_score(bone_age, chronological_age_months=age, sex=sex) for bone_age in (bone, bone + 1))
    assert np.isfinite([low, high]).all() and high > low


def test_the_table_rises():
    for rows in BRUSH.rows.values():
        assert (np.diff(rows[:, :2], axis=0) > 0).all() and (rows[:, 2] > 0).all()


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "ours.csv"
    path.write_text("sex,chronological_age_months,mean_months,sd_months\nmale,120,130,10\nmale,108,110,8\n")
    ours = load_growth_reference(path)
    assert ours.sd_score(140, chronological_age_months=120, sex="male") == 1
    assert math.isnan(ours.sd_score(140, chronological_age_months=120, sex="female"))
    assert (ours.name, ours.digest != BRUSH.digest) == ("ours", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory; check the path of the reference"),
        ("", "cannot be read as CSV"),
        ("sex,chronological_age_months,mean_months\nmale,1,1\n", "no column sd_months"),
        ("sex,chronological_age_months,mean_months,sd_months\nboy,1,1,1\n", "a sex other than female or male"),
        ("sex,chronological_age_months,mean_months,sd_months\nmale,1,1,0\n", "not a positive number"),
        ("sex,chronological_age_months,mean_months,sd_months\nmale,1,x,1\n", "not a positive number"),
        ("sex,chronological_age_months,mean_months,sd_months\nmale,1,1,1\nmale,1,2,1\n", "duplicate ages"),
        ("sex,chronological_age_months,L,M\nmale,1,1,1\n", "no column mean_months; .*L, M, S"),
        ("sex,chronological_age_months,L,M,S\nmale,1,1,0,0.1\n", "not a positive number"),
        ("sex,chronological_age_months,L,M,S\nmale,1,x,1,0.1\n", "L that is no number"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(text, message, tmp_path):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReferenceTableError, match=f"table.csv: .*{message}"):
        load_growth_reference(path)


def test_the_table_that_ships_is_there():
    assert BRUSH_FOUNDATION.read_text(encoding="utf-8").count("\n") == 1 + 23 + 24


def test_a_table_of_l_m_and_s_gives_the_examples_of_the_cdc_and_the_who(tmp_path):
    (tmp_path / "ours.csv").write_text(
        "sex,chronological_age_months,L,M,S,mean_months,sd_months\n"
        "male,9,-0.1600954,9.476500305,0.11218624,1,1\n"
        "male,120,1,137.7795,0.04626,1,1\n"
        "female,228,1,163.1548,0.04009,1,1\n"
        "female,240,0,100,0.1,1,1\n"
    )
    ours = load_growth_reference(tmp_path / "ours.csv")
    assert round(ours.sd_score(9.7, chronological_age_months=9, sex="male"), 3) == 0.207
    for value, age, sex, score in (
        (137.7795 - 2 * 6.3737, 120, "male", -2),
        (163.1548 + 6.5409, 228, "female", 1),
        (110.51709181, 240, "female", 1),
    ):
        assert ours.sd_score(value, chronological_age_months=age, sex=sex) == pytest.approx(score, abs=2e-5)
        assert ours.at(age, sex=sex).value(score) == pytest.approx(value, abs=2e-4)


def test_l_m_and_s_are_interpolated(tmp_path):
    (tmp_path / "ours.csv").write_text(
        "sex,chronological_age_months,L,M,S\nmale,96,1,100,0.1\nmale,108,0.5,110,0.08\nmale,120,-1,125,0.07\n"
    )
    ours = load_growth_reference(tmp_path / "ours.csv")
    score = ours.sd_score(120, chronological_age_months=102, sex="male")
    assert score == pytest.approx(((120 / 105) ** 0.75 - 1) / (0.75 * 0.09))
    assert ours.at(102, sex="male").value(score) == pytest.approx(120)
    # Where L is negative, a bone age of 0 has no score of its own.
    assert -1e5 < ours.sd_score(0, chronological_age_months=120, sex="male") < -100


def test_the_packaged_table_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_growth_reference("brush_foundation").digest == BRUSH.digest
