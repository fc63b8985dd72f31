"""Atomic writing: whatever call a process is killed at, a reader finds the old content or the new one, complete."""

import os
import shutil

import pytest

from boneage.base import files
from boneage.base.files import (
    append_line,
    make_folder_beside,
    open_atomic,
    remove_partial_line,
    replace_folder,
    restore_folder,
    write_atomic,
    write_json,
    write_text,
)


class Killed(BaseException):
    """Stands for a kill: nothing after it runs that catches `Exception`."""


def fill(folder, text):
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(text)
    return folder


def read(folder):
    restore_folder(folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


def save(target, text):
    replace_folder(fill(make_folder_beside(target), text), target)


OLD, NEW, NEWEST = ({"a.txt": text, "b.txt": text} for text in ("old", "new", "newest"))


@pytest.fixture
def kill_at(monkeypatch):
    """Make the process die at its n-th rename or removal of a folder; returns the calls that were made."""

    def arrange(number, *, after=False):
        calls = []

        def killing(call, name):
            def run(*arguments, **options):
                calls.append(name)
                if len(calls) == number and not after:
                    raise Killed
                result = call(*arguments, **options)
                if len(calls) == number:
                    raise Killed
                return result

            return run

        monkeypatch.setattr(files.os, "replace", killing(os.replace, "replace"))
        monkeypatch.setattr(files.shutil, "rmtree", killing(shutil.rmtree, "rmtree"))
        return calls

    return arrange


def test_a_folder_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    for text, expected in (("old", OLD), ("new", NEW)):
        save(tmp_path / "bundle", text)
        assert read(tmp_path / "bundle") == expected
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("reads", [False, True])
def test_a_kill_at_any_step_loses_nothing(tmp_path, monkeypatch, kill_at, number, after, reads):
    target = tmp_path / "bundle"
    save(target, "old")
    with monkeypatch.context():
        new = fill(make_folder_beside(target), "new")
        calls = kill_at(number, after=after)
        with pytest.raises(Killed):
            replace_folder(new, target)
        assert calls == ["replace", "replace", "rmtree"][:number]
        monkeypatch.undo()
    if reads:
        assert read(target) == (NEW if (number, after) >= (2, True) else OLD)
    save(target, "newest")
    assert read(target) == NEWEST
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one(tmp_path, monkeypatch):
    target = tmp_path / "bundle"
    save(target, "old")

    def remove_half(folder):
        (folder / "a.txt").unlink()
        raise Killed

    monkeypatch.setattr(files.shutil, "rmtree", remove_half)
    with pytest.raises(Killed):
        save(target, "new")
    monkeypatch.undo()
    assert read(target) == NEW
    save(target, "newest")
    assert read(target) == NEWEST
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path):
    target = tmp_path / "bundle"
    save(target, "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", target)
    assert target.is_dir() and read(target) == OLD


def test_a_reader_between_the_two_renames_does_not_stop_the_writer(tmp_path, monkeypatch):
    target, replace, restored = tmp_path / "bundle", os.replace, []
    save(target, "old")

    def replace_and_read(source, destination):
        replace(source, destination)
        if str(destination).endswith(".old") and not restored:
            restored.append(source)
            assert read(target) == OLD

    monkeypatch.setattr(files.os, "replace", replace_and_read)
    save(target, "new")
    assert restored and read(target) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_of_a_link_the_folder_that_it_points_to_is_replaced(tmp_path):
    save(tmp_path / "first", "old")
    (tmp_path / "current").symlink_to("first")
    save(tmp_path / "current", "new")
    assert read(tmp_path / "first") == read(tmp_path / "current") == NEW
    assert (tmp_path / "current").is_symlink()


def test_the_working_folder_and_a_missing_one_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (".", "missing", "/"):
        restore_folder(files.Path(folder))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named_and_kept(tmp_path):
    (tmp_path / "bundle").write_text("a file")
    with pytest.raises(NotADirectoryError, match="bundle"):
        save(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle").read_text() == "a file"


def by_handle(path, text):
    with open_atomic(path) as file:
        file.write(text.encode())


def by_path(path, text):
    with write_atomic(path) as temporary:
        assert temporary.suffix == path.suffix
        temporary.write_text(text)


@pytest.mark.parametrize("write", [by_handle, by_path, write_text])
def test_a_file_is_there_whole_or_as_it_was(tmp_path, monkeypatch, write):
    path = tmp_path / "weights.h5"
    write(path, "old")

    def kill(*_):
        raise Killed

    for module_and_name in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"boneage.base.files.{module_and_name}", kill)
            with pytest.raises(Killed):
                write(path, "new")
        assert path.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]
    write(path, "new")
    assert path.read_text() == "new"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "state.json"
    with open_atomic(path) as first, open_atomic(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_json_is_sorted_and_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


def test_append_line_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "lines.csv"
    append_line(path, b"one\n")

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, b"two\n")
    assert path.read_bytes() == b"one\n"
    append_line(path, b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize("block", [2, 65536])
@pytest.mark.parametrize(
    ("found", "left"), [(b"one\ntwo\n", b"one\ntwo\n"), (b"one\ntw", b"one\n"), (b"on", b""), (b"", b"")]
)
def test_remove_partial_line_keeps_whole_lines(tmp_path, monkeypatch, block, found, left):
    monkeypatch.setattr(files, "_BLOCK_BYTES", block)
    path = tmp_path / "lines.csv"
    path.write_bytes(found)
    remove_partial_line(path)
    assert path.read_bytes() == left


def test_remove_partial_line_without_a_file(tmp_path):
    remove_partial_line(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_write_text_of_a_name_that_is_no_utf8(tmp_path):
    write_text(tmp_path / "table.csv", "é " + os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "é caf\\udce9"
