import openpyxl
import pytest

from boneage.preprocessing.sources.cells import UnreadableTableError
from boneage.preprocessing.sources.sources import Case, find_cases
from boneage.preprocessing.sources.tables import MAX_AGE_MONTHS, read_table


def find_with_table(folder, table, *, images=("1",), age_unit="months"):
    """Find the cases of one folder with the given images, which nobody opens, and `labels.csv`."""
    for name in images:
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return find_cases(folder, table=folder / "labels.csv", age_unit=age_unit)


def reasons(rejections):
    return sorted((rejection.id, rejection.reason) for rejection in rejections)


def test_all_columns(tmp_path):
    table = (
        "File Name,Bone_Age (Months),Gender,Chronological Age (months),Patient ID,Split,Remark\n"
        'scan-1.png,120.5,f,118,P7,test,"left, old"\n'
        "scan-2.png,,Male,,,,\n"
    )
    cases, rejections = find_with_table(tmp_path, table, images=["scan-1", "scan-2"])
    first, second = cases
    assert rejections == []
    assert (first.id, first.sex, first.bone_age_months, first.split) == ("scan-1", "female", 120.5, "test")
    assert first.chronological_age_months == 118.0
    assert first.patient is not None
    assert "P7" not in first.patient
    assert second == Case("scan-2", tmp_path / "scan-2.png", "scan-2.png", sex="male")


def test_equal_patients_have_equal_hashes(tmp_path):
    table = "id,patient\n1,A\n2,A\n3,B\n"
    first, second, third = find_with_table(tmp_path, table, images="123")[0]
    assert first.patient == second.patient != third.patient


@pytest.mark.parametrize(
    "content",
    [
        b"id,boneage,male\n007,12,True\n",
        b"\xef\xbb\xbfid,boneage,male\r\n007,12,True\r\n\r\n",
        b"id;boneage;male;;\r\n007;12;1;;\r\n",
        b'"id"\t"boneage"\t"male"\n"007"\t"12"\t"1.0"\n',
    ],
)
def test_dialects(tmp_path, content):
    cases, rejections = find_with_table(tmp_path, content, images=["007"])
    assert [(case.id, case.bone_age_months, case.sex) for case in cases] == [("007", 12.0, "male")]
    assert rejections == []


def test_excel_keeps_ids(tmp_path):
    for name in ("007.png", "1377.png"):
        (tmp_path / name).touch()
    book = openpyxl.Workbook()
    for row in (["id", "male", "boneage"], ["007", True, 9], [1377.0, 0, 9.5]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    cases, rejections = find_cases(tmp_path, table=tmp_path / "t.xlsx", age_unit="months")
    assert [(case.id, case.sex, case.bone_age_months) for case in cases] == [
        ("007", "male", 9.0),
        ("1377", "female", 9.5),
    ]
    assert rejections == []


def test_path_relative_to_source_is_compared(tmp_path):
    table = "path,boneage\na/1.png,5\n.\\a\\2.png,6\n"
    cases, rejections = find_with_table(tmp_path, table, images=["a/1", "b/2"])
    assert [case.id for case in cases] == ["1"]
    assert [rejection.reason for rejection in rejections] == ["missing_file", "no_row"]


def test_decomposed_and_composed_names_are_one(tmp_path):
    cases, rejections = find_with_table(tmp_path, "id,boneage\nJos\u00e9,5\n", images=["Jose\u0301"])
    assert [case.id for case in cases] == ["Jos\u00e9"]
    assert rejections == []


def test_without_sex_column_sex_is_unknown(tmp_path):
    cases, _ = find_with_table(tmp_path, "id,boneage\n1,5\n")
    assert cases[0].sex is None


@pytest.mark.parametrize("age", ["-3", "0", "900", "abc", "1,2,5", "nan", "inf", "1e2", "1_0", "300.1"])
@pytest.mark.parametrize("column", ["boneage", "chronological_age_months"])
def test_bad_age(tmp_path, age, column):
    cases, rejections = find_with_table(tmp_path, f'id,{column}\n1,"{age}"\n')
    assert cases == []
    assert reasons(rejections) == [("1", "bad_age")]
    assert rejections[0].file == "1.png"
    assert "labels.csv row 2" in rejections[0].detail
    assert age in rejections[0].detail


def test_oldest_age(tmp_path):
    assert find_with_table(tmp_path, "id,boneage\n1,300\n")[0][0].bone_age_months == MAX_AGE_MONTHS


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,5,femal", "sex_unknown"),
        ("1,5,1", "sex_unknown"),
        ("1,5,F,tset", "bad_split"),
        ("1,5,F,test,surplus", "bad_row"),
        (",5,F", "no_id"),
        ("2,5,F", "missing_file"),
    ],
)
def test_bad_rows(tmp_path, row, reason):
    cases, rejections = find_with_table(tmp_path, f"id,boneage,sex,split\n{row}\n")
    assert cases == []
    assert reason in [rejection.reason for rejection in rejections]


