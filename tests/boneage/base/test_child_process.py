"""Calls in a child process: what a crash, a hang or too much memory does to the caller, and that no child stays."""

import functools
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boneage.base import child_process
from boneage.base.child_process import ChildKilledError, ChildProcess, ChildStartError
from boneage.base.errors import BoneAgeError, check_choice

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture
def child():
    made = ChildProcess(max_memory_bytes=2**28)
    yield made
    made.close()


def test_call_returns_the_result_and_raises_the_error(child, tmp_path, monkeypatch):
    assert child.call(operator.add, 1, 2) == 3
    with pytest.raises(ValueError, match="`name` must be one of a"):
        child.call(check_choice, "name", "b", ("a",))
    monkeypatch.chdir(tmp_path)
    assert child.call(os.getcwd) == str(tmp_path)
    assert child.is_alive


def test_call_keeps_what_a_library_prints_out_of_the_answers(child):
    assert child.call(os.write, 1, b"printed") == 7
    assert child.call(print, "printed") is None
    assert child.call(operator.add, 1, 2) == 3


@pytest.mark.parametrize(
    ("signum", "cause"), [(signal.SIGSEGV, "crash"), (signal.SIGABRT, "crash"), (signal.SIGKILL, "memory")]
)
def test_call_tells_a_crash_from_a_kill(child, signum, cause):
    with pytest.raises(ChildKilledError) as caught:
        child.call(signal.raise_signal, signum)
    assert caught.value.cause == cause
    assert not child.is_alive


def test_call_ends_at_its_time_limit(child):
    began = time.monotonic()
    with pytest.raises(ChildKilledError) as caught:
        child.call(time.sleep, 60, seconds=1.5)
    assert caught.value.cause == "time"
    assert time.monotonic() - began < 30


@needs_linux
def test_call_ends_at_its_memory_limit(child):
    assert child.call(bytearray, 2**20) == bytearray(2**20)
    with pytest.raises(MemoryError):
        child.call(bytearray, 2**30)
    assert child.call(operator.add, 1, 2) == 3


@needs_linux
def test_a_child_ends_with_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    # Without `if __name__ == "__main__"`, as people write scripts.
    script.write_text(
        "import os, signal, sys\nfrom boneage.base.child_process import ChildProcess\nchild = ChildProcess()\n"
        "print(child.call(os.getpid), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    ends = time.monotonic() + 30
    while Path(f"/proc/{int(told.stdout)}/cmdline").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{int(told.stdout)}/cmdline").exists()


def test_a_child_imports_nothing_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of a stranger')")
    monkeypatch.chdir(tmp_path)
    child = ChildProcess()
    assert child.call(functools.partial(operator.add, 1), 1) == 2
    child.close()


def test_a_child_that_cannot_start_is_one_line():
    child = ChildProcess(modules=["no_such_module"])
    with pytest.raises(ChildStartError, match="cannot start") as caught:
        child.call(operator.add, 1, 2)
    assert isinstance(caught.value, BoneAgeError) and "\n" not in str(caught.value)


def test_child_whose_parent_ends_at_once_says_nothing():
    ended = subprocess.run([sys.executable, "-P", "-c", child_process._START], input=b"", capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")
