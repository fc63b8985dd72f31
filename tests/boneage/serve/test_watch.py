"""The folder that is watched, and the storage node that fills it."""

import contextlib
import csv
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pydicom
import pytest
from pynetdicom import AE

from boneage.base.files import write_json
from boneage.base.json_files import DamagedFileError
from boneage.cli.main import main
from boneage.inference.rows import COLUMNS
from boneage.serve.receive import ReceiveError, receive
from boneage.serve.watch import READINGS_FILE, Watch, WatchError

SECRETS = ("Müller", "Zoë", "PATIENT-4711", "20100203")


@pytest.fixture
def watch(reader, tmp_path):
    """A function that makes a watch, as the first start and every restart does."""

    def start(**options):
        given = {"out": tmp_path / "out", "reader": reader, "max_bytes": 2**22, **options}
        return Watch(tmp_path / "in", **given)

    return start


def read_lines(tmp_path):
    with (tmp_path / "out" / READINGS_FILE).open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def look_twice(watch):
    """A file is read when two scans find it unchanged."""
    assert watch.scan() == 0
    return watch.scan()


def list_reports(tmp_path):
    return {path.name for path in (tmp_path / "out").iterdir() if path.is_file() and path.name != READINGS_FILE}


def test_reads_each_file_once_and_lists_what_is_broken(watch, write_hand, half, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    watching = watch()
    shutil.copy(write_hand(), tmp_path / "in" / "hand")
    (tmp_path / "in" / "deep").mkdir()
    shutil.copy(write_hand(seed=8), tmp_path / "in" / "deep" / "hand.dcm")
    (tmp_path / "in" / "broken.dcm").write_bytes(write_hand().read_bytes()[:2000])
    (tmp_path / "in" / "half.png").write_bytes(half)
    (tmp_path / "in" / "big.png").write_bytes(bytes(2**22 + 1))
    assert look_twice(watching) == 5
    lines = read_lines(tmp_path)
    assert {name: (row["accepted"], row["reasons"]) for name, row in lines.items()} == {
        "hand": ("True", ""),
        "deep/hand.dcm": ("True", ""),
        "broken.dcm": ("False", "damaged_image"),
        "half.png": ("True", ""),
        "big.png": ("False", "too_large"),
    }
    assert all(row["detail"] for row in lines.values() if row["accepted"] == "False")
    assert float(lines["hand"]["bone_age_months"]) > 0
    listed = {name for row in lines.values() for name in filter(None, row["reports"].split(";"))}
    assert listed == list_reports(tmp_path) and len(listed) == 7
    assert {path.suffix for path in (tmp_path / "out").iterdir() if path.name in listed} == {".dcm", ".json"}
    assert watching.scan() == 0
    assert look_twice(watch()) == 0
    told = (tmp_path / "out" / READINGS_FILE).read_text() + caplog.text + " ".join(listed)
    assert not any(secret in told for secret in SECRETS)


def test_waits_until_a_file_is_whole(watch, half, tmp_path):
    watching = watch()
    growing = tmp_path / "in" / "half.png"
    growing.write_bytes(half[:40])
    assert watching.scan() == 0
    growing.write_bytes(half)
    assert watching.scan() == 0
    for name in ("half.png.part", ".hidden.png"):
        (tmp_path / "in" / name).write_bytes(half)
    assert watching.scan() == 1
    assert watching.scan() == 0
    assert set(read_lines(tmp_path)) == {"half.png"}


def test_a_file_that_changed_is_another_one(watch, write_hand, tmp_path):
    watching = watch()
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
    assert look_twice(watching) == 1
    shutil.copy(write_hand(seed=9, StudyInstanceUID="1.2.3.99"), tmp_path / "in" / "hand.dcm")
    assert look_twice(watching) == 1
    assert len(list_reports(tmp_path)) == 6


@pytest.mark.parametrize("place", ["before the line", "after the line"])
def test_a_kill_at_any_moment_loses_and_repeats_nothing(watch, write_hand, tmp_path, monkeypatch, place):
    watching = watch()
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
    with monkeypatch.context() as patch:
        name = "_write" if place == "before the line" else "_publish_reports"
        calls = []

        def kill(*_):
            calls.append(name)
            if name == "_write" or len(calls) == 3:  # each scan begins by tidying up
                raise KeyboardInterrupt

        patch.setattr(Watch, name, kill)
        with pytest.raises(KeyboardInterrupt):
            look_twice(watching)
    assert list_reports(tmp_path) == set()
    assert look_twice(watch()) == (place == "before the line")
    (line,) = read_lines(tmp_path).values()
    assert list_reports(tmp_path) == set(line["reports"].split(";"))
    assert len(list_reports(tmp_path)) == 3
    assert list((tmp_path / "out" / ".unfinished").iterdir()) == []


KILLER = """
import os, signal, sys, threading
from boneage.inference.predict import predict_case as predict_here
from boneage.inference.loading import load
from boneage.serve import watch

def predict_case(case, reports):
    if case.path.name == "bad.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return predict_here(case, reports)

def run(bundle, folder, out):
    watch.predict_case = predict_case
    watching = watch.Watch(folder, out=out, reader=load(bundle), max_bytes=2**22)
    watching.scan(), watching.scan()
"""


def test_a_file_that_kills_its_reader_is_met_once(reader, write_hand, half, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "bad.png", "c.png"):
        (tmp_path / "in" / name).write_bytes(half)
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import killer; killer.run(*sys.argv[1:])"
    words = [sys.executable, "-c", script, reader.age_bundle.folder, tmp_path / "in", tmp_path / "out"]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert set(read_lines(tmp_path)) == {"a.png"}
    assert subprocess.run(words).returncode == 0
    assert {name: row["reasons"] for name, row in read_lines(tmp_path).items()} == {
        "a.png": "",
        "bad.png": "too_large",
        "c.png": "",
        "hand.dcm": "",
    }
    assert not (tmp_path / "out" / ".reading.json").exists()


def test_an_innocent_file_that_was_interrupted_is_read(watch, write_hand, tmp_path):
    watching = watch()
    path = tmp_path / "in" / "hand.dcm"
    shutil.copy(write_hand(), path)
    found = path.stat()
    write_json(tmp_path / "out" / ".reading.json", ["hand.dcm", found.st_size, found.st_mtime_ns])
    watching = watch()
    assert look_twice(watching) == 1
    assert read_lines(tmp_path)["hand.dcm"]["accepted"] == "True"
    assert len(list_reports(tmp_path)) == 3


@pytest.mark.parametrize("left", [b"", b"[1]", b"{", b"null", b"[[[["])
def test_a_damaged_note_of_the_current_file_stops_nothing(watch, half, tmp_path, left):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".reading.json").write_bytes(left)
    watching = watch()
    (tmp_path / "in" / "half.png").write_bytes(half)
    assert look_twice(watching) == 1


