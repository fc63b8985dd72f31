import pytest

from boneage.base.errors import BoneAgeError
from boneage.cohorts.labelled import BLANK, CohortError, find_labelled


def test_find_labelled_lists_what_it_leaves_out(hospital):
    labelled = find_labelled(hospital / "radiographs", table=hospital / "labels.csv", columns=("device",))
    assert [case.id for case in labelled.cases] == ["1", "2", "3", "4", "5"]
    assert labelled.left_out == {"missing_file": 1, "no_row": 1}
    frame = labelled.frame.set_index("id")
    assert frame.loc["2", ["sex", "bone_age_months", "device"]].tolist() == ["male", 60.0, "Agfa"]
    assert frame.loc["4", "device"] == BLANK
    # Two radiographs of the first patient, one of each other.
    assert frame["group"].tolist() == [0, 0, 1, 2, 3]


def test_find_labelled_of_a_table_alone_takes_every_row(hospital):
    table = hospital / "alone.csv"
    table.write_text("file,bone_age_years,sex\na/1.png,10,F\n2.png,,F\n,9,F\n4.png,400,F\n")
    labelled = find_labelled(None, table=table)
    assert [(case.id, case.bone_age_months) for case in labelled.cases] == [("a/1", 120.0)]
    assert labelled.left_out == {"no_id": 1, "bad_age": 1, "no_bone_age": 1}


def test_the_sex_to_group_by_is_that_of_any_heading(tmp_path):
    (tmp_path / "labels.csv").write_text("id,boneage,male\n1,50,True\n2,60,False\n3,70,\n")
    labelled = find_labelled(None, table=tmp_path / "labels.csv", columns=("sex",))
    assert labelled.frame["sex"].fillna(BLANK).tolist() == ["male", "female", BLANK]


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("id,sex\n1,F\n", (), "bone_age"),
        ("id,bone_age_months\n1,\n", (), "no radiograph has a bone age.*no_bone_age 1"),
        ("id,bone_age_months\n1,50\n", ("devise",), "has no column 'devise'"),
        ("id,bone_age_months,group\n1,50,a\n", ("group",), "must not be called 'group'"),
        ("id,bone_age_months\n1,50\n1,51\n", (), "another row with other values"),
        ("id,bone_age\n1,5\n2,7\n", (), "may be years"),
    ],
)
def test_find_labelled_says_what_is_wrong(tmp_path, text, columns, told):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(BoneAgeError, match=told):
        find_labelled(None, table=tmp_path / "labels.csv", columns=columns)


def test_find_labelled_needs_files_or_a_table():
    with pytest.raises(ValueError, match="both missing"):
        find_labelled(None, table=None)


def test_find_labelled_refuses_rows_that_differ_in_a_further_column(hospital):
    table = hospital / "labels.csv"
    table.write_text("id,bone_age_months,sex,device\n1,50,F,Agfa\n1,50,F,Canon\n")
    with pytest.raises(CohortError, match="conflicting_rows 2"):
        find_labelled(hospital / "radiographs", table=table, columns=("device",))
    assert len(find_labelled(hospital / "radiographs", table=table).cases) == 1
