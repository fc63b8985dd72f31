"""Bundles published on the hub: whole, with a card and a licence, and never over another bundle."""

import json
import sys

import numpy as np
import pytest

from boneage.bundles.bundle import DEFAULT_BUNDLE, BundleError, load_bundle
from boneage.cli.main import main
from boneage.registry.fetch_hub import fetch_from_hub
from boneage.registry.hub import HubError
from boneage.tracking.publish import publish

NAME, LICENCE = "hf://ward/bones", "CC-BY-NC-4.0"


@pytest.fixture
def bundle(tmp_path, write_bundle):
    return write_bundle(tmp_path / "bundle", licence=LICENCE)


def read_published(hub):
    kept = hub.repositories["ward/bones"]
    return kept["commits"][kept["names"]["main"]]


def test_publish_is_loaded_back_equal(hub, bundle):
    made = publish(bundle, NAME)
    assert (made.is_new, made.licence, made.files) == (True, LICENCE, ("README.md", "metadata.json", "model.onnx"))
    assert made.page == f"{hub.url}/ward/bones/tree/{made.name.partition('@')[2]}"
    mine, theirs = load_bundle(bundle), load_bundle(fetch_from_hub(made.name))
    assert theirs.metadata == mine.metadata
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 1), np.uint8)
    male = np.float32([[0], [1], [1]])
    np.testing.assert_array_equal(theirs.predict_batch(images, male), mine.predict_batch(images, male))
    assert hub.repositories["ward/bones"]["private"] is False


def test_publish_of_the_same_changes_nothing(hub, bundle):
    first = publish(bundle, NAME)
    again = publish(bundle, NAME)
    assert (again.name, again.is_new) == (first.name, False)


def test_publish_of_what_was_fetched_changes_nothing(hub, bundle):
    card = "# Our hands\n\n[rows](../rows.md) of [us](https://example.org)\n"
    (bundle / "README.md").write_text(card, encoding="utf-8")
    first = publish(bundle, NAME)
    assert "# Our hands\n\nrows of [us](https://example.org)\n" in read_published(hub)["README.md"].decode()
    assert publish(first.name, NAME).name == first.name


def test_publish_replaces_another_bundle_only_if_told(hub, bundle, write_bundle, tmp_path):
    first = publish(bundle, NAME)
    hub.commit("ward/bones", {"seen.npz": b"old", "notes.txt": b"kept"})
    other = write_bundle(tmp_path / "other", scale=50.0, licence=LICENCE)
    with pytest.raises(HubError, match="holds another bundle; choose another name, or replace it by --replace"):
        publish(other, NAME)
    second = publish(other, NAME, replace=True)
    assert second.name != first.name
    assert read_published(hub).keys() == {".gitattributes", "README.md", "metadata.json", "model.onnx", "notes.txt"}
    assert load_bundle(fetch_from_hub(NAME)).metadata == load_bundle(other).metadata
    assert load_bundle(fetch_from_hub(first.name)).metadata == load_bundle(bundle).metadata


def test_publish_does_not_overwrite_what_came_in_between(hub, bundle, monkeypatch):
    publish(bundle, NAME)
    (bundle / "README.md").write_text("# New card\n", encoding="utf-8")
    from huggingface_hub import HfApi

    upload = HfApi.create_commit

    def create_commit(*arguments, **options):
        hub.commit("ward/bones", {"README.md": b"# Theirs\n"})
        return upload(*arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    with pytest.raises(HubError, match="HTTP status 412"):
        publish(bundle, NAME)
    assert read_published(hub)["README.md"] == b"# Theirs\n"


def test_publish_needs_a_licence(hub, tmp_path, write_bundle):
    unlicensed = write_bundle(tmp_path / "unlicensed")
    with pytest.raises(BundleError, match="states no licence of its weights; give it by --licence"):
        publish(unlicensed, NAME)
    publish(unlicensed, NAME, licence=LICENCE)
    assert load_bundle(fetch_from_hub(NAME)).metadata["licence"] == LICENCE
    with pytest.raises(BundleError, match=r"have the licence CC-BY-NC-4\.0\. Received: MIT"):
        publish(fetch_from_hub(NAME), "hf://ward/copy", licence="MIT")
    with pytest.raises(BundleError, match="a licence is a name"):
        publish(unlicensed, NAME, licence="MIT\nx: y")


def test_publish_knows_the_licence_of_the_packaged_weights(hub, tmp_path):
    assert publish("default", NAME).licence == "LicenseRef-RSNA-research"
    fetched = fetch_from_hub(NAME)
    assert load_bundle(fetched).metadata["sha256"] == load_bundle(DEFAULT_BUNDLE).metadata["sha256"]


def test_publish_tells_no_folder_of_this_machine(hub, tmp_path, write_bundle):
    experiment = {"train": {"init": "/home/ottilie/runs/lite0/bundle"}}
    publish(write_bundle(tmp_path / "started", licence=LICENCE, experiment=experiment), NAME)
    assert json.loads(read_published(hub)["metadata.json"])["experiment"] == {"train": {"init": "bundle"}}
    assert all(b"ottilie" not in content and b"tmp" not in content for content in read_published(hub).values())


@pytest.mark.parametrize("name", ["model.onnx", "metadata.json", "seen.npz"])
def test_publish_refuses_what_is_incomplete(hub, tmp_path, write_bundle, name):
    digest = {"sha256": {"model.onnx": "0" * 64}} if name == "seen.npz" else {}
    broken = write_bundle(tmp_path / "broken", licence=LICENCE, **digest)
    (broken / name).unlink(missing_ok=True)
    with pytest.raises(BundleError, match="broken"):
        publish(broken, NAME)
    assert hub.repositories == {}


def test_publish_writes_nothing_outside_a_bundle(hub, bundle):
    (bundle / "secret.txt").write_text("patients", encoding="utf-8")
    assert "secret.txt" not in publish(bundle, NAME).files


def test_publish_makes_a_private_repository(hub, bundle):
    publish(bundle, NAME, private=True)
    assert hub.repositories["ward/bones"]["private"] is True
    publish(bundle, "hf://ward/open")
    with pytest.raises(HubError, match="the repository is public; make it private on its page first"):
        publish(bundle, "hf://ward/open", private=True)


def test_publish_needs_a_token_and_no_revision(hub, bundle):
    hub.token = "hf_secret"
    with pytest.raises(HubError, match="status 401; set HF_TOKEN to a token that may do this"):
        publish(bundle, NAME)
    with pytest.raises(HubError, match="on the branch main; give hf://ward/bones"):
        publish(bundle, f"{NAME}@v1")
    hub.stop()
    with pytest.raises(HubError, match=r"cannot be reached .*; nothing is published"):
        publish(bundle, NAME)


def test_publish_prints_name_and_licence(hub, bundle, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["boneage", "publish", str(bundle), NAME, "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    told = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["boneage", "publish", str(bundle), NAME])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.splitlines() == [
        f"licence of the weights: {LICENCE}",
        "without weights to train from: the network cannot be built from them alone",
        f"is there already: {told['name']}",
        f"page: {told['page']}",
    ]