@pytest.mark.parametrize("umask", [0, 0o277])
def test_only_the_user_may_open_what_is_written(watch, write_hand, tmp_path, umask):
    before = os.umask(umask)
    try:
        watching = watch()
        shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
        assert look_twice(watching) == 1
        with receive(watching.received, port=0, max_bytes=2**22):
            pass
    finally:
        os.umask(before)
    out = tmp_path / "out"
    assert {path.stat().st_mode & 0o777 for path in (out, out / ".received", out / ".unfinished")} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in out.iterdir() if path.is_file()} == {0o600}


def test_a_name_that_is_a_formula_is_escaped_and_read_once(watch, half, tmp_path):
    watching = watch()
    (tmp_path / "in" / "=cmd;=1.png").write_bytes(half)
    assert look_twice(watching) == 1
    assert list(read_lines(tmp_path)) == ["'=cmd;'=1.png"]
    assert look_twice(watch()) == 0


def test_a_line_that_was_cut_off_is_written_again(watch, tmp_path):
    watching = watch()
    (tmp_path / "in" / "half.png").write_bytes(b"no image")
    look_twice(watching)
    ledger = tmp_path / "out" / READINGS_FILE
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-5])
    assert look_twice(watch()) == 1
    assert ledger.read_bytes() == whole


