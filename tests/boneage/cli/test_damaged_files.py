"""Files that the package reads back, damaged by a kill or by a hand: one line names the file and what to do."""

import json
import shutil

import pytest

from boneage.base.errors import BoneAgeError
from boneage.base.json_files import DamagedFileError, read_own_json
from boneage.configuration.experiment import load_experiment
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.assemble import assemble
from boneage.preprocessing.jobs.contact_sheets import write_contact_sheets
from boneage.preprocessing.jobs.prepare import _read_done
from boneage.preprocessing.jobs.resumable import run_resumable
from boneage.serve.store import Store
from boneage.serve.watch import Watch
from boneage.tracking.outbox import Outbox

DAMAGED = {
    "empty": b"",
    "no object": b"7",
    "deep": b"[" * 100_000,
    "long number": b'{"a": ' + b"9" * 5000 + b"}",
    "zeros": bytes(100),
    "no text": b"\xff\xfe",
}


@pytest.fixture(params=DAMAGED.values(), ids=DAMAGED)
def damaged(request):
    """The content of a damaged file."""
    return request.param


def open_run(path, reader):
    from boneage.training.run_folder import open_run

    open_run(path.parent, load_experiment("rsna_lite0"), digest="1", resume=True)


def open_search(path, reader):
    from boneage.tuning.tune import _open

    _open(path.parent, load_experiment("tune_heads"), digest="1", backbone="", tuner="random", seed=0)


def read_trial(path, reader):
    from boneage.tuning.trials import _read_result

    _read_result(path)


def read_manifest(path, reader):
    assemble(path.parent / "records", [path], [], [], config=PreprocessingConfig(), split="given", seed=0)


READ = {
    "state.json": open_run,
    "search.json": open_search,
    "00001.json": read_trial,
    "part-00000.json": read_manifest,
    "tracking-sent.json": lambda path, reader: Outbox(path.parent).read_sent("store"),
}
READ_LINES = {
    "tracking.jsonl": lambda path, reader: Outbox(path.parent).read(),
    "out.csv.part.jsonl": lambda path, reader: run_resumable(lambda job: {}, {}, progress_file=path, workers=1),
    "readings.jsonl": lambda path, reader: Store(path.parent, model="a"),
    "readings.csv": lambda path, reader: Watch(
        path.parent.parent / "in", out=path.parent, reader=reader, max_bytes=100
    ),
    "part-00000.tiles": lambda path, reader: write_contact_sheets(path.parent / "sheets", [path]),
}


def refuse(read, path, reader):
    with pytest.raises(DamagedFileError) as caught:
        read(path, reader)
    text = str(caught.value)
    assert path.name in text and "damaged" in text
    assert "\n" not in text and len(text) < 600


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_one_line(name, damaged, reader, tmp_path):
    (tmp_path / name).write_bytes(damaged)
    refuse(READ[name], tmp_path / name, reader)


@pytest.mark.parametrize("name", READ_LINES)
def test_a_damaged_line_is_one_line(name, damaged, reader, tmp_path):
    head = b"file,size_bytes,modified_ns,reports\n1.png,a," if name.endswith(".csv") else b""
    folder = tmp_path / "out"
    for made in (folder, tmp_path / "in"):
        made.mkdir()
    (folder / "1.part").write_bytes(b"")
    (folder / name).write_bytes(head + damaged + b"\n")
    refuse(READ_LINES[name], folder / name, reader)


@pytest.mark.parametrize(
    "change",
    [
        {"history": {}},
        {"history": [7]},
        {"history": [{}]},
        {"history": [{"epoch": "1", "loss": 1.0}]},
        {"checkpoint": 7},
        {"checkpoint": "../../secret"},
        {"tracking_key": None},
        {"experiment": []},
    ],
)
def test_open_run_with_a_hostile_state_is_one_line(change, tmp_path):
    state = {"experiment": {}, "digest": "1", "tracking_key": "a", "checkpoint": "latest-0001.weights.h5"}
    row = {"epoch": 1, "loss": 1.0, "val_mae": 1.0}
    (tmp_path / "state.json").write_text(json.dumps({**state, "history": [row], **change}))
    refuse(open_run, tmp_path / "state.json", None)


def test_read_own_json_of_no_regular_file_is_one_line(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(BoneAgeError, match=r"a\.json: damaged \(no regular file\); restore it\.$"):
        read_own_json(tmp_path / "a.json", fields={}, fix="restore it")


def test_read_done_of_damaged_records_is_none(prepared, damaged, tmp_path):
    folder = shutil.copytree(prepared.folder, tmp_path / "records")
    (folder / "dataset_info.json").write_bytes(damaged)
    assert _read_done(folder, prepared.info["job"]) is None


def test_watch_ignores_a_damaged_note_of_the_current_file(reader, damaged, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".reading.json").write_bytes(damaged)
    Watch(tmp_path / "in", out=tmp_path / "out", reader=reader, max_bytes=100)
