"""Every fault of a record folder is one line, and a whole folder has none."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.tfrecords.framing import frame_record, read_frames
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tfrecords.schema import encode
from boneage.tfrecords.verify import verify
from boneage.tfrecords.writer import INFO_FILE, hash_files, write_shard

FIRST, SECOND = "train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord"
HELD_OUT = "test-00000-of-00001.tfrecord"


@pytest.fixture
def folder(tmp_path, make_record, write_records):
    """Three records to train on in two shards, one to test on."""
    splits = {"train": [make_record(id) for id in "abc"], "test": [make_record("d")]}
    return write_records(tmp_path / "records", splits)


def change_info(folder, change):
    """Change `dataset_info.json` in place by a function of its content."""
    path = folder / INFO_FILE
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def test_whole_folder_is_clean(folder):
    assert {path.name for path in folder.glob("*.tfrecord")} == {FIRST, SECOND, HELD_OUT}
    assert verify(folder) == []


@pytest.mark.parametrize("name", [FIRST, "features.json", "rejected.csv"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    assert verify(folder) == [f"{name}: missing"]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_damaged_shard_is_one_line(tmp_path_factory, make_record, write_records, data):
    records = {"train": [make_record(id) for id in "abc"]}
    folder = write_records(tmp_path_factory.mktemp("damaged") / "records", records)
    path = folder / data.draw(st.sampled_from([FIRST, SECOND]))
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    (fault,) = verify(folder)
    assert fault.startswith(f"{path}: damaged at byte ")
    assert "\n" not in fault


def test_shard_cut_between_two_records(folder):
    path = folder / FIRST
    path.write_bytes(frame_record(next(read_frames(path))))
    assert verify(folder) == [f"{FIRST}: its hash differs from the one in {INFO_FILE}"]


def test_shard_of_other_records(folder, make_record):
    write_shard(folder / SECOND, [encode(make_record("z"))])
    assert verify(folder) == [f"{SECOND}: its hash differs from the one in {INFO_FILE}"]


def test_intact_bytes_that_are_no_record(folder):
    (folder / HELD_OUT).write_bytes(frame_record(b"\xff"))
    (fault,) = verify(folder)
    assert fault.startswith(f"{HELD_OUT}: not a record")


def test_changed_number_of_records(folder):
    change_info(folder, lambda info: info["splits"]["train"]["shards"][0].update(num_records=9))
    assert verify(folder) == [
        f"{FIRST}: 2 records read, 9 expected",
        "train: 10 records in its shards, 3 expected",
    ]


def test_changed_number_of_records_of_a_split(folder):
    change_info(folder, lambda info: info["splits"]["test"].update(num_records=2))
    assert verify(folder) == ["test: 1 records in its shards, 2 expected"]


def test_changed_hash(folder):
    change_info(folder, lambda info: info["splits"]["test"]["shards"][0].update(sha256="0" * 64))
    assert verify(folder) == [
        f"{INFO_FILE}: its digest does not match its shards",
        f"{HELD_OUT}: its hash differs from the one in {INFO_FILE}",
    ]


def test_changed_digest(folder):
    change_info(folder, lambda info: info.update(digest="0" * 16))
    assert verify(folder) == [f"{INFO_FILE}: its digest does not match its shards"]


def test_other_preprocessing(folder):
    change_info(folder, lambda info: info.update(fingerprint="f" * 16))
    faults = verify(folder)
    assert len(faults) == 4
    assert f"{HELD_OUT}: d has fingerprint 0123456789abcdef, expected ffffffffffffffff" in faults


def test_id_in_two_splits(tmp_path, make_record, write_records):
    twin = make_record("a", pixel_sha256="other pixels")
    folder = write_records(tmp_path / "records", {"train": [make_record("a"), make_record("b")], "test": [twin]})
    assert verify(folder) == ["id a: in the splits test and train"]


def test_id_twice_in_one_split(tmp_path, make_record, write_records):
    twin = make_record("a", pixel_sha256="other pixels")
    folder = write_records(tmp_path / "records", {"train": [make_record("a"), twin]})
    assert verify(folder) == ["id a: twice in the split train"]


def test_equal_pixels_in_two_splits(tmp_path, make_record, write_records):
    twin = make_record("z", pixel_sha256="pixels of a")
    folder = write_records(tmp_path / "records", {"train": [make_record("a"), make_record("b")], "validation": [twin]})
    assert verify(folder) == ["pixel_sha256 pixels of a: in the splits train and validation"]


def test_group_in_two_splits(tmp_path, make_record, write_records):
    train, test = [make_record("a", group=4), make_record("b", group=5)], [make_record("c", group=4)]
    folder = write_records(tmp_path / "records", {"train": train, "test": test})
    assert verify(folder) == ["group 4: in the splits test and train"]


def test_equal_pixels_may_be_in_one_split(tmp_path, make_record, write_records):
    twin = make_record("z", pixel_sha256="pixels of a")
    assert verify(write_records(tmp_path / "records", {"train": [make_record("a"), twin]})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("mean_months", 121.0), ("std_months", 3.0), ("num_labelled", 2), ("max_months", 200.0), ("num_groups", 1)],
)
def test_changed_statistic(folder, name, value):
    change_info(folder, lambda info: info["splits"]["train"].update({name: value}))
    (fault,) = verify(folder)
    assert fault.startswith(f"train: {name} is ") and fault.endswith(f"{value} in {INFO_FILE}")


def test_every_file_is_hashed(folder):
    (folder / "review").mkdir()
    for name in ("index.html", "page-2.html", "tiles.jsonl"):
        (folder / "review" / name).write_text(name)
    change_info(folder, lambda info: info.update(files=hash_files(folder)))
    assert verify(folder) == []
    (folder / "rejected.csv").write_text("changed")
    (folder / "review" / "index.html").write_text("changed")
    (folder / "review" / "page-2.html").unlink()
    (folder / "review" / "page-3.html").write_text("added")
    assert verify(folder) == [
        f"rejected.csv: its hash differs from the one in {INFO_FILE}",
        f"review/index.html: its hash differs from the one in {INFO_FILE}",
        "review/page-2.html: missing",
        "review/page-3.html: not part of this folder",
    ]


def test_stray_file(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "train-00002-of-00003.tfrecord").write_bytes(b"")
    assert verify(folder) == [
        "notes.txt: not part of this folder",
        "train-00002-of-00003.tfrecord: not part of this folder",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dataset_info\.json not found; make records with `boneage prepare"),
        ("{", "not readable as JSON"),
        ("[]", "expected an object, received list"),
        ('{"schema_version": 7}', "schema version 7 is none of those that this package reads \\(2, 3, 4\\)"),
    ],
)
def test_folder_that_does_not_explain_itself(tmp_path, content, message):
    if content is not None:
        (tmp_path / INFO_FILE).write_text(content)
    with pytest.raises(RecordsError, match=message):
        verify(tmp_path)


def test_unknown_split_names_those_there_are(folder):
    with pytest.raises(RecordsError, match=r"no split 'validation'\. It has: test, train\."):
        split_info(read_info(folder), "validation", folder=folder)
