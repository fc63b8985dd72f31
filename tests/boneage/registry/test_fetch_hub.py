"""Bundles fetched from the hub: pinned by a commit, checked, and nothing but the files of a bundle."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boneage.base.files import cache_folder
from boneage.bundles.bundle import load_bundle
from boneage.cli.main import main
from boneage.inference.loading import load, read_preprocessing
from boneage.registry.digest import metadata_digest
from boneage.registry.fetch_hub import fetch_from_hub
from boneage.registry.hub import HubError, HubName, parse_hub_name
from boneage.registry.resolve import names_bundle, pin_bundle, resolve_bundle

NAME = "hf://ward/bones"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, write_bundle):
    return write_bundle(tmp_path_factory.mktemp("hub") / "bundle")


@pytest.fixture(scope="module")
def files(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


@pytest.fixture
def commit(hub, files):
    """The commit of a repository with a bundle, and with code that nobody should run."""
    hub.create("ward/bones")
    others = {"model.pkl": b"cos\nsystem\n", "modeling.py": b"raise SystemExit", "onnx/model.onnx": b"another"}
    return hub.commit("ward/bones", {**files, **others, "README.md": b"# Card\n"}, names=("main", "v1"))


def list_cache():
    return sorted(path.relative_to(cache_folder()).as_posix() for path in cache_folder().rglob("*") if path.is_file())


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def change_metadata(files, **changes):
    metadata = json.loads(files["metadata.json"])
    del metadata["metadata_digest"]
    metadata.update(changes)
    return json.dumps({**metadata, "metadata_digest": metadata_digest(metadata)}).encode()


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hf://ward/bones", "ward/bones", ""),
        ("hf:/ward/bones@v1.0", "ward/bones", "v1.0"),
        ("hf://ward/bo-nes_2@refs/pr/1", "ward/bo-nes_2", "refs/pr/1"),
    ],
)
def test_parse_hub_name_of_both_spellings(text, repository, revision):
    assert parse_hub_name(text) == HubName(repository, revision)


@pytest.mark.parametrize(
    "text", ["hf://bones", "hf://ward/bones/onnx", "hf://ward/bones@", "hf://ward/..", "hf://ward/bones@../x"]
)
def test_parse_hub_name_refuses_others(text):
    with pytest.raises(HubError, match="give hf://owner/name"):
        parse_hub_name(text)


def test_fetch_from_hub_takes_the_files_of_a_bundle_alone(hub, commit, bundle):
    folder = fetch_from_hub(NAME)
    assert folder == cache_folder() / "hub" / "ward" / f"bones@{commit}"
    assert list_cache() == [f"hub/ward/bones@{commit}/{name}" for name in ("README.md", "metadata.json", "model.onnx")]
    assert load_bundle(folder).metadata == load_bundle(bundle).metadata
    asked = " ".join(hub.requests)
    assert "pkl" not in asked and ".py" not in asked and "onnx/" not in asked


@pytest.mark.parametrize("revision", ["", "@main", "@v1"])
def test_fetch_from_hub_names_the_commit_of_a_branch(hub, commit, caplog, revision):
    with caplog.at_level(logging.WARNING, "boneage.hub"):
        fetch_from_hub(f"{NAME}{revision}")
    assert caplog.messages == [
        f"{NAME}{revision} is {NAME}@{commit}; give this name to use the same again, also offline"
    ]
    assert pin_bundle(f"{NAME}{revision}") == f"{NAME}@{commit}"
    assert pin_bundle("imagenet") == "imagenet"


def test_fetch_from_hub_follows_a_branch_and_keeps_a_commit(hub, commit, files, write_bundle, tmp_path):
    first = fetch_from_hub(NAME)
    other = write_bundle(tmp_path / "other", scale=50.0)
    hub.commit("ward/bones", {path.name: path.read_bytes() for path in other.iterdir()})
    assert load_bundle(fetch_from_hub(NAME)).metadata == load_bundle(other).metadata
    asked = len(hub.requests)
    assert fetch_from_hub(f"{NAME}@{commit}") == first
    assert len(hub.requests) == asked


def test_fetch_from_hub_finds_a_commit_without_network_and_library(hub, commit, monkeypatch):
    folder = fetch_from_hub(f"{NAME}@{commit}")
    hub.stop()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert fetch_from_hub(f"{NAME}@{commit}") == folder


def test_fetch_from_hub_says_what_to_do_offline(hub, commit, monkeypatch, capsys):
    hub.stop()
    files = "metadata.json, model.onnx, seen.npz, weights.npz"
    where = f"download the files {files}, as far as they are there, from {hub.url}"
    with pytest.raises(HubError, match="cannot be reached") as caught:
        fetch_from_hub(NAME)
    assert f"{where}/ward/bones/tree/main into one folder" in str(caught.value)
    assert run_main(monkeypatch, "predict", "hand.png", "--bundle", f"{NAME}@{commit}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{where}/ward/bones/tree/{commit}" in line
    (cache_folder() / "hub" / "ward" / f"bones@{commit}").mkdir(parents=True)
    with pytest.raises(HubError, match=f"give {NAME}@{commit}, which is in the cache"):
        fetch_from_hub(NAME)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.onnx": b"another network"}, "model.onnx was changed"),
        ({"metadata.json": b'{"bundle_version": 3}'}, "its digest does not match"),
        ({"metadata.json": b"{"}, "metadata.json is damaged"),
        ({"metadata.json": None}, "there is no metadata.json"),
        ({"model.onnx": None}, "there is no model.onnx"),
        ({"../../.bashrc": b"x"}, "outside the repository"),
        ({"/etc/passwd": b"x"}, "outside the repository"),
        ({"..\\x": b"x"}, "outside the repository"),
    ],
)
def test_fetch_from_hub_refuses_what_is_no_whole_bundle(hub, commit, changes, said):
    hub.commit("ward/bones", changes)
    with pytest.raises(HubError, match=said):
        fetch_from_hub(NAME)
    assert list_cache() == []


def test_fetch_from_hub_refuses_a_file_changed_under_the_same_commit(hub, commit):
    hub.repositories["ward/bones"]["commits"][commit]["model.onnx"] += b"\0"
    with pytest.raises(HubError, match=r"model\.onnx was changed"):
        fetch_from_hub(f"{NAME}@{commit}")
    assert list_cache() == []


def test_fetch_from_hub_refuses_another_commit_than_that_asked_for(hub, commit):
    kept = hub.repositories["ward/bones"]
    kept["names"]["0" * 40] = commit
    with pytest.raises(HubError, match="answers with the commit"):
        fetch_from_hub(f"{NAME}@{'0' * 40}")


def test_fetch_from_hub_refuses_files_that_metadata_name_and_it_never_takes(hub, commit, files):
    digests = {**json.loads(files["metadata.json"])["sha256"], "model.keras": "0" * 64}
    hub.commit("ward/bones", {"metadata.json": change_metadata(files, sha256=digests), "model.keras": b"PK"})
    with pytest.raises(HubError, match=r"names model\.keras, which the repository lacks or which is never downloaded"):
        fetch_from_hub(NAME)


def test_fetch_from_hub_keeps_no_file_without_a_digest(hub, commit):
    changed = hub.commit("ward/bones", {"weights.npz": b"PK"})
    fetch_from_hub(NAME)
    assert f"hub/ward/bones@{changed}/weights.npz" not in list_cache()


def test_fetch_from_hub_bounds_the_size(hub, commit, monkeypatch):
    monkeypatch.setattr("boneage.registry.fetch_hub.MAX_BYTES", {"metadata.json": 10, "model.onnx": 2**20})
    with pytest.raises(HubError, match=r"metadata\.json has [\d,]+ bytes \(limit 10\)"):
        fetch_from_hub(NAME)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf://ward/skulls", "there is no such repository"),
        ("hf://ward/bones@v9", "no such branch, tag or commit"),
    ],
)
def test_fetch_from_hub_names_what_is_missing(hub, commit, name, said):
    with pytest.raises(HubError, match=said):
        fetch_from_hub(name)


def test_fetch_from_hub_reads_a_private_repository_by_the_token(hub, commit, monkeypatch, caplog):
    hub.repositories["ward/bones"]["private"], hub.token = True, "hf_secret"
    with pytest.raises(HubError, match="if it is private, set HF_TOKEN"):
        fetch_from_hub(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError) as caught:
        fetch_from_hub(NAME)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with caplog.at_level(logging.DEBUG):
        fetch_from_hub(NAME)
    assert "hf_secret" not in caplog.text


def test_resolve_bundle_of_a_name_as_a_path(hub, commit, tmp_path):
    assert resolve_bundle(Path(NAME)) == resolve_bundle(NAME)
    assert names_bundle(NAME) and names_bundle(tmp_path) and not names_bundle("imagenet")
    assert read_preprocessing(NAME).segmenter == "none"


def test_load_names_the_commit_in_the_answers(hub, commit):
    assert load(NAME).info.label.startswith(f"bones@{commit} (known) ")


def test_predict_takes_a_name_of_the_hub(hub, commit, monkeypatch, capsys, tmp_path):
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 10, axis=1).repeat(20, axis=0)).save(tmp_path / "half.png")
    assert run_main(monkeypatch, "predict", tmp_path / "half.png", "--sex", "female", "--bundle", NAME, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["bone_age_months"] == pytest.approx(50.0, abs=0.3)
