import io
import os
from pathlib import Path

import openpyxl
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from boneage.preprocessing.sources.cells import UnreadableTableError
from boneage.preprocessing.sources.sources import Case, SourceNotFoundError, find_cases

_BUFFER = io.BytesIO()
Image.new("L", (2, 2)).save(_BUFFER, "PNG")
PNG = _BUFFER.getvalue()


def write_tree(folder, tree):
    """Write files by relative path; `PNG`, text or the rows of an Excel sheet."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            book = openpyxl.Workbook()
            for row in content:
                book.active.append(row)
            book.save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def write_dicom(path, *, uid="1.2.3", sex="F", age="010Y", patient="Jane"):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.PatientID, dataset.PatientSex, dataset.PatientAge = patient, sex, age
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def reasons(rejections):
    return sorted((rejection.id, rejection.reason) for rejection in rejections)


RSNA = {
    "Bone Age Training Set/train.csv": "id,boneage,male\n1377,180,False\n",
    "Bone Age Training Set/boneage-training-dataset/1377.png": PNG,
    "Bone Age Validation Set/Validation Dataset.csv": "Image ID,male,Bone Age (months)\n1386,TRUE,30\n1400,0,31.5\n",
    "Bone Age Validation Set/boneage-validation-dataset-1/1386.png": PNG,
    "Bone Age Validation Set/boneage-validation-dataset-2/1400.png": PNG,
    "Bone Age Test Set/Bone age ground truth.xlsx": [
        ["Case ID", "Sex", "Ground truth bone age (months)"],
        [4360, "M", 168.93],
        [4361, "F", 169],
    ],
    "Bone Age Test Set/Test Set Images/4360.png": PNG,
    "Bone Age Test Set/Test Set Images/4361.png": PNG,
}
KAGGLE = {
    "boneage-training-dataset.csv": "id,boneage,male\n1377,180,False\n",
    "boneage-training-dataset/boneage-training-dataset/1377.png": PNG,
    "boneage-test-dataset.csv": "Case ID,Sex\n4360,M\n",
    "boneage-test-dataset/boneage-test-dataset/4360.png": PNG,
}


RHPE = {
    "RHPE_Annotations/RHPE_Boneage_train.csv": "ID,Male,Boneage,Chronological\n7,True,150,144\n12034,False,18,17\n",
    "RHPE_Annotations/RHPE_Boneage_val.csv": "ID,Male,Boneage,Chronological\n8,False,96,100.5\n",
    "RHPE_Annotations/RHPE_Gender_Chronological_test.csv": "ID,Male,Chronological\n9,True,12\n",
    "RHPE_Annotations/RHPE_anatomical_ROIs_val.json": "{}",
    **{
        f"{folder}/{name}.png": PNG
        for folder, name in (("RHPE_train", "00007"), ("RHPE_train", "12034"), ("RHPE_val", "00008"))
    },
    "RHPE_test/00009.png": PNG,
}


class TestRhpe:
    def test_tables_and_folders(self, tmp_path):
        cases, rejections = find_cases(write_tree(tmp_path, RHPE))
        found = {case.id: (case.sex, case.bone_age_months, case.chronological_age_months, case.split) for case in cases}
        assert found == {
            "00007": ("male", 150.0, 144.0, "train"),
            "12034": ("female", 18.0, 17.0, "train"),
            "00008": ("female", 96.0, 100.5, "validation"),
            "00009": ("male", None, 12.0, "test"),
        }
        assert [rejection.reason for rejection in rejections] == ["not_an_image"]

    def test_other_columns_are_an_error(self, tmp_path):
        write_tree(tmp_path, {"RHPE_Boneage_val.csv": "ID,Boneage\n8,96\n", "00008.png": PNG})
        with pytest.raises(UnreadableTableError, match=r"RHPE_Boneage_val\.csv: a column is missing"):
            find_cases(tmp_path)


class TestRsna:
    def test_three_archives(self, tmp_path):
        cases, rejections = find_cases(write_tree(tmp_path, RSNA))
        found = {case.id: (case.sex, case.bone_age_months, case.split) for case in cases}
        assert found == {
            "1377": ("female", 180.0, "train"),
            "1386": ("male", 30.0, "validation"),
            "1400": ("female", 31.5, "validation"),
            "4360": ("male", 168.93, "test"),
            "4361": ("female", 169.0, "test"),
        }
        assert rejections == []
        assert all(case.path.read_bytes() == PNG for case in cases)

    def test_kaggle_nests_folders_and_hides_test_labels(self, tmp_path):
        cases, rejections = find_cases(write_tree(tmp_path, KAGGLE))
        assert [(case.id, case.bone_age_months, case.split) for case in cases] == [
            ("4360", None, "test"),
            ("1377", 180.0, "train"),
        ]
        assert rejections == []

    def test_labelled_row_replaces_unlabelled_one(self, tmp_path):
        tree = KAGGLE | {"truth/BONE AGE GROUND TRUTH.XLSX": RSNA["Bone Age Test Set/Bone age ground truth.xlsx"]}
        cases, rejections = find_cases(write_tree(tmp_path, tree))
        assert {case.id: case.bone_age_months for case in cases} == {"1377": 180.0, "4360": 168.93}
        assert reasons(rejections) == [("4360", "duplicate_row"), ("4361", "missing_file")]

    def test_id_in_two_splits_is_in_none(self, tmp_path):
        tree = RSNA | {"Validation Dataset.csv": "Image ID,male,Bone Age (months)\n1377,False,180\n"}
        cases, rejections = find_cases(write_tree(tmp_path, tree))
        assert "1377" not in {case.id for case in cases}
        assert reasons(rejections) == [("1377", "conflicting_rows")] * 2

    def test_training_part_alone(self, tmp_path):
        tree = {name: content for name, content in RSNA.items() if "Training" in name}
        cases, rejections = find_cases(write_tree(tmp_path, tree))
        assert [case.split for case in cases] == ["train"]
        assert rejections == []

    @pytest.mark.parametrize(("folder", "is_found"), [("a/b/c", True), ("a/b/c/d", False)])
    def test_depth(self, tmp_path, folder, is_found):
        tree = {f"{folder}/train.csv": "id,boneage,male\n1,180,False\n", "1.png": PNG}
        cases, rejections = find_cases(write_tree(tmp_path, tree))
        assert [case.bone_age_months for case in cases] == [180.0 if is_found else None]
        assert [rejection.reason for rejection in rejections] == ([] if is_found else ["unused_table"])

    def test_table_without_labels_is_an_error(self, tmp_path):
        write_tree(tmp_path, {"train.csv": "id,male\n1,False\n", "1.png": PNG})
        with pytest.raises(
            UnreadableTableError,
            match=r"train\.csv.*Received: id, male\. Expected: bone_age as one of boneage, boneagemonths",
        ):
            find_cases(tmp_path)


class TestFiles:
    def test_images_alone(self, tmp_path):
        cases, rejections = find_cases(write_tree(tmp_path, {"b/2.JPG": b"", "1.png": PNG}))
        assert cases == [Case("1", tmp_path / "1.png", "1.png"), Case("2", tmp_path / "b" / "2.JPG", "b/2.JPG")]
        assert rejections == []

    def test_single_file_and_several(self, tmp_path):
        write_tree(tmp_path, {"1.png": PNG, "2.png": PNG, "3.png": PNG})
        assert find_cases(str(tmp_path / "1.png")) == ([Case("1", tmp_path / "1.png", "1.png")], [])
        cases, _ = find_cases([tmp_path / "3.png", tmp_path / "1.png"])
        assert [case.id for case in cases] == ["3", "1"]

    def test_same_name_in_two_folders(self, tmp_path):
        table = "id,boneage\na/1.png,50\nb\\1,60\n2,70\n1,80\n"
        write_tree(tmp_path, {"a/1.png": PNG, "b/1.jpg": b"other", "b/2.png": PNG, "t.csv": table})
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert [(case.id, case.bone_age_months) for case in cases] == [("a/1", 50.0), ("b/1", 60.0), ("2", 70.0)]
        assert [(rejection.id, rejection.reason) for rejection in rejections] == [("1", "ambiguous_file")]
        assert "2 files are named '1'" in rejections[0].detail

    def test_same_name_with_two_extensions(self, tmp_path):
        write_tree(tmp_path, {"1.png": PNG, "1.jpg": b"other", "A.png": b"upper", "a.png": b"lower"})
        cases, rejections = find_cases(tmp_path)
        assert [case.id for case in cases] == ["1.jpg", "1.png", "A", "a"]
        assert rejections == []

    def test_identical_copy(self, tmp_path):
        write_tree(
            tmp_path, {"a/1.png": PNG, "b/1.png": PNG, "c/1.png": b"other", "t.csv": "id,boneage\na/1,50\nc/1,60\n"}
        )
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert [case.id for case in cases] == ["a/1", "c/1"]
        assert [(rejection.id, rejection.file, rejection.reason) for rejection in rejections] == [
            ("a/1", "b/1.png", "identical_copy")
        ]

    def test_same_path_in_two_sources(self, tmp_path):
        write_tree(tmp_path, {"x/1.png": PNG, "y/1.png": b"other"})
        cases, rejections = find_cases([tmp_path / "x", tmp_path / "y"])
        assert [case.path.parent.name for case in cases] == ["x"]
        assert [rejection.reason for rejection in rejections] == ["ambiguous_file"]

    def test_what_is_no_radiograph(self, tmp_path):
        tree = {
            "1.png": PNG,
            "notes.txt": "hello",
            "empty": b"",
            "other.csv": "a,b\n",
            "__MACOSX/1.png": PNG,
            ".cache/2.png": PNG,
            "._1.png": PNG,
            "a:b.png": PNG,
            "nul.png": PNG,
        }
        cases, rejections = find_cases(write_tree(tmp_path, tree))
        assert [case.id for case in cases] == ["1"]
        assert {rejection.file: rejection.reason for rejection in rejections} == {
            "notes.txt": "not_an_image",
            "empty": "empty_file",
            "other.csv": "unused_table",
            "__MACOSX/1.png": "hidden_file",
            ".cache/2.png": "hidden_file",
            "._1.png": "hidden_file",
            "a:b.png": "unsafe_id",
            "nul.png": "unsafe_id",
        }

    def test_pipe_is_not_opened(self, tmp_path):
        os.mkfifo(write_tree(tmp_path, {"1.png": PNG}) / "pipe")
        _, rejections = find_cases(tmp_path)
        assert reasons(rejections) == [("pipe", "not_an_image")]

    def test_links(self, tmp_path):
        write_tree(tmp_path, {"outside/9.png": PNG, "source/1.png": PNG, "source/inner/3.png": PNG})
        source = tmp_path / "source"
        (source / "2.png").symlink_to(tmp_path / "outside" / "9.png")
        (source / "4.png").symlink_to("gone.png")
        (source / "5.png").symlink_to("5.png")
        (source / "6.png").symlink_to("1.png")
        (source / "folder").symlink_to(source / "inner")
        (source / "linked").symlink_to(tmp_path / "outside")
        (tmp_path / "outside" / "circle").symlink_to(tmp_path)
        cases, rejections = find_cases(source)
        assert [case.name for case in cases] == ["1.png", "2.png", "6.png", "inner/3.png", "linked/9.png"]
        assert sorted((rejection.file, rejection.reason) for rejection in rejections) == [
            (name, "symbolic_link") for name in ("4.png", "5.png", "folder", "linked/circle")
        ]

    def test_folder_whose_name_is_not_text(self, tmp_path):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        write_tree(folder, {"1.png": PNG, "2.txt": "hello"})
        cases, rejections = find_cases(tmp_path)
        assert [case.id for case in cases] == ["1"]
        assert [(rejection.file, rejection.reason) for rejection in rejections] == [("\\udcff/2.txt", "not_an_image")]

    def test_linked_source(self, tmp_path):
        write_tree(tmp_path, {"real/1.png": PNG})
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert [case.id for case in find_cases(tmp_path / "link")[0]] == ["1"]

    def test_unlistable_folder(self, tmp_path, monkeypatch):
        write_tree(tmp_path, {"1.png": PNG, "closed/2.png": PNG})
        scandir = os.scandir

        def refuse(path):
            if str(path).endswith("closed"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        cases, rejections = find_cases(tmp_path)
        assert [case.id for case in cases] == ["1"]
        assert [(rejection.file, rejection.reason) for rejection in rejections] == [("closed", "unreadable_folder")]

    def test_names_are_made_printable(self, tmp_path):
        write_tree(tmp_path, {"bad\nname.png": PNG})
        os.close(os.open(os.fsencode(tmp_path) + b"/\xff.png", os.O_CREAT))
        cases, rejections = find_cases(tmp_path)
        assert cases == []
        assert [rejection.reason for rejection in rejections] == ["unsafe_id"] * 2
        assert all((rejection.id + rejection.file + rejection.detail).isprintable() for rejection in rejections)
        "".join(rejection.file for rejection in rejections).encode()

    def test_missing_or_empty_source(self, tmp_path):
        with pytest.raises(SourceNotFoundError, match="no such file or folder"):
            find_cases(tmp_path / "gone")
        with pytest.raises(SourceNotFoundError, match="contains no files"):
            find_cases(tmp_path)


class TestDicom:
    def test_header_alone(self, tmp_path):
        write_dicom(tmp_path / "a" / "IM0001", uid="1.2.1", sex="F", age="010Y", patient="Jane")
        write_dicom(tmp_path / "b" / "1.2.2.dcm", uid="1.2.2", sex="O", age="", patient="Jane")
        write_dicom(tmp_path / "b" / "1.2.3", uid="1.2.3", sex="M", age="018M", patient="John")
        cases, rejections = find_cases(tmp_path)
        found = [(case.id, case.sex, case.chronological_age_months) for case in cases]
        assert found == [("1.2.1", "female", 120.0), ("1.2.2", None, None), ("1.2.3", "male", 18.0)]
        assert cases[0].patient == cases[1].patient != cases[2].patient
        assert "Jane" not in repr(cases)
        assert rejections == []

    def test_labels_by_uid_and_by_name(self, tmp_path):
        write_dicom(tmp_path / "x", uid="1.2.1")
        write_dicom(tmp_path / "y", uid="1.2.2")
        write_tree(tmp_path, {"t.csv": "SOP Instance UID,id,boneage\n1.2.1,,50\n,y,60\n1.2.9,,70\n"})
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert {case.id: case.bone_age_months for case in cases} == {"1.2.1": 50.0, "1.2.2": 60.0}
        assert cases[0].sex == "female"
        assert reasons(rejections) == [("1.2.9", "missing_file")]

    def test_one_uid_on_different_files(self, tmp_path):
        write_dicom(tmp_path / "x", uid="1.2.1", age="010Y")
        write_dicom(tmp_path / "y", uid="1.2.1", age="011Y")
        write_tree(tmp_path, {"t.csv": "id,sop_instance_uid,boneage\nx,,50\ny,,60\n,1.2.1,70\n"})
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert [(case.id, case.bone_age_months) for case in cases] == [("x", 50.0), ("y", 60.0)]
        assert [rejection.reason for rejection in rejections] == ["ambiguous_file"]

    def test_identical_copies_of_a_file(self, tmp_path):
        write_dicom(tmp_path / "a.dcm", uid="1.2.1")
        for name in ("a - Copy.dcm", "backup/a.dcm"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes((tmp_path / "a.dcm").read_bytes())
        cases, rejections = find_cases(tmp_path)
        assert [(case.id, case.name) for case in cases] == [("1.2.1", "a.dcm")]
        assert [(rejection.id, rejection.file, rejection.reason) for rejection in rejections] == [
            ("1.2.1", "a - Copy.dcm", "identical_copy"),
            ("1.2.1", "backup/a.dcm", "identical_copy"),
        ]

    def test_cd_and_tcia(self, tmp_path):
        for number in range(3):
            write_dicom(tmp_path / f"PT{number}/ST0/SE0/IM000000", uid=f"1.2.{number}")
        write_dicom(tmp_path / "DICOMDIR", uid="1.2.9")
        write_tree(tmp_path, {"t.csv": "id,boneage\nPT0/ST0/SE0/IM000000,50\n1.2.1,60\nPT2\\ST0\\SE0\\IM000000,70\n"})
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert [(case.id, case.bone_age_months) for case in cases] == [
            ("1.2.0", 50.0),
            ("1.2.1", 60.0),
            ("1.2.2", 70.0),
        ]
        assert [(rejection.file, rejection.reason) for rejection in rejections] == [("DICOMDIR", "not_an_image")]

    @pytest.mark.parametrize(
        ("header", "row", "expected"),
        [
            ("F", "M", "sex_conflict"),
            ("F", "F", "female"),
            ("F", "", "female"),
            ("O", "M", "male"),
            ("O", "", None),
        ],
    )
    def test_sex_of_header_and_table(self, tmp_path, header, row, expected):
        write_dicom(tmp_path / "x.dcm", sex=header)
        write_tree(tmp_path, {"t.csv": f"id,boneage,sex\nx.dcm,50,{row}\n"})
        cases, rejections = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert [case.sex for case in cases] + [rejection.reason for rejection in rejections] == [expected]

    def test_table_age_counts_before_header_age(self, tmp_path):
        write_dicom(tmp_path / "x", age="010Y")
        write_tree(tmp_path, {"t.csv": "id,chronological_age_months\nx,119.5\n"})
        cases, _ = find_cases(tmp_path, table=tmp_path / "t.csv")
        assert cases[0].chronological_age_months == 119.5


def test_every_file_and_row_is_accounted_for(tmp_path):
    table = "id,boneage,sex\n1,50,F\n1,50,F\n2,-1,F\n3,5,\n4,5,M\n4,6,M\n5,9,F\n../7,1,F\n,1,F\n8,5,F,1\n"
    write_dicom(tmp_path / "10", sex="M")
    write_tree(tmp_path, {f"{id}.png": PNG for id in "123468"} | {"labels.csv": table})
    cases, rejections = find_cases(tmp_path, table=tmp_path / "labels.csv")
    assert {case.id for case in cases} == {"1", "3"}
    assert reasons(rejections) == [
        ("", "no_id"),
        ("../7", "unsafe_id"),
        ("1", "duplicate_row"),
        ("1.2.3", "no_row"),
        ("2", "bad_age"),
        ("4", "conflicting_rows"),
        ("4", "conflicting_rows"),
        ("5", "missing_file"),
        ("6", "no_row"),
        ("8", "bad_row"),
        ("8", "no_row"),
    ]
    assert all(rejection.detail.isprintable() and rejection.file for rejection in rejections)


def test_find_cases_keeps_what_a_consensus_says_of_its_readers(tmp_path):
    table = "id,bone_age_months,num_readers,sd_months,sex\n1,100,3,4.50,F\n2,90,1,,M\n3,80,0,,M\n4,80,2,x,M\n"
    write_tree(tmp_path, {"consensus.csv": table, **{f"{number}.png": PNG for number in range(1, 5)}})
    cases, rejections = find_cases(tmp_path, table=tmp_path / "consensus.csv")
    assert [(case.id, case.num_readers, case.reader_sd_months) for case in cases] == [("1", 3, 4.5), ("2", 1, None)]
    assert reasons(rejections) == [("3", "bad_readers"), ("4", "bad_readers")]
