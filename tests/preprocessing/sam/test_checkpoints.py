"""Where checkpoints are found, how the official ones get there, and what the fingerprint makes of them."""

import hashlib
from urllib.error import URLError

import pytest

from preprocessing.pipeline import PreprocessingConfig, fingerprint
from preprocessing.sam.checkpoints import CHECKPOINTS, Checkpoint, CheckpointUnavailable, find_checkpoint

CONTENT = b"no weights, but who fetches does not know"
NEEDS_TORCH = "fetching is torch's: pip install '.[sam]'"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder for what is fetched."""
    monkeypatch.setenv("BONEAGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def served(tmp_path, monkeypatch, home):
    """An official checkpoint of a few bytes, to be had from a file."""
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    source = tmp_path / "served.pth"
    source.write_bytes(CONTENT)
    monkeypatch.setattr(Checkpoint, "url", source.as_uri())
    monkeypatch.setitem(CHECKPOINTS, "vit_b", Checkpoint("sam.pth", hashlib.sha256(CONTENT).hexdigest(), 1))
    return source


def message(*arguments, **options):
    with pytest.raises(CheckpointUnavailable) as caught:
        find_checkpoint(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_official_one_is_fetched_once_with_a_progress_bar(served, home, capsys):
    assert find_checkpoint("vit_b") == home / "sam.pth"
    assert (home / "sam.pth").read_bytes() == CONTENT
    assert "100" in capsys.readouterr().err
    served.unlink()
    assert find_checkpoint("vit_b") == home / "sam.pth"
    assert [path.name for path in home.iterdir()] == ["sam.pth"]


def test_what_differs_from_its_checksum_is_not_kept(served, home):
    served.write_bytes(b"something else")
    assert "invalid hash value" in message("vit_b")
    assert not list(home.iterdir())


def test_without_a_network_the_message_says_what_to_fetch_and_where_to_put_it(home, monkeypatch):
    pytest.importorskip("torch", reason=NEEDS_TORCH)

    def fail(*_, **__):
        raise URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    for model, official in CHECKPOINTS.items():
        told = message(model)
        assert "Temporary failure in name resolution" in told
        assert f"https://dl.fbaipublicfiles.com/segment_anything/sam_{model}_" in told
        assert official.sha256 in told and f"put it into {home}" in told and "--sam-checkpoint" in told


def test_a_folder_that_cannot_be_made_is_named(home):
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    home.write_text("a file")
    assert f"File exists: '{home}'" in message("vit_b")


def test_an_official_file_that_is_damaged_is_named(home):
    home.mkdir()
    path = home / CHECKPOINTS["vit_l"].file
    path.write_bytes(CONTENT)
    told = message("vit_l")
    assert told.startswith(f"{path}: damaged or not the official checkpoint")
    assert hashlib.sha256(CONTENT).hexdigest() in told and CHECKPOINTS["vit_l"].sha256 in told


def test_one_given_by_path_is_taken_as_it_is(home, tmp_path):
    (tmp_path / "own.pth").write_bytes(CONTENT)
    assert find_checkpoint("vit_h", checkpoint=str(tmp_path / "own.pth")) == tmp_path / "own.pth"
    assert not home.exists()


def test_one_given_by_path_is_found_by_its_name_on_another_machine(home):
    home.mkdir()
    (home / "own.pth").write_bytes(CONTENT)
    assert find_checkpoint("vit_b", checkpoint="/mnt/elsewhere/own.pth") == home / "own.pth"
    assert message("vit_b", checkpoint="/mnt/elsewhere/other.pth") == (
        f"/mnt/elsewhere/other.pth: no such checkpoint; name one by --sam-checkpoint, or put it into {home}."
    )


def test_unknown_models_are_named():
    with pytest.raises(ValueError, match=r"`sam_model` must be one of vit_b, vit_l, vit_h\. Received: 'vit_x'\."):
        PreprocessingConfig(segmenter="sam", sam_model="vit_x")
    with pytest.raises(ValueError, match=r"Received: 'vit-h'\. Did you mean 'vit_h'"):
        find_checkpoint("vit-h")


def test_the_fingerprint_tells_weights_apart_and_not_their_places(tmp_path, home):
    home.mkdir()
    paths = {name: tmp_path / name for name in ("a.pth", "b.pth", "c.pth")}
    for name, path in paths.items():
        path.write_bytes(b"other weights" if name == "c.pth" else CONTENT)
    a, b, c = (fingerprint(PreprocessingConfig(segmenter="sam", sam_checkpoint=str(path))) for path in paths.values())
    assert a == b != c


@pytest.mark.parametrize("segmenter", ["unet", "none"])
def test_the_fingerprint_of_other_segmenters_knows_nothing_of_it(segmenter):
    plain = fingerprint(PreprocessingConfig(segmenter=segmenter))
    for values in ({"sam_model": "vit_h"}, {"sam_checkpoint": "nowhere.pth"}):
        assert fingerprint(PreprocessingConfig(segmenter=segmenter, **values)) == plain
