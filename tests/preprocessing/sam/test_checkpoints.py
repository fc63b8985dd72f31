"""Where checkpoints are found, how the official ones are downloaded, and their part in the fingerprint."""

import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.sam.checkpoints import CHECKPOINTS, Checkpoint, CheckpointUnavailableError, find_checkpoint

CONTENT = b"not weights, which the download does not check"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cache folder, not made yet."""
    monkeypatch.setenv("BONEAGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def served(tmp_path, monkeypatch, home):
    """An official checkpoint of a few bytes, on a server of this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "sam.pth").write_bytes(CONTENT)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(Checkpoint, "url", f"http://127.0.0.1:{server.server_port}/sam.pth")
        monkeypatch.setitem(CHECKPOINTS, "vit_b", Checkpoint("sam.pth", hashlib.sha256(CONTENT).hexdigest(), 1))
        yield folder / "sam.pth"
        server.shutdown()


def message(*arguments, **options):
    with pytest.raises(CheckpointUnavailableError) as caught:
        find_checkpoint(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_official_one_is_downloaded_once_with_a_progress_bar(served, home, capsys):
    assert find_checkpoint("vit_b") == home / "sam.pth"
    assert (home / "sam.pth").read_bytes() == CONTENT
    shown = capsys.readouterr()
    assert "100%" in shown.err and shown.out == ""
    served.unlink()
    assert find_checkpoint("vit_b") == home / "sam.pth"
    assert [path.name for path in home.iterdir()] == ["sam.pth"]


def test_what_differs_from_its_checksum_is_not_kept(served, home):
    served.write_bytes(b"something else")
    assert "does not match the known hash" in message("vit_b")
    assert not list(home.iterdir())


def test_offline_the_message_says_what_to_download_and_where_to_put_it(home, monkeypatch):
    def fail(*_, **__):
        raise requests.ConnectionError("Temporary failure in name resolution")

    monkeypatch.setattr("requests.get", fail)
    for model, official in CHECKPOINTS.items():
        captured = message(model)
        assert "Temporary failure in name resolution" in captured
        assert f"https://dl.fbaipublicfiles.com/segment_anything/sam_{model}_" in captured
        assert official.sha256 in captured and f"put it into {home}" in captured and "--sam-checkpoint" in captured


def test_a_folder_that_cannot_be_made_is_named(home):
    home.write_text("a file")
    assert f"Not a directory: '{home}" in message("vit_b")


def test_an_official_file_that_is_damaged_is_named(home):
    home.mkdir()
    path = home / CHECKPOINTS["vit_l"].file
    path.write_bytes(CONTENT)
    captured = message("vit_l")
    assert captured.startswith(f"{path}: damaged or not the official checkpoint")
    assert hashlib.sha256(CONTENT).hexdigest() in captured and CHECKPOINTS["vit_l"].sha256 in captured


def test_one_given_by_path_is_taken_as_it_is(home, tmp_path):
    (tmp_path / "own.pth").write_bytes(CONTENT)
    assert find_checkpoint("vit_h", checkpoint=str(tmp_path / "own.pth")) == tmp_path / "own.pth"
    assert not home.exists()


def test_one_given_by_path_is_found_by_its_name_on_another_machine(home):
    home.mkdir()
    (home / "own.pth").write_bytes(CONTENT)
    assert find_checkpoint("vit_b", checkpoint="/mnt/elsewhere/own.pth") == home / "own.pth"
    assert message("vit_b", checkpoint="/mnt/elsewhere/other.pth") == (
        f"/mnt/elsewhere/other.pth: checkpoint not found; give its path with --sam-checkpoint, or put it into {home}."
    )


def test_unknown_models_are_named():
    with pytest.raises(ValueError, match=r"`sam_model` must be one of vit_b, vit_l, vit_h\. Received: 'vit_x'\."):
        PreprocessingConfig(segmenter="sam", sam_model="vit_x")
    with pytest.raises(ValueError, match=r"Received: 'vit-h'\. Did you mean 'vit_h'"):
        find_checkpoint("vit-h")


def test_the_fingerprint_depends_on_the_weights_and_not_on_their_paths(tmp_path, home):
    home.mkdir()
    paths = {name: tmp_path / name for name in ("a.pth", "b.pth", "c.pth")}
    for name, path in paths.items():
        path.write_bytes(b"other weights" if name == "c.pth" else CONTENT)
    a, b, c = (fingerprint(PreprocessingConfig(segmenter="sam", sam_checkpoint=str(path))) for path in paths.values())
    assert a == b != c


@pytest.mark.parametrize("segmenter", ["unet", "none"])
def test_the_fingerprint_of_other_segmenters_does_not_depend_on_it(segmenter):
    plain = fingerprint(PreprocessingConfig(segmenter=segmenter))
    for values in ({"sam_model": "vit_h"}, {"sam_checkpoint": "nowhere.pth"}):
        assert fingerprint(PreprocessingConfig(segmenter=segmenter, **values)) == plain
