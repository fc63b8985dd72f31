import pytest

from boneage.studies.columns import BONE_AGE, CHRONOLOGICAL_AGE, ClinicTableError, read_columns

COLUMNS = {"chronological_age_months": CHRONOLOGICAL_AGE, "bone_age_months": BONE_AGE}


def read(text, path):
    path.write_text(text)
    return read_columns(path, COLUMNS)


@pytest.mark.parametrize("heading", ["age_months,bone_age_months", "bone_age_months,age_months"])
def test_read_columns_of_two_units(heading, tmp_path):
    with pytest.raises(ClinicTableError, match="one of them has another unit than its heading states"):
        read(f"{heading}\n8,100\n10.5,120\n12,\n", tmp_path / "table.csv")


def test_read_columns_of_children_far_behind_and_of_infants(tmp_path):
    # Untreated hypothyroidism; a newborn; a blank cell.
    for text in ("60,12\n48,9\n", "0.5,6\n", ",6\n"):
        assert len(read(f"age_months,bone_age_months\n{text}", tmp_path / "table.csv")) == text.count("\n")