def test_misspelt_split_names_the_closest(tmp_path):
    _, [rejection] = find_with_table(tmp_path, "id,split\n1,validaton\n")
    assert "Did you mean 'validation'?" in rejection.detail


@pytest.mark.parametrize(
    "id",
    ["../../etc/passwd", "/etc/passwd", "a/../../1", "..\\1", "C:\\1.png", "C:1", "1\0", "a?b", ".", "x" * 201],
)
def test_unsafe_ids(tmp_path, id):
    cases, rejections = find_with_table(tmp_path, f"id,boneage\n{id},5\n")
    assert cases == []
    assert [rejection.reason for rejection in rejections] == ["unsafe_id", "no_row"]
    assert rejections[0].detail.isprintable()
    assert rejections[0].id.isprintable()


def test_identical_rows_are_kept_once(tmp_path):
    cases, rejections = find_with_table(tmp_path, "id,boneage\n1,5\n\n1.png,5\n1,5\n")
    assert [case.bone_age_months for case in cases] == [5.0]
    assert reasons(rejections) == [("1", "duplicate_row")] * 2
    assert "row 4" in rejections[0].detail


def test_conflicting_rows_are_all_rejected(tmp_path):
    cases, rejections = find_with_table(tmp_path, "id,boneage\n1,5\n1,6\n1,5\n")
    assert cases == []
    assert reasons(rejections) == [("1", "conflicting_rows")] * 3


def test_file_without_row(tmp_path):
    cases, rejections = find_with_table(tmp_path, "id,boneage\n1,5\n", images="12")
    assert [case.id for case in cases] == ["1"]
    assert reasons(rejections) == [("2", "no_row")]


def test_unreadable_tables(tmp_path):
    for content, message in [
        ("name,age\n1,5\n", "Received: name, age. Expected: file as one of id, imageid"),
        ("", "is empty"),
        ("id,n\xe4me\n".encode("latin-1"), "UTF-8"),
        (b"PK\x03\x04 damaged", "xlsx"),
        ('id,boneage\n"1,5\n', "unexpected end of data"),
    ]:
        with pytest.raises(UnreadableTableError) as caught:
            find_with_table(tmp_path, content)
        assert message in str(caught.value)
        assert str(tmp_path / "labels.csv") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_table(tmp_path):
    (tmp_path / "1.png").touch()
    with pytest.raises(UnreadableTableError, match="No such file"):
        find_cases(tmp_path, table=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("sex", ("M", "m", "male", "MALE", " Male"), "male"),
        ("Gender", ("F", "f", "female", "FEMALE "), "female"),
        ("male", ("True", "TRUE", "1", "1.0", "WAHR", "VRAI", "VERDADERO", "M"), "male"),
        ("male", ("False", "0", "FALSCH", "FAUX", "FALSO", "F"), "female"),
        ("female", ("True", "1", "WAHR", "VRAI", "VERDADERO"), "female"),
        ("Female", ("False", "0", "0.0", "FALSCH"), "male"),
        ("sex (1=male, 0=female)", ("1", "1.0"), "male"),
        ("Sex: 1 = F 2 = M", ("2", "M"), "male"),
    ],
)
def test_sex_by_cell_and_heading(tmp_path, header, cells, expected):
    images = [f"{number}" for number in range(len(cells))]
    table = f'id,"{header}"\n' + "".join(f'{id},"{cell}"\n' for id, cell in zip(images, cells, strict=True))
    cases, rejections = find_with_table(tmp_path, table, images=images)
    assert [case.sex for case in cases] == [expected] * len(cells)
    assert rejections == []


