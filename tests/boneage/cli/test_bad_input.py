"""What users will feed in: every bad file and row has its reason, and every mistake is one line."""

import csv
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.schema import decode

GREY = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20).astype(np.uint8)
GOOD = {"good-1": "train", "good-2": "train", "good-3": "validation", "good-4": "test", "good-5": "train"}


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the command line and gives its status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def run_prepare(run):
    """A function that runs `boneage prepare` in this process, without a progress bar."""
    return lambda *arguments: run("prepare", "--segmenter", "none", "--workers", 1, "--json", *arguments)


def one_line(answer):
    """The message of a command that failed with one line and nothing else."""
    status, out, err = answer
    assert (status, out) == (1, "")
    assert err.startswith("boneage: ") and err.endswith("\n")
    assert err.count("\n") == 1
    return err


def write_image(path, *, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 20), np.uint8)).save(path)


def png_header(*, width, height):
    """A PNG file of 8-bit grey that claims a size and holds no pixels (RFC 2083)."""
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def write_table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "boneage", "sex", "split"), *rows])


@pytest.fixture
def good_source(tmp_path):
    """Five sound radiographs and their table."""
    folder = tmp_path / "good"
    for seed, id in enumerate(GOOD):
        write_image(folder / f"{id}.png", seed=seed)
    table = tmp_path / "good.csv"
    write_table(table, [(id, 120, "F", split) for id, split in GOOD.items()])
    return folder, table


# For each entry of the source: id and reason in `rejected.csv`, and a part of the line that explains it.
EXPECTED = {
    ("truncated", "damaged_image", "truncated.png is a damaged or incomplete PNG"),
    ("empty", "empty_file", "empty.png is empty (0 bytes)"),
    ("text", "not_an_image", "text.png is not a PNG, JPEG, TIFF or DICOM file"),
    ("huge", "too_large", "huge.png states more pixels than can be decoded"),
    ("1.2.3.1", "no_pixels", "no-pixels.dcm contains no pixel data"),
    ("1.2.3.2", "multi_frame", "multi-frame.dcm contains 2 frames"),
    ("photograph", "not_a_radiograph", "photograph.png is a colour photograph"),
    ("no-file", "missing_file", "labels.csv row 14: no file 'no-file'"),
    ("no-row", "no_row", "no-row.png: no row in the table"),
    ("age-negative", "bad_age", "labels.csv row 15: bone_age is '-3'"),
    ("age-old", "bad_age", "labels.csv row 16: bone_age is '900'"),
    ("age-text", "bad_age", "labels.csv row 17: bone_age is 'abc'"),
    ("sex-missing", "no_sex", "unknown sex; add it to the table"),
    ("sex-misspelt", "sex_unknown", "labels.csv row 19: sex is 'femail'"),
    ("row-twice", "conflicting_rows", "labels.csv row 20: 2 rows disagree about row-twice.png"),
    ("row-twice", "conflicting_rows", "labels.csv row 21: 2 rows disagree about row-twice.png"),
    ("good-5", "duplicate_row", "labels.csv row 22: duplicates labels.csv row 6"),
    ("a/file-twice", "no_row", "a/file-twice.png: no row in the table"),
    ("b/file-twice", "no_row", "b/file-twice.png: no row in the table"),
    ("file-twice", "ambiguous_file", "labels.csv row 23: 2 files are named 'file-twice'"),
    ("../../etc/passwd", "unsafe_id", "labels.csv row 24: '../../etc/passwd' is not a valid id"),
}


@pytest.fixture
def bad_source(tmp_path, write_dicom):
    """All that can be wrong with a file or a row, beside five sound radiographs."""
    folder = tmp_path / "hospital"
    for seed, id in enumerate(GOOD):
        write_image(folder / f"{id}.png", seed=seed)
    named = ["no-row", "age-negative", "age-old", "age-text", "sex-missing", "sex-misspelt", "row-twice"]
    for seed, name in enumerate([*named, "truncated", "a/file-twice", "b/file-twice"], start=100):
        write_image(folder / f"{name}.png", seed=seed)
    truncated = folder / "truncated.png"
    truncated.write_bytes(truncated.read_bytes()[:-60])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("This was a radiograph once.\n")
    (folder / "huge.png").write_bytes(png_header(width=30_000, height=30_000))
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (24, 20, 3), np.uint8)).save(folder / "photograph.png")
    dicom = {
        "no-pixels": {"remove": ["PixelData"], "SOPInstanceUID": "1.2.3.1"},
        "multi-frame": {"NumberOfFrames": 2, "PixelData": 2 * GREY.tobytes(), "SOPInstanceUID": "1.2.3.2"},
    }
    for name, elements in dicom.items():
        (folder / f"{name}.dcm").write_bytes(write_dicom(GREY, **elements).read_bytes())
    unreadable = ["truncated", "empty", "text", "huge", "no-pixels", "multi-frame", "photograph"]
    table = tmp_path / "labels.csv"
    rows = [
        *((id, 120, "F", split) for id, split in GOOD.items()),  # Rows 2 to 6.
        *((id, 120, "M", "train") for id in unreadable),  # Rows 7 to 13.
        ("no-file", 120, "M", "train"),
        ("age-negative", -3, "M", "train"),
        ("age-old", 900, "M", "train"),
        ("age-text", "abc", "M", "train"),
        ("sex-missing", 120, "", "train"),
        ("sex-misspelt", 120, "femail", "train"),
        ("row-twice", 120, "M", "train"),
        ("row-twice", 130, "M", "train"),
        ("good-5", 120, "F", "train"),
        ("file-twice", 120, "M", "train"),
        ("../../etc/passwd", 120, "M", "train"),
    ]
    write_table(table, rows)
    return folder, table


