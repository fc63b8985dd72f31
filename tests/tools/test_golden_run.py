"""The golden run reports planted differences and ignores what may differ."""

import copy
import importlib.util
import json
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "golden_run.py"
STEPS = {
    "predict": {"1.png": {"bone_age_months": "58.71", "male_share": "0.98"}},
    "train": {"history": [{"epoch": 1, "loss": 48.25}, {"epoch": 2, "loss": 44.5}], "faults": []},
}


@pytest.fixture
def golden_run(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "golden"]:
        del sys.modules[name]


@pytest.fixture
def compare_runs(golden_run, monkeypatch, capsys):
    """A function that runs the command `compare` and gives its exit status and what it prints."""

    def compare(*arguments):
        monkeypatch.setattr(sys, "argv", ["golden_run.py", "compare", *map(str, arguments)])
        return golden_run.main(), capsys.readouterr().out

    return compare


@pytest.fixture
def write_run(tmp_path):
    """A function that writes the document of a run and gives its path."""

    def write(name, steps=STEPS, failed=()):
        path = tmp_path / name
        path.write_text(json.dumps({"steps": steps, "failed": list(failed)}))
        return path

    return write


def test_equal_runs_do_not_differ(write_run, compare_runs):
    assert compare_runs(write_run("before"), write_run("after")) == (0, "no difference\n")


def test_reports_a_planted_number_a_lost_value_and_a_new_one(write_run, compare_runs):
    steps = copy.deepcopy(STEPS)
    steps["train"]["history"][1]["loss"] = 44.5001
    steps["train"]["faults"] = ["train: wrong count"]
    del steps["predict"]["1.png"]["male_share"]
    status, printed = compare_runs(write_run("before"), write_run("after", steps))
    assert status == 1
    assert printed.splitlines() == [
        "/predict/1.png/male_share: 0.98 -> absent",
        "/train/faults: [] -> absent",
        "/train/faults/0: absent -> train: wrong count",
        "/train/history/1/loss: 44.5 -> 44.5001",
    ]


def test_ignores_a_renamed_key_and_a_difference_within_the_tolerance(write_run, compare_runs):
    steps = copy.deepcopy(STEPS)
    steps["train"]["history"][1]["loss"] = 44.5001
    steps["predict"]["1.png"]["male_probability"] = steps["predict"]["1.png"].pop("male_share")
    arguments = (write_run("before"), write_run("after", steps), "--renamed", "male_share=male_probability")
    assert compare_runs(*arguments, "--tolerance", "1e-5")[0] == 0
    assert compare_runs(*arguments, "--tolerance", "1e-6")[0] == 1


def test_ignores_a_key_renamed_to_one_that_is_left_out(write_run, compare_runs):
    steps = {**copy.deepcopy(STEPS), "bundle": {"checksum": "4e", "weights": "a0"}}
    before, after = write_run("before", steps), write_run("after", {**STEPS, "bundle": {"weights": "a0"}})
    assert compare_runs(before, after) == (1, "/bundle/checksum: 4e -> absent\n")
    assert compare_runs(before, after, "--renamed", "checksum=metadata_digest")[0] == 0


def test_refuses_a_run_with_a_failed_step(write_run, compare_runs, capsys):
    with pytest.raises(SystemExit) as stopped:
        compare_runs(write_run("before"), write_run("after", failed=["train_age: exit status 1"]))
    assert stopped.value.code == 2
    assert "after: not the document of a complete golden run" in capsys.readouterr().err


def test_leaves_out_what_may_differ_at_any_depth(golden_run):
    describe = importlib.import_module("golden.describe")
    document = {"seconds": 3.1, "runs": [{"run_id": "a", "val_mae": 9.5}], "detail": "cut.png: damaged"}
    assert describe.keep_comparable(document) == {"runs": [{"val_mae": 9.5}]}


def test_a_failed_command_is_reported_by_its_last_line(golden_run, tmp_path):
    program = golden_run.Program(tmp_path / "boneage", tmp_path)
    program.path.write_text("#!/bin/sh\necho 'many lines' >&2\necho 'boneage: no such file' >&2\nexit 1\n")
    program.path.chmod(0o755)
    with pytest.raises(golden_run.GoldenRunError, match="prepare drawn: exit status 1: boneage: no such file"):
        program.run("prepare", "drawn")


def test_draws_radiographs_that_later_steps_prepare(golden_run, tmp_path, monkeypatch):
    preparation = golden_run.preparation
    monkeypatch.setattr(preparation, "NUM_DRAWN", 8)
    monkeypatch.setattr(golden_run, "STEPS", (preparation.draw_radiographs, preparation.prepare_frames))
    program = golden_run.Program(Path(sys.executable).with_name("boneage"), tmp_path)
    steps, failed = golden_run.run_steps(program)
    assert failed == []
    assert len(steps["draw_radiographs"]["drawn"]) == 11  # and a copy, a cut one and an empty one
    info = steps["prepare_frames"]["info"]
    assert {name: split["num_records"] for name, split in info["splits"].items()} == {"train": 6, "validation": 2}
    assert "absent" in {rejected["id"] for rejected in steps["prepare_frames"]["rejected"]}