@pytest.mark.parametrize(
    ("header", "cell"), [("sex", "1"), ("sex", "W"), ("sex", "True"), ("male", "2"), ("female", "F"), ("male", "maybe")]
)
def test_sex_that_is_not_understood_is_shown_and_not_guessed(tmp_path, header, cell):
    cases, [rejection] = find_with_table(tmp_path, f"id,{header}\n1,{cell}\n")
    assert cases == []
    assert rejection.reason == "sex_unknown"
    assert repr(cell) in rejection.detail


@pytest.mark.parametrize(
    "table",
    [
        "id,path\n1377,../input/rsna/1377.png\n",
        "path,id\n/kaggle/input/1377.png,1377\n",
        "image,id\nscan of 1377,1377\n",
        "id\n1377.0\n",
        "sep=;\nid;boneage\n1377;168,5\n",
        "sep=,\r\nid,remark\r\n1377,a;b;c\r\n",
    ],
)
def test_tables_as_people_have_them(tmp_path, table):
    cases, rejections = find_with_table(tmp_path, table, images=["1377"])
    assert [case.id for case in cases] == ["1377"]
    assert rejections == []


def test_columns_that_name_different_files_are_refused(tmp_path):
    cases, rejections = find_with_table(tmp_path, "id,path\n1,2.png\n", images="12")
    assert cases == []
    assert [rejection.reason for rejection in rejections] == ["bad_row", "no_row", "no_row"]


@pytest.mark.parametrize("age", ["12,5", "12.5"])
def test_decimal_comma(tmp_path, age):
    cases, _ = find_with_table(tmp_path, f"id;boneage\n1;{age}\n")
    assert [case.bone_age_months for case in cases] == [12.5]


@pytest.mark.parametrize("column", ["boneage", "Bone Age (months)", "age", "chronological_age"])
def test_ages_that_may_be_years_are_asked_about(tmp_path, column):
    with pytest.raises(UnreadableTableError) as caught:
        find_with_table(tmp_path, f"id,{column}\n1,10\n2,15.5\n", images="12", age_unit=None)
    assert str(caught.value) == (
        f"{tmp_path / 'labels.csv'}: column {column!r} contains 10 to 15.5, which may be years or months; say which "
        "with --age-unit years or --age-unit months, or by the name of the column."
    )


@pytest.mark.parametrize(
    ("column", "age_unit", "months"),
    [
        ("boneage", "years", 120.0),
        ("boneage", "months", 10.0),
        ("boneage", "auto", 120.0),
        ("bone_age_months", "years", 120.0),
        ("bone_age_months", "months", 10.0),
        ("bone_age_years", None, 120.0),
        ("Bone age (years)", "months", 120.0),
    ],
)
def test_unit_of_ages(tmp_path, column, age_unit, months):
    cases, _ = find_with_table(tmp_path, f"id,{column}\n1,10\n", age_unit=age_unit)
    assert [case.bone_age_months for case in cases] == [months]


@pytest.mark.parametrize("age_unit", [None, "auto", "months"])
def test_unit_of_each_column_is_its_own(tmp_path, age_unit):
    table = "id,boneage,age_years\n1,120,10\n2,24,2\n"
    cases, _ = find_with_table(tmp_path, table, images="12", age_unit=age_unit)
    ages = [(case.bone_age_months, case.chronological_age_months, case.is_age_unit_stated) for case in cases]
    assert ages == [(120.0, 120.0, True), (24.0, 24.0, True)]


def test_unknown_age_unit(tmp_path):
    with pytest.raises(ValueError, match=r"`age_unit` must be one of years, months, auto\. Received: 'year'"):
        find_with_table(tmp_path, "id\n1\n", age_unit="year")


def test_further_columns_are_kept_by_any_spelling_of_their_heading(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,X-ray device,bone_age_months,Hospital\n1,Agfa,50\n2, ,60,north\n", encoding="utf-8")
    rows = read_table(path, columns=("hospital", "xray_device"))
    assert [row.columns for row in rows] == [("", "Agfa"), ("north", "")]
    with pytest.raises(UnreadableTableError, match=r"has no column 'hospitel'.*Did you mean 'Hospital'"):
        read_table(path, columns=("hospitel",))