def test_waits_for_a_disk_that_is_full_and_goes_on(watch, write_hand, half, tmp_path, monkeypatch, caplog):
    watching = watch()
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    assert watching.scan() == 0
    for place in ("boneage.inference.reports.writer.write_json", "boneage.serve.watch.Watch._write"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            assert watching.scan() == 0
    assert list_reports(tmp_path) == set()
    assert caplog.messages == ["waiting until the watched folders are accessible: No space left on device"]
    assert watching.scan() == 1
    assert len(list_reports(tmp_path)) == 3


def test_waits_for_a_folder_that_has_gone(watch, half, tmp_path, caplog):
    watching = watch()
    (tmp_path / "in").rename(tmp_path / "away")
    assert look_twice(watching) == 0
    assert len(caplog.messages) == 1
    (tmp_path / "away").rename(tmp_path / "in")
    (tmp_path / "in" / "half.png").write_bytes(half)
    assert look_twice(watching) == 1


def test_an_error_nobody_foresaw_stops_nothing(watch, half, tmp_path, monkeypatch, caplog):
    watching = watch()
    (tmp_path / "in" / "half.png").write_bytes(half)

    def fail(*_, **__):
        raise RuntimeError("Müller")

    monkeypatch.setattr("boneage.serve.watch.predict_case", fail)
    assert look_twice(watching) == 1
    assert read_lines(tmp_path)["half.png"]["reasons"] == "internal_error"
    assert "RuntimeError" in caplog.text and "Müller" not in caplog.text


def test_refuses_folders_that_feed_each_other_and_a_table_of_others(watch, tmp_path):
    for out in (tmp_path / "in", tmp_path / "in" / "out", tmp_path):
        with pytest.raises(WatchError, match="must lie outside"):
            watch(out=out)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / READINGS_FILE).write_text("id,boneage\n1,2\n")
    with pytest.raises(DamagedFileError, match="of another version, for it has other columns; choose another folder"):
        watch()
    (tmp_path / "out" / READINGS_FILE).write_text(",".join((*COLUMNS, "size_bytes", "modified_ns")) + "\n1,2\n")
    with pytest.raises(DamagedFileError, match="damaged; repair its rows"):
        watch()


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["boneage", "serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_the_command_watches_beside_the_page(monkeypatch, capsys, reader, write_hand, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
    monkeypatch.setattr("boneage.serve.watch._SCAN_SECONDS", 0.05)

    def serve(self, sockets):
        ends = time.monotonic() + 60
        while len(list_reports(tmp_path)) < 3 and time.monotonic() < ends:
            time.sleep(0.05)

    monkeypatch.setattr("uvicorn.Server.run", serve)
    words = ["--watch", tmp_path / "in", "--out", tmp_path / "out", "--store-scp", 0]
    assert run_main(monkeypatch, "--bundle", reader.age_bundle.folder, "--port", 0, *words) == 0
    told = capsys.readouterr().out
    assert f"watching {tmp_path / 'in'}; results go to {tmp_path / 'out'}" in told
    assert "BONEAGE listens on 127.0.0.1:" in told
    assert len(list_reports(tmp_path)) == 3
    assert "watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("words", [["--watch", "in"], ["--out", "out"], ["--store-scp", "11112"]])
def test_the_command_wants_both_folders(monkeypatch, capsys, words):
    assert run_main(monkeypatch, *words) == 1
    assert "--watch requires --out" in capsys.readouterr().err


def ask(tool, port, *words):
    # Not the program of the same name that pynetdicom brings, which comes first where its environment is active.
    found = shutil.which(tool, path="/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"needs {tool} of Debian's dcmtk")
    known = [found, "-aec", "BONEAGE", "127.0.0.1", str(port), *map(str, words)]
    return subprocess.run(known, capture_output=True, text=True, timeout=60)


def store(port, *words):
    return ask("storescu", port, *words)


def test_what_storescu_stores_is_read_once_and_removed(watch, write_hand, tmp_path, monkeypatch):
    watching = watch()
    shutil.copy(write_hand(), tmp_path / "in" / "hand.dcm")
    with receive(watching.received, port=0, max_bytes=2**22) as port:
        assert ask("echoscu", port).returncode == 0
        sent = store(port, write_hand(), write_hand(seed=8))
        assert sent.returncode == 0, sent.stderr
        assert store(port, write_hand()).returncode == 0
        kept = {pydicom.dcmread(path).SOPInstanceUID: path for path in watching.received.iterdir()}
        assert set(kept) == {"1.2.3.4.7", "1.2.3.4.8"}
        assert pydicom.dcmread(kept["1.2.3.4.7"]).PixelData == pydicom.dcmread(write_hand()).PixelData
        # The process ends after the lines, before anything was removed.
        with monkeypatch.context() as patch:
            patch.setattr(Watch, "_remove_received", lambda *_: None)
            assert look_twice(watching) == 3
        assert len(list(watching.received.iterdir())) == 2
        (watching.received / "1.2.3.dcm.1234abcd.part").write_bytes(b"cut off")
        watching = watch()
        assert look_twice(watching) == 0
        assert store(port, write_hand(), write_hand(seed=9)).returncode == 0
        assert look_twice(watching) == 1
    assert list(watching.received.iterdir()) == []
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["hand.dcm"]
    lines = read_lines(tmp_path)
    assert {row["id"] for row in lines.values()} == {"hand", "1.2.3.4.7", "1.2.3.4.8", "1.2.3.4.9"}
    assert {row["accepted"] for row in lines.values()} == {"True"}
    assert len(list_reports(tmp_path)) == 12


def test_what_was_received_stays_until_its_reports_are_written(watch, write_hand, tmp_path, monkeypatch):
    watching = watch()
    shutil.copy(write_hand(), watching.received / "1.2.3.4.7-0123456789abcdef.dcm")
    (watching.received / "1.2.3.5-0123456789abcdef.dcm").write_bytes(b"no image")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    assert watching.scan() == 0
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "_write", fail)
        assert watching.scan() == 0
    assert len(list(watching.received.iterdir())) == 2
    assert watching.scan() == 2
    assert list(watching.received.iterdir()) == []
    assert {row["id"]: row["reasons"] for row in read_lines(tmp_path).values()} == {
        "1.2.3.4.7": "",
        "1.2.3.5": "not_an_image",
    }


def test_the_node_refuses_what_is_too_large_or_no_radiograph(write_hand, tmp_path, capsys):
    with receive(tmp_path, port=0, max_bytes=1000) as port:
        assert store(port, write_hand()).returncode != 0
        assert store(port, write_hand(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")).returncode != 0
        with pytest.raises(ReceiveError, match="--store-scp"), receive(tmp_path, port=port, max_bytes=1000):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_a_line_and_stops_nothing(watch, half, tmp_path):
    watching = watch()
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "half.png").write_bytes(half)
    assert look_twice(watching) == 2
    assert {name: row["reasons"] for name, row in read_lines(tmp_path).items()} == {
        "pipe.png": "not_an_image",
        "half.png": "",
    }


def test_names_that_are_no_utf8_are_read_once(watch, write_hand, half, tmp_path):
    watching = watch()
    folder = tmp_path / "in" / os.fsdecode(b"caf\xe9\n")
    folder.mkdir()
    shutil.copy(write_hand(), folder / "hand.dcm")
    (folder / "broken.dcm").write_bytes(write_hand().read_bytes()[:2000])
    assert look_twice(watching) == 2
    assert set(read_lines(tmp_path)) == {"caf\\udce9\\n/hand.dcm", "caf\\udce9\\n/broken.dcm"}
    assert len(list_reports(tmp_path)) == 3
    assert look_twice(watch()) == 0


def test_a_table_cut_off_in_its_head_is_begun_again(watch, tmp_path):
    watching = watch()
    (tmp_path / "in" / "half.png").write_bytes(b"no image")
    look_twice(watching)
    ledger = tmp_path / "out" / READINGS_FILE
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:20])
    assert look_twice(watch()) == 1
    assert ledger.read_bytes() == whole


def test_connections_that_ask_for_nothing_shut_no_node_out(tmp_path, monkeypatch):
    monkeypatch.setattr("boneage.serve.receive._REQUEST_SECONDS", 1)
    node = AE()
    node.add_requested_context("1.2.840.10008.1.1")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(receive(tmp_path, port=0, max_bytes=1000))
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        ends = time.monotonic() + 30
        while not (association := node.associate("127.0.0.1", port)).is_established and time.monotonic() < ends:
            time.sleep(0.2)
        assert association.send_c_echo().Status == 0
        association.release()