def test_every_bad_file_and_row_has_its_reason(bad_source, tmp_path, run, run_prepare):
    folder, table = bad_source
    out = tmp_path / "records"
    status, printed, err = run_prepare(folder, "--table", table, "--out", out)
    assert (status, err) == (0, "")
    told = json.loads(printed)
    assert told["records"] == {"train": 3, "validation": 1, "test": 1}
    assert sum(told["rejected"].values()) == len(EXPECTED)

    with (out / "rejected.csv").open(newline="") as file:
        rejected = list(csv.DictReader(file))
    assert sorted((row["id"], row["reason"]) for row in rejected) == sorted((id, reason) for id, reason, _ in EXPECTED)
    for id, reason, part in EXPECTED:
        matching = [row for row in rejected if (row["id"], row["reason"]) == (id, reason) and part in row["detail"]]
        assert len(matching) == 1, (id, reason, part)
    for row in rejected:
        assert row["detail"].isprintable() and ";" in row["detail"], row
        assert Path(row["file"]).name in row["detail"] or row["detail"].startswith("labels.csv row "), row
        assert (folder / row["file"]).exists() or row["file"] == table.name, row

    shards = {path: [decode(data).id for data in read_frames(path)] for path in out.glob("*.tfrecord")}
    assert {id: path.name.split("-")[0] for path, ids in shards.items() for id in ids} == GOOD
    status, printed, err = run("records", out, "--verify")
    assert (status, err) == (0, "")
    assert printed.endswith("verified: counts, checksums and splits are correct\n")


def test_people_are_told_how_many_and_where_to_look(bad_source, tmp_path, run):
    folder, table = bad_source
    status, printed, _ = run(
        "prepare", folder, "--table", table, "--out", tmp_path / "records", "--workers", 1, "--segmenter", "none"
    )
    assert status == 0
    first, second = printed.splitlines()
    assert first == f"{tmp_path / 'records'}: 3 train, 1 validation, 1 test"
    assert second.startswith("21 rejected (ambiguous_file 1, bad_age 3, conflicting_rows 2, ")
    assert second.endswith(f"see {tmp_path / 'records' / 'rejected.csv'}")


def test_damaged_shard_is_one_line(good_source, tmp_path, run, run_prepare):
    folder, table = good_source
    out = tmp_path / "records"
    assert run_prepare(folder, "--table", table, "--out", out)[0] == 0
    shard = out / "train-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    status, _, err = run("records", out, "--verify")
    assert status == 1
    fault, message = err.splitlines()
    assert fault.startswith(f"{shard}: damaged at byte ")
    assert message == f"boneage: {out}: 1 fault; prepare the records again, or restore the folder."
    status, printed, err = run("records", out, "--verify", "--json")
    assert status == 1
    assert json.loads(printed)["faults"] == [fault]
    assert err == f"{message}\n"


def test_missing_source(tmp_path, run_prepare):
    answer = run_prepare(tmp_path / "nowhere", "--out", tmp_path / "records")
    assert f"{tmp_path / 'nowhere'}: no such file or folder" in one_line(answer)
    assert list(tmp_path.iterdir()) == []


def test_missing_table_or_split_file(good_source, tmp_path, run_prepare):
    folder, table = good_source
    for options in (["--table", tmp_path / "nowhere.csv"], ["--table", table, "--split", tmp_path / "nowhere.csv"]):
        answer = run_prepare(folder, *options, "--out", tmp_path / "records")
        assert f"{tmp_path / 'nowhere.csv'}: No such file or directory" in one_line(answer)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--set", "image_size=256"], "unknown key 'image_size'. Did you mean 'image_size_px'?"),
        (["--set", "image_size_px=8"], "`image_size_px` must lie in [16, 4096]. Received: 8."),
        (["--set", "image_size_px=large"], "image_size_px: "),
        (["--set", "image_size_px"], "expected key=value"),
        (["--segmenter", "nome"], "Received: 'nome'. Did you mean 'none'?"),
    ],
    ids=["unknown key", "value out of range", "no number", "no value", "unknown segmenter"],
)
def test_mistake_in_the_settings(good_source, tmp_path, run_prepare, options, part):
    folder, _ = good_source
    assert part in one_line(run_prepare(folder, "--out", tmp_path / "records", *options))
    assert not (tmp_path / "records").exists()


