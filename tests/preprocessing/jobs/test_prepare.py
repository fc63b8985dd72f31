"""The preparation job on a tiny copy of the RSNA download: nothing lost, and the same bytes however it went."""

import csv
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import boneage.preprocessing.jobs.shard
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.io.read import hash_pixels, read_radiograph
from boneage.preprocessing.jobs.prepare import PreparationError, prepare
from boneage.preprocessing.jobs.shard import make_record, process_shard
from boneage.preprocessing.process import process
from boneage.preprocessing.sources.sources import SourceNotFoundError
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.schema import decode
from boneage.tfrecords.verify import verify
from boneage.tfrecords.writer import INFO_FILE

HEIGHT, WIDTH = 24, 20
SPLIT_OF = {f"{number}": "train" if number < 30 else "validation" if number < 36 else "test" for number in range(40)}
CONFIG = PreprocessingConfig(segmenter="none", image_size_px=16)


def sex_of(id):
    return "male" if int(id) % 2 else "female"


def months_of(id):
    return 12.5 + 5 * int(id)


def write_image(path, *, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def source(tmp_path):
    """Forty radiographs laid out like the RSNA download, and a file that is none."""
    folder = tmp_path / "rsna"
    for id, split in SPLIT_OF.items():
        write_image(folder / f"boneage-{split}-dataset" / f"{id}.png", seed=int(id))
    rows = {split: [id for id in SPLIT_OF if SPLIT_OF[id] == split] for split in ("train", "validation", "test")}
    write_table(
        folder / "boneage-training-dataset.csv",
        "id,boneage,male",
        [f"{id},{months_of(id)},{sex_of(id) == 'male'}" for id in rows["train"]],
    )
    write_table(
        folder / "boneage-validation-dataset.csv",
        "Image ID,male,Bone Age (months)",
        [f"{id},{sex_of(id) == 'male'},{months_of(id)}" for id in rows["validation"]],
    )
    write_table(
        folder / "Bone age ground truth.csv",
        "Case ID,Sex,Ground truth bone age (months)",
        [f"{id},{sex_of(id)[0].upper()},{months_of(id)}" for id in rows["test"]],
    )
    (folder / "licence.txt").write_text("Use it well.")
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    """Forty cases make five parts."""
    monkeypatch.setattr("boneage.preprocessing.jobs.prepare.CASES_PER_SHARD", 8)


def run(source, out, **options):
    return prepare(source, out=out, **{"config": CONFIG, "workers": 1} | options)


def content(folder):
    """Every file of a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_folder(folder):
    """All records, with the split whose shards they stand in, by id."""
    records = [
        (path.name.split("-")[0], decode(data)) for path in folder.glob("*.tfrecord") for data in read_frames(path)
    ]
    assert len({record.id for _, record in records}) == len(records)
    return {record.id: (split, record) for split, record in records}


def splits_of(folder):
    return {id: split for id, (split, _) in read_folder(folder).items()}


def reasons(prepared):
    return [(row["id"], row["reason"]) for row in prepared.rejected]


def fail_at(number, function, error):
    """Wrap a function so that its call of that number, counted from 0, raises."""
    count = 0

    def wrapped(*arguments, **keywords):
        nonlocal count
        count += 1
        if count > number:
            raise error
        return function(*arguments, **keywords)

    return wrapped


class TestWhatIsMade:
    def test_everything_is_accounted_for(self, source, tmp_path):
        prepared = run(source, tmp_path / "records")
        assert prepared.folder == tmp_path / "records"
        assert splits_of(prepared.folder) == SPLIT_OF
        assert reasons(prepared) == [("licence.txt", "not_an_image")]
        with (prepared.folder / "rejected.csv").open(newline="") as file:
            assert list(csv.DictReader(file)) == prepared.rejected
        assert verify(prepared.folder) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "rsna"]

    def test_records_say_what_the_source_says(self, source, tmp_path):
        for id, (split, record) in read_folder(run(source, tmp_path / "records").folder).items():
            path = source / f"boneage-{split}-dataset" / f"{id}.png"
            radiograph = read_radiograph(path)
            expected = process(radiograph, CONFIG)
            image = cv2.imdecode(np.frombuffer(record.image, np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(image, expected.image)
            assert image.shape == (16, 16)
            assert (record.sex, record.bone_age_months) == (sex_of(id), months_of(id))
            assert record.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert record.pixel_sha256 == hash_pixels(radiograph.pixels)
            assert record.original_size_px == (HEIGHT, WIDTH)
            assert record.crop_box_px == (0, 0, WIDTH, HEIGHT)
            assert record.fingerprint == fingerprint(CONFIG)
            assert (record.chronological_age_months, record.pixel_spacing_mm, record.mask_score) == (None, None, None)

    def test_folder_explains_itself(self, source, tmp_path):
        prepared = run(source, tmp_path / "records", seed=3)
        assert json.loads((prepared.folder / INFO_FILE).read_text()) == prepared.info
        info = prepared.info
        assert (info["source"], info["split"], info["seed"]) == ("rsna", "given", 3)
        assert info["preprocessing"] == dataclasses.asdict(CONFIG)
        assert info["fingerprint"] == fingerprint(CONFIG)
        assert (info["num_rejected"], info["duplicates"]) == (1, [])
        ages = [months_of(id) for id, split in SPLIT_OF.items() if split == "train"]
        train = info["splits"]["train"]
        assert (train["num_records"], train["num_labelled"]) == (30, 30)
        assert (train["min_months"], train["max_months"]) == (min(ages), max(ages))
        assert train["mean_months"] == pytest.approx(np.mean(ages))
        assert train["std_months"] == pytest.approx(np.std(ages), abs=1e-6)

    def test_seed_decides_the_order_and_nothing_else(self, source, tmp_path):
        folders = [run(source, tmp_path / f"records-{seed}", seed=seed).folder for seed in (0, 1)]
        orders = [list(read_folder(folder)) for folder in folders]
        assert orders[0] != orders[1]
        assert read_folder(folders[0]) == read_folder(folders[1])

    def test_progress_counts_every_case(self, source, tmp_path, small_parts):
        reports = []
        run(source, tmp_path / "records", progress=lambda *report: reports.append(report))
        assert reports == [(finished, 40) for finished in (0, 8, 16, 24, 32, 40)]

    def test_nothing_of_a_patient_is_written_out(self, source, tmp_path):
        table = tmp_path / "labels.csv"
        write_table(table, "id,sex,boneage,patient", [f"{id},F,30,Quillfeather" for id in SPLIT_OF])
        prepared = run(source, tmp_path / "records", table=table, split="random")
        written = b"".join(content(prepared.folder).values())
        assert b"Quillfeather" not in written
        assert hashlib.sha256(b"Quillfeather").hexdigest().encode() not in written


@pytest.fixture
def whole(source, tmp_path):
    """The bytes that an uninterrupted run writes, in parts of the usual size."""
    return content(run(source, tmp_path / "whole").folder)


class TestResume:
    @pytest.mark.parametrize(
        ("error", "raised"),
        [
            (KeyboardInterrupt(), KeyboardInterrupt),
            (OSError(errno.EIO, os.strerror(errno.EIO)), PreparationError),
        ],
        ids=["interrupted", "failed"],
    )
    def test_interrupted_run_goes_on_to_the_same_bytes(
        self, source, tmp_path, whole, small_parts, monkeypatch, error, raised
    ):
        out = tmp_path / "records"
        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(19, process, error))
            with pytest.raises(raised):
                run(source, out)
        assert not out.exists()
        assert len(list((tmp_path / "records.partial" / "parts").glob("*.json"))) == 2
        reports = []
        # The two finished parts must not be worked on again.
        monkeypatch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(24, process, AssertionError()))
        prepared = run(source, out, progress=lambda *report: reports.append(report))
        assert reports == [(finished, 40) for finished in (16, 24, 32, 40)]
        assert content(prepared.folder) == whole
        assert not (tmp_path / "records.partial").exists()

    def test_two_workers_write_the_same_bytes(self, source, tmp_path, whole, small_parts):
        assert content(run(source, tmp_path / "records", workers=2).folder) == whole

    def test_part_that_is_done_twice_at_once_does_no_harm(self, source, tmp_path, whole, small_parts, monkeypatch):
        begun = []

        def meanwhile_another(shard, **options):
            def make(*arguments, **keywords):
                if shard.manifest not in begun:
                    begun.append(shard.manifest)
                    process_shard(shard, **options)
                return make_record(*arguments, **keywords)

            with monkeypatch.context() as patch:
                patch.setattr("boneage.preprocessing.jobs.shard.make_record", make)
                process_shard(shard, **options)
            assert not list(shard.manifest.parent.glob("*.part"))

        monkeypatch.setattr("boneage.preprocessing.jobs.prepare.process_shard", meanwhile_another)
        assert content(run(source, tmp_path / "records").folder) == whole
        assert len(begun) == 5

    def test_parts_of_another_job_are_cleared_away(self, source, tmp_path, whole, small_parts, monkeypatch):
        out = tmp_path / "records"
        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(19, process, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                run(source, out, config=PreprocessingConfig(segmenter="none", image_size_px=20))
        assert content(run(source, out).folder) == whole

    def test_parts_of_another_size_are_cleared_away(self, source, tmp_path, whole, small_parts, monkeypatch):
        out = tmp_path / "records"
        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(19, process, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                run(source, out)
        monkeypatch.setattr("boneage.preprocessing.jobs.prepare.CASES_PER_SHARD", 5)
        assert content(run(source, out).folder) == whole

    def test_damaged_part_is_named(self, source, tmp_path, small_parts, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(19, process, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                run(source, tmp_path / "records")
        part = tmp_path / "records.partial" / "parts" / "part-00000.tfrecord"
        part.write_bytes(part.read_bytes()[:-1])
        with pytest.raises(PreparationError, match=r"records\.partial: the finished work in it is damaged; remove it"):
            run(source, tmp_path / "records")

    def test_a_removal_of_finished_work_that_is_interrupted_does_no_harm(
        self, source, tmp_path, whole, small_parts, monkeypatch
    ):
        def remove_half(folder):
            if folder.suffix != ".partial":
                raise FileNotFoundError(folder)
            for path in (folder / "parts").glob("*.tfrecord"):
                path.unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.prepare.shutil.rmtree", remove_half)
            with pytest.raises(KeyboardInterrupt):
                run(source, tmp_path / "records")
        assert content(tmp_path / "records") == whole
        shutil.rmtree(tmp_path / "records")
        assert content(run(source, tmp_path / "records").folder) == whole

    def test_a_kill_at_the_very_end_leaves_nothing_beside_the_records(self, source, tmp_path, whole, monkeypatch):
        def kill(_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("boneage.preprocessing.jobs.prepare._remove_work_folder", kill)
            with pytest.raises(KeyboardInterrupt):
                run(source, tmp_path / "records")
        assert content(run(source, tmp_path / "records").folder) == whole
        assert sorted(path.name for path in tmp_path.iterdir()) == ["records", "rsna", "whole"]

    def test_done_folder_is_returned_without_work(self, source, tmp_path, monkeypatch):
        first = run(source, tmp_path / "records")
        before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
        monkeypatch.setattr("boneage.preprocessing.jobs.shard.make_record", fail_at(0, None, AssertionError()))
        assert run(source, tmp_path / "records") == first
        assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before

    @pytest.mark.parametrize(
        "options",
        [{"config": PreprocessingConfig(segmenter="none", image_size_px=20)}, {"seed": 1}, {"split": "random"}],
        ids=["preprocessing", "seed", "split"],
    )
    def test_folder_made_otherwise_is_refused_and_kept(self, source, tmp_path, options):
        out = run(source, tmp_path / "records").folder
        before = content(out)
        with pytest.raises(
            PreparationError,
            match=r"records: already exists and was made from other inputs or",
        ):
            run(source, out, **options)
        assert content(out) == before

    def test_folder_of_another_source_is_refused(self, source, tmp_path):
        out = run(source, tmp_path / "records").folder
        write_image(source / "boneage-train-dataset" / "0.png", seed=100)
        with pytest.raises(PreparationError, match="made from other inputs"):
            run(source, out)

    @pytest.mark.parametrize("name", ["thesis.doc", INFO_FILE])
    def test_folder_of_something_else_is_refused(self, source, tmp_path, name):
        (tmp_path / "records").mkdir()
        (tmp_path / "records" / name).write_text("Chapter 1")
        with pytest.raises(PreparationError, match="made from other inputs"):
            run(source, tmp_path / "records")
        assert content(tmp_path / "records") == {name: b"Chapter 1"}

    def test_file_in_the_place_of_the_folder_is_refused(self, source, tmp_path):
        (tmp_path / "records").write_text("mine")
        with pytest.raises(PreparationError, match="made from other inputs"):
            run(source, tmp_path / "records")
        assert (tmp_path / "records").read_text() == "mine"

    def test_empty_folder_is_taken(self, source, tmp_path, whole):
        (tmp_path / "records").mkdir()
        assert content(run(source, tmp_path / "records").folder) == whole

    @pytest.mark.parametrize("inside", [".", "records", "a/b"])
    def test_folder_in_the_source_is_refused(self, source, inside):
        before = content(source)
        with pytest.raises(PreparationError, match="is inside the source folder; choose a folder outside"):
            run(source, source / inside)
        assert content(source) == before


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))


class TestDisk:
    @pytest.mark.parametrize(
        ("function", "number", "num_parts"),
        [("boneage.preprocessing.jobs.shard.frame_record", 19, 2), ("boneage.tfrecords.writer.frame_record", 33, 5)],
        ids=["in the parts", "in the shards"],
    )
    def test_full_disk_is_one_line_and_keeps_what_is_finished(
        self, source, tmp_path, whole, small_parts, monkeypatch, function, number, num_parts
    ):
        out, partial = tmp_path / "records", tmp_path / "records.partial"
        with monkeypatch.context() as patch:
            patch.setattr(function, fail_at(number, boneage.preprocessing.jobs.shard.frame_record, FULL))
            with pytest.raises(PreparationError) as caught:
                run(source, out)
        assert str(caught.value) == (
            f"{partial}: No space left on device; fix this and run the same command again: "
            f"finished work is kept in {partial}."
        )
        assert not out.exists()
        assert len(list((partial / "parts").glob("*.json"))) == num_parts
        num_pending = 40 - 8 * num_parts
        monkeypatch.setattr("boneage.preprocessing.jobs.shard.process", fail_at(num_pending, process, AssertionError()))
        assert content(run(source, out).folder) == whole

    def test_read_only_place_is_one_line(self, source, tmp_path, monkeypatch):
        monkeypatch.setattr(Path, "mkdir", fail_at(0, None, READ_ONLY))
        with pytest.raises(PreparationError, match=r"records\.partial: Read-only file system; fix this") as caught:
            run(source, tmp_path / "records")
        assert "\n" not in str(caught.value)

    def test_file_in_the_way_is_named(self, source, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(PreparationError, match=r"file/records\.partial.*: Not a directory; fix this"):
            run(source, tmp_path / "file" / "records")

    @pytest.mark.parametrize("moment", ["find_cases", "_open_work_folder"])
    def test_a_file_that_vanishes_meanwhile_is_rejected(self, source, tmp_path, monkeypatch, moment):
        module = boneage.preprocessing.jobs.prepare
        work = getattr(module, moment)

        def vanish(*arguments, **options):
            result = work(*arguments, **options)
            next(source.rglob("7.png")).unlink()
            return result

        monkeypatch.setattr(module, moment, vanish)
        prepared = run(source, tmp_path / "records")
        assert reasons(prepared) == [("7", "missing_file"), ("licence.txt", "not_an_image")]
        assert splits_of(prepared.folder).keys() == SPLIT_OF.keys() - {"7"}

    def test_source_that_cannot_be_read_on_is_rejected(self, source, tmp_path, monkeypatch):
        def read(path):
            if path.stem == "7":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read_radiograph(path)

        monkeypatch.setattr("boneage.preprocessing.jobs.shard.read_isolated", read)
        prepared = run(source, tmp_path / "records")
        assert prepared.rejected[0] == {
            "id": "7",
            "file": "boneage-train-dataset/7.png",
            "reason": "damaged_image",
            "detail": f"{source / 'boneage-train-dataset' / '7.png'} cannot be read (Input/output error); "
            "copy it again from its source.",
            "decisions": "",
        }
        assert sorted(splits_of(prepared.folder)) == sorted(set(SPLIT_OF) - {"7"})

    def test_file_that_vanishes_is_rejected(self, source, tmp_path):
        victim = source / "boneage-train-dataset" / "7.png"
        prepared = run(source, tmp_path / "records", progress=lambda *_: victim.unlink(missing_ok=True))
        assert ("7", "missing_file") in reasons(prepared)


class TestRejections:
    def test_damaged_and_empty_files(self, source, tmp_path):
        damaged, empty = (source / "boneage-train-dataset" / f"{id}.png" for id in (3, 4))
        damaged.write_bytes(damaged.read_bytes()[:-40])
        empty.write_bytes(b"")
        prepared = run(source, tmp_path / "records")
        assert reasons(prepared) == [("3", "damaged_image"), ("4", "empty_file"), ("licence.txt", "not_an_image")]
        assert prepared.rejected[1]["file"] == "boneage-train-dataset/4.png"
        assert prepared.info["num_rejected"] == 3
        assert verify(prepared.folder) == []

    def test_without_label_or_sex_or_split(self, source, tmp_path):
        table = tmp_path / "labels.csv"
        rows = [f"{id},F,30,train" for id in SPLIT_OF]
        rows[5], rows[6], rows[7] = "5,F,,train", "6,,30,train", "7,M,30,"
        write_table(table, "id,sex,boneage,split", rows)
        prepared = run(source, tmp_path / "records", table=table)
        expected = {"5": "no_label", "6": "no_sex", "7": "no_split"}
        assert {id: reason for id, reason in reasons(prepared) if id in SPLIT_OF} == expected
        assert sorted(splits_of(prepared.folder)) == sorted(set(SPLIT_OF) - set(expected))

    def test_radiographs_alone_make_no_records(self, source, tmp_path):
        with pytest.raises(PreparationError, match=r"boneage-test-dataset: no radiograph has a bone age; give a table"):
            run(source / "boneage-test-dataset", tmp_path / "records", split="random")
        assert not (tmp_path / "records").exists()

    def test_single_file(self, source, tmp_path):
        with pytest.raises(PreparationError, match=r"38\.png: no radiograph has a bone age; give a table"):
            run(source / "boneage-test-dataset" / "38.png", tmp_path / "records")

    def test_labels_without_a_split_need_a_random_one(self, source, tmp_path):
        table = tmp_path / "labels.csv"
        write_table(table, "id,sex,boneage", [f"{id},F,30" for id in SPLIT_OF])
        with pytest.raises(PreparationError, match=r"rsna: defines no splits; use --split random"):
            run(source, tmp_path / "records", table=table)
        assert run(source, tmp_path / "records", table=table, split="random").info["splits"]

    def test_detail_is_one_line_whatever_the_folder_is_called(self, source, tmp_path):
        write_image(source / "line\nbreak" / "99.png", seed=99)
        (source / "line\nbreak" / "99.png").write_bytes(b"")
        table = tmp_path / "labels.csv"
        write_table(table, "id,sex,boneage,split", [f"{id},F,30,train" for id in [*SPLIT_OF, "99"]])
        prepared = run(source, tmp_path / "records", table=table)
        (row,) = [row for row in prepared.rejected if row["id"] == "99"]
        assert (row["reason"], row["file"]) == ("empty_file", r"line\nbreak/99.png")
        assert "\n" not in row["detail"]

    def test_source_of_nothing_usable(self, tmp_path):
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "notes.txt").write_text("none")
        with pytest.raises(PreparationError, match="none of its 1 entries can be prepared: not_an_image: 1"):
            run(tmp_path / "source", tmp_path / "records")
        with pytest.raises(SourceNotFoundError, match="no such file or folder"):
            run(tmp_path / "nowhere", tmp_path / "records")
        assert [path.name for path in tmp_path.iterdir()] == ["source"]


class TestSplits:
    @pytest.mark.parametrize("place", ["source", "beside"])
    def test_split_file(self, source, tmp_path, place):
        path = (source if place == "source" else tmp_path) / "mine.csv"
        write_table(path, "id,split", [*(f"{id},train" for id in range(20)), "20.png,validation", "21,test"])
        prepared = run(source, tmp_path / "records", split=path)
        expected = {f"{id}": "train" for id in range(20)} | {"20": "validation", "21": "test"}
        assert splits_of(prepared.folder) == expected
        rejected = dict(reasons(prepared))
        assert rejected.pop("licence.txt") == "not_an_image"
        assert rejected == {id: "no_split" for id in SPLIT_OF if id not in expected}
        assert prepared.info["split"] == "given"

    def test_random_split(self, source, tmp_path):
        prepared = run(source, tmp_path / "records", split="random")
        assigned = splits_of(prepared.folder)
        assert sorted(assigned) == sorted(SPLIT_OF)
        counts = {name: described["num_records"] for name, described in prepared.info["splits"].items()}
        assert counts == {"train": 32, "validation": 4, "test": 4}
        assert splits_of(run(source, tmp_path / "again", split="random").folder) == assigned
        assert splits_of(run(source, tmp_path / "other", split="random", seed=1).folder) != assigned

    def test_records_carry_a_number_for_each_patient_and_nothing_of_its_name(self, source, tmp_path):
        write_table(
            tmp_path / "labels.csv",
            "id,boneage,sex,patient",
            [f"{id},{months_of(id)},{sex_of(id)},Doe{int(id) // 2 if int(id) < 20 else ''}" for id in SPLIT_OF],
        )
        prepared = run(source, tmp_path / "records", table=tmp_path / "labels.csv", split="random")
        records = {id: (split, record.group) for id, (split, record) in read_folder(prepared.folder).items()}
        assert len({records[f"{number}"][1] for number in range(20, 40)}) == 1
        for number in range(0, 20, 2):
            assert records[f"{number}"] == records[f"{number + 1}"]
        assert {group for _, group in records.values()} == set(range(11))
        assert sum(described["num_groups"] for described in prepared.info["splits"].values()) == 11
        assert not any(b"Doe" in data for data in content(prepared.folder).values())
        assert verify(prepared.folder) == []
        plain = run(source, tmp_path / "plain")
        assert len({record.group for _, record in read_folder(plain.folder).values()}) == len(SPLIT_OF)

    def test_equal_pixels_stay_in_the_split_that_is_held_out_furthest(self, source, tmp_path):
        write_image(source / "boneage-train-dataset" / "0.png", seed=39)
        write_image(source / "boneage-validation-dataset" / "30.png", seed=39)
        write_image(source / "boneage-train-dataset" / "1.png", seed=2)
        prepared = run(source, tmp_path / "records")
        assert reasons(prepared) == [("0", "duplicate"), ("30", "duplicate"), ("licence.txt", "not_an_image")]
        assert prepared.info["duplicates"] == [["0", "30", "39"], ["1", "2"]]
        assert splits_of(prepared.folder) == {id: split for id, split in SPLIT_OF.items() if id not in ("0", "30")}
        assert verify(prepared.folder) == []
