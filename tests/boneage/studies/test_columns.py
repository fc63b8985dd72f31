import pytest

from boneage.studies.columns import BONE_AGE, CHRONOLOGICAL_AGE, ClinicTableError, read_columns

COLUMNS = {"chronological_age_months": CHRONOLOGICAL_AGE, "bone_age_months": BONE_AGE}


def read(text, path):
    path.write_text(text)
    return read_columns(path, COLUMNS)


def test_read_columns_of_two_units(tmp_path):
    with pytest.raises(ClinicTableError, match="one of them has another unit than its heading states"):
        read("bone_age_months,age_months\n8,100\n10.5,120\n12,\n", tmp_path / "table.csv")


@pytest.mark.parametrize(
    "text",
    [
        "age_months,bone_age_months\n8,8.5\n10.5,11\n12,\n",
        "age_months,bone_age_months\n8,100\n10.5,120\n",
        "Chronological age (months)\n8\n10.5\n",
    ],
)
def test_read_columns_of_years_whose_heading_states_months(text, tmp_path):
    with pytest.raises(ClinicTableError, match="may be years; name it `chronological_age_years`, and give the ages of"):
        read(text, tmp_path / "table.csv")


def test_read_columns_of_infants(tmp_path):
    assert read("age_years,bone_age_months\n0.5,6\n1.5,15\n", tmp_path / "table.csv").max().tolist() == [18, 15]
    assert read("bone_age_months\n6\n15\n", tmp_path / "table.csv")["bone_age_months"].tolist() == [6, 15]


def test_read_columns_of_children_far_behind(tmp_path):
    # Untreated hypothyroidism; a newborn among others; a blank cell.
    for text in ("60,12\n48,9\n", "0.5,6\n22,20\n", ",6\n"):
        assert len(read(f"age_months,bone_age_months\n{text}", tmp_path / "table.csv")) == text.count("\n")
