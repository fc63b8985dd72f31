"""Locks of outputs: the second process is told at its start, and a killed one leaves nothing in the way."""

import subprocess
import sys
import time

import pytest

from boneage.base.locks import OutputInUseError, lock_folder, lock_output

HOLD = """
import pathlib, sys, time
from boneage.base import locks
with getattr(locks, sys.argv[1])(pathlib.Path(sys.argv[2])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """A function that starts a process that holds a lock."""
    started = []

    def start(name, path):
        process = subprocess.Popen([sys.executable, "-c", HOLD, name, path], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("lock", [lock_folder, lock_output])
def test_lock_in_use_by_another_process_is_told_at_once(tmp_path, hold, lock):
    process, began = hold(lock.__name__, tmp_path / "out"), time.monotonic()
    with pytest.raises(OutputInUseError, match=r"out: another process is writing here; wait until") as caught:
        lock(tmp_path / "out").__enter__()
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    process.kill()
    process.wait()
    with lock(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if lock is lock_folder else [])


@pytest.mark.parametrize("lock", [lock_folder, lock_output])
def test_lock_of_the_same_output_by_another_name(tmp_path, lock):
    (tmp_path / "link").symlink_to("out", target_is_directory=True)
    (tmp_path / "out").mkdir()
    with lock(tmp_path / "out"), pytest.raises(OutputInUseError):
        lock(tmp_path / "link").__enter__()
    with lock(tmp_path / "out"), lock(tmp_path / "other"):
        pass


def test_lock_folder_removes_what_a_killed_process_left(tmp_path):
    for name in ("state.json.0a1b2c3d.part", "deep/mask.png.ffffffff.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    for name in ("mine.part", "state.json", "x.0a1b2c3.part"):
        (tmp_path / name).write_text("mine")
    with lock_folder(tmp_path):
        pass
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["mine.part", "state.json", "x.0a1b2c3.part"]


def test_lock_output_removes_what_a_killed_process_left_of_this_file_alone(tmp_path):
    for name in ("a[1].csv.0a1b2c3d.part", "a[1].csv", "b.csv.0a1b2c3d.part"):
        (tmp_path / name).write_text("a")
    with lock_output(tmp_path / "a[1].csv"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a[1].csv", "b.csv.0a1b2c3d.part"]


def test_lock_output_in_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        lock_output(tmp_path / "file" / "out.csv").__enter__()
