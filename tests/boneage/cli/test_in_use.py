"""An output that cannot be written: each command says so in one line before it works, and changes nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from boneage.base.locks import lock_folder, lock_output, lock_watched
from boneage.bundles.bundle import DEFAULT_BUNDLE
from boneage.cli.main import main

IN_DRAWN = ("--radiographs", "{drawn}", "--split", "{table}")
BOUND = ("--host", "127.0.0.1", "--port", "0")


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the command line and gives its status and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("lock", "name", "words"),
    [
        (lock_output, "records", ("prepare", "{drawn}", "--segmenter", "none", "--out", "{out}")),
        (lock_folder, "masks", ("segment", "{drawn}", "--out", "{out}")),
        (lock_output, "table.csv", ("predict", "{drawn}", "--sex", "female", "--out", "{out}")),
        (lock_folder, "run", ("train", "rsna_lite0", "--data", "{records}", "--run", "{out}")),
        (lock_folder, "search", ("tune", "tune_heads", "--data", "{records}", "--out", "{out}")),
        (lock_folder, "measured", ("evaluate", "{bundle}", "--data", "{records}", "--out", "{out}")),
        (lock_output, "bundle", ("calibrate", "{bundle}", "--data", "{records}", "--out", "{out}")),
        (lock_output, "joined", ("ensemble", "{bundle}", "{bundle}", "--out", "{out}")),
        (lock_folder, "unet", ("train-unet", "{drawn}", "--masks", "{drawn}", "--out", "{out}")),
        (lock_folder, "landmarks", ("train-landmarks", "{table}", *IN_DRAWN, "--out", "{out}")),
        (lock_output, "mine.csv", ("review", "{records}", "--source", "{drawn}", "--decisions", "{out}", *BOUND)),
        (lock_folder, "store", ("serve", "--save-readings", "{out}", *BOUND)),
        (lock_folder, "reports", ("serve", "--watch", "{drawn}", "--out", "{out}", *BOUND)),
        (lock_watched, "incoming", ("serve", "--watch", "{out}", "--out", "{free}", *BOUND)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_second_process_is_told_in_one_line(run, drawn, prepared, tmp_path, lock, name, words):
    places = {"drawn": drawn, "records": prepared.folder, "out": tmp_path / name, "free": tmp_path / "free"}
    places |= {"table": next(drawn.glob("*.csv")), "bundle": DEFAULT_BUNDLE}
    with lock(tmp_path / name):
        before = {path.name for path in tmp_path.rglob("*")} | {"free"}
        status, err = run(*(word.format(**places) for word in words))
        assert {path.name for path in tmp_path.rglob("*")} <= before
    assert status == 1
    assert err.startswith(f"boneage: {tmp_path / name}: another process is ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("predict", "{drawn}", "--sex", "F", "--out", "{folder}"), "{folder}: Is a directory; choose another file"),
        (("predict", "{empty}"), "{empty}: contains no files"),
        (("calibrate", "{bundle}", "--data", "{records}", "--out", "{file}"), "{file}: Not a directory"),
        (("ensemble", "{bundle}", "{bundle}", "--out", "{file}"), "{file}: Not a directory"),
        (
            ("prepare", "{drawn}", "--split", "rndom", "--out", "{free}"),
            "rndom: neither given, random, nor a fold such as 1/5, nor a file; correct --split. Did you mean 'random'?",
        ),
        (
            ("train", "rsna_lite", "--data", "{records}"),
            "rsna_lite: neither a file nor a packaged recipe. Did you mean",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_output_or_name_is_told_in_one_line_before_the_work(run, drawn, prepared, tmp_path, words, told):
    for name in ("folder", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("kept")
    places = {name: tmp_path / name for name in ("folder", "empty", "file", "free")}
    places |= {"drawn": drawn, "records": prepared.folder, "bundle": DEFAULT_BUNDLE}
    status, err = run(*(word.format(**places) for word in words))
    assert (status, err.count("\n")) == (1, 1), err
    assert err.startswith(f"boneage: {told.format(**places)}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_one_line_and_leaves_no_process(drawn, tmp_path, workers):
    code = "import sys; from boneage.cli.main import main; sys.argv = ['boneage', *sys.argv[1:]]; main()"
    words = ("segment", drawn, "--out", tmp_path / "masks", "--workers", workers, "--json")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job in the background of a shell ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    progress_file = tmp_path / "masks" / "segments.part.jsonl"
    until = time.monotonic() + 60
    while not (progress_file.exists() and progress_file.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    # As a terminal does: to the process and to its workers.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "boneage: interrupted\n")
    until = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    assert progress_file.exists()
