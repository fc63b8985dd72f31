import shutil

import numpy as np
import openpyxl
import pytest

from boneage.studies.columns import ClinicTableError
from boneage.studies.visits import read_visits

PREDICTIONS = "id,bone_age_months,low_months,high_months,sex,accepted\n{}"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_read_visits_takes_a_table_that_says_it_all(tmp_path):
    table = write(
        tmp_path / "all.csv",
        "child,sex,chronological age (years),bone_age_years\n"
        "B,F,10.5,11\nA,M,9,8.5\nA,M,8,7.5\nA,M,,8\n,M,9,8\nA,M,10,\n",
    )
    visits = read_visits(table)
    assert visits.frame["child"].tolist() == ["A", "A", "B"]
    assert visits.frame["chronological_age_months"].tolist() == [96, 108, 126]
    assert visits.frame["bone_age_months"].tolist() == [90, 102, 132]
    assert visits.frame["sex"].tolist() == ["male", "male", "female"]
    assert visits.frame["low_months"].isna().all()
    assert (visits.num_refused, visits.num_without_child, visits.num_without_age) == (1, 1, 1)


def test_read_visits_joins_predictions_with_a_table_by_id(tmp_path):
    rows = "1,100.0,90.0,110.0,female,True\n2,,,,,False\n3,112.0,102.0,122.0,female,True\n4,99,90,110,male,True\n"
    predictions = write(tmp_path / "predictions.csv", PREDICTIONS.format(rows))
    sheet = openpyxl.Workbook()
    for cells in (("ID", "Child", "Sex", "Age in months"), (1, "x", "", 98), (2, "x", "F", 104), (3, "x", "M", 110)):
        sheet.active.append(cells)
    sheet.save(tmp_path / "children.xlsx")
    visits = read_visits(predictions, table=tmp_path / "children.xlsx")
    assert visits.frame["chronological_age_months"].tolist() == [98, 110]
    # A blank cell says nothing; what is written there replaces what the predictions say.
    assert visits.frame["sex"].tolist() == ["female", "male"]
    assert visits.frame["high_months"].tolist() == [110, 122]
    assert (visits.num_refused, visits.num_without_child) == (1, 1)


def test_read_visits_computes_ages_from_dates(tmp_path):
    rows = "A,100,2014-03-01,2024-03-01\nA,101,20140301,2024-09-01 00:00:00\nA,102,,2024-09-01\n"
    table = write(tmp_path / "dates.csv", f"child,bone_age_months,birth_date,date\n{rows}")
    visits = read_visits(table)
    assert visits.frame["chronological_age_months"].tolist() == pytest.approx([120, 126], abs=0.1)
    assert visits.num_without_age == 1


def test_read_visits_reads_children_from_dicom_headers(tmp_path, write_dicom):
    (tmp_path / "files").mkdir()
    for name, patient, born in (("1", "P-1", "20140115"), ("2", "P-1", "20140115"), ("3", "P-2", "20120601")):
        path = write_dicom(
            np.zeros((8, 8), np.uint8),
            SOPInstanceUID=f"1.2.3.{name}",
            PatientID=patient,
            PatientBirthDate=born,
            StudyDate=f"202{name}0115",
            PatientSex="F",
        )
        shutil.copy(path, tmp_path / "files" / f"{name}.dcm")
    rows = "".join(f"1.2.3.{name},10{name}.0,90,120,female,True\n" for name in "123")
    predictions = write(tmp_path / "predictions.csv", PREDICTIONS.format(rows))
    visits = read_visits(predictions, radiographs=tmp_path / "files")
    assert visits.frame["child"].tolist() == ["1", "1", "2"]
    assert visits.frame["chronological_age_months"].tolist() == [84.0, 96.0, 127.5]
    assert not visits.frame.astype(str).map(lambda cell: "P-" in cell).any(axis=None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("child,chronological_age_months\nA,100\n", "needs the columns bone_age_months"),
        ("id,bone_age_months\n1,100\n", "says not whose"),
        ("child,bone_age_months,age\nA,100,8\n", "may be years"),
        ("child,bone_age_months,age_years\nA,x,8\n", "row 2: bone_age_months is 'x'"),
        ("child,bone_age_months,age_years\nA,100,80\n", "row 2: age_years is '80'"),
        ("child,sex,bone_age_months,age_years\nA,girl,100,8\n", "row 2: sex 'girl' is not understood"),
        ("child,bone_age_months,birth_date,date\nA,100,01.03.2014,2024-03-01\n", "such as 2024-03-31"),
        ("child,bone_age_months,birth_date,date\nA,100,2014-02-30,2024-03-01\n", "such as 2024-03-31"),
        ("child,bone_age_months,birth_date,date\nA,100,2025-03-01,2024-03-01\n", "before the birth date"),
    ],
)
def test_read_visits_says_what_is_wrong(tmp_path, text, told):
    with pytest.raises(ClinicTableError, match=told):
        read_visits(write(tmp_path / "table.csv", text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,child,age_years\n7,A,8\n", "no id of it"),
        ("id,child,age_years\n1,A,8\n1,A,9\n", "1 has two rows"),
        ("id,age_years\n1,8\n", "child is missing"),
    ],
)
def test_read_visits_says_what_is_wrong_with_the_table(tmp_path, text, told):
    predictions = write(tmp_path / "predictions.csv", PREDICTIONS.format("1,100,90,110,F,True\n"))
    with pytest.raises(ClinicTableError, match=told):
        read_visits(predictions, table=write(tmp_path / "table.csv", text))


def test_read_visits_takes_one_source_of_children(tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        read_visits(tmp_path / "p.csv", table=tmp_path / "t.csv", radiographs=tmp_path)