def test_output_that_holds_something_else(good_source, tmp_path, run_prepare):
    folder, table = good_source
    out = tmp_path / "records"
    out.mkdir()
    (out / "thesis.doc").write_text("Chapter 1")
    message = one_line(run_prepare(folder, "--table", table, "--out", out))
    assert (
        f"{out}: already exists and was made from other inputs or settings; remove it or choose another folder"
        in message
    )
    assert (out / "thesis.doc").read_text() == "Chapter 1"


def test_output_in_the_source(good_source, run_prepare):
    folder, table = good_source
    assert "is inside the source folder" in one_line(run_prepare(folder, "--table", table, "--out", folder / "records"))


def test_folder_without_records(tmp_path, run):
    assert "dataset_info.json not found" in one_line(run("records", tmp_path, "--verify"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["prepare"], "Missing argument"),
        (["prepare", "source"], "Missing option '--out'"),
        (["prepare", "source", "--out", "records", "--workers", "0"], "Invalid value for '--workers'"),
        (["prepare", "source", "--out", "records", "--seed", "x"], "Invalid value for '--seed'"),
        (["prepare", "source", "--out", "records", "--size", "256"], "No such option"),
        (["records"], "Missing argument"),
        (["prepair"], "No such command 'prepair'"),
    ],
)
def test_wrong_usage_is_status_2(run, arguments, part):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert part in err
    assert "Traceback" not in err


def test_prediction_without_an_answer_is_a_failure(tmp_path, run):
    write_image(tmp_path / "1.png", seed=1)
    (tmp_path / "1.png").write_bytes(b"")
    for options in ((), ("--json",)):
        status, printed, err = run("predict", tmp_path / "1.png", "--workers", 1, *options)
        assert status == 1
        assert "is empty (0 bytes)" in printed
        assert printed.count("1.png: ") <= 1
        assert err.endswith("boneage: no file has a prediction; the reasons are listed above.\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gate.max_cut_scor=0.3", "prepare gate: unknown key 'max_cut_scor'. Did you mean 'max_cut_score'?"),
        ("gate.min_mask_score=7", "prepare: gate: `min_mask_score` must lie in [0, 1]. Received: 7.0."),
        ("gate.min_contrast=nan", "prepare: gate: `min_contrast` must not be negative. Received: nan."),
        ("gate=0.3", "prepare: gate: "),
        ("image_size_px.width=3", "prepare: image_size_px: "),
    ],
)
def test_settings_of_the_gate_are_checked_like_all_others(good_source, tmp_path, run_prepare, setting, message):
    folder, table = good_source
    answer = run_prepare(folder, "--table", table, "--out", tmp_path / "records", "--set", setting)
    assert one_line(answer).startswith(f"boneage: {message}")


def test_ages_in_years_are_asked_about_before_any_work(good_source, tmp_path, run_prepare):
    folder, table = good_source
    write_table(table, [(id, 10, "F", split) for id, split in GOOD.items()])
    out = tmp_path / "records"
    assert "may be years or months; say which with --age-unit" in one_line(
        run_prepare(folder, "--table", table, "--out", out)
    )
    assert not out.exists() and not out.with_name("records.partial").exists()
    assert run_prepare(folder, "--table", table, "--out", out, "--age-unit", "years")[0] == 0
    info = json.loads((out / "dataset_info.json").read_text())
    assert info["splits"]["train"]["mean_months"] == 120


def test_missing_validation_split_is_said_before_the_work(good_source, tmp_path, run_prepare):
    folder, table = good_source
    write_table(table, [(id, 120, "F", "train") for id in GOOD])
    status, _, err = run_prepare(folder, "--table", table, "--out", tmp_path / "records")
    assert status == 0
    assert err == (
        f"boneage: {folder}: has no validation split, by which training chooses the best epoch; to make one, use "
        "--split random, a fold such as --split 1/5, or a CSV with id,split.\n"
    )


def test_table_without_bone_ages_names_the_columns(good_source, tmp_path, run_prepare):
    folder, table = good_source
    table.write_text("id,age\ngood-1,120\n")
    err = one_line(run_prepare(folder, "--table", table, "--out", tmp_path / "records"))
    assert (
        "a column is missing. Received: id, age. Expected: bone_age as one of boneage, boneagemonths, boneageyears"
        in err
    )
