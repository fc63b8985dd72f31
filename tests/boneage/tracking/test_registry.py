"""Runs compared, promoted, and used from MLflow's registry."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from boneage.bundles.bundle import load_bundle, read_metadata
from boneage.cli.main import main
from boneage.registry.fetch import fetch_bundle
from boneage.registry.resolve import resolve_bundle
from boneage.registry.settings import TRAINING_EXPERIMENT
from boneage.registry.store import TrackingStoreError, open_store
from boneage.tracking.registry import best, leaderboard_table
from boneage.tracking.tracker import start_tracking

RUNS = {"good": ("aaaa", 8.5), "better": ("aaaa", 8.0), "elsewhere": ("bbbb", 1.0), "worst": ("aaaa", 20.0)}


@pytest.fixture(scope="module")
def uri(tmp_path_factory, write_bundle):
    """A store with three runs on the same records, one on others, one that failed and one that tells the sex."""
    folder = tmp_path_factory.mktemp("board")
    uri = f"sqlite:///{folder / 'store' / 'mlflow.db'}"
    for number, (name, (digest, mae)) in enumerate(RUNS.items()):
        write_bundle(folder / name / "bundle", scale=100.0 + number)
        track(uri, folder / name, name=name, digest=digest, metrics={"best_val_mae": mae})
    (folder / "sex").mkdir()
    track(uri, folder / "sex", name="sex", digest="aaaa", metrics={"best_val_error_share": 0.1})
    (folder / "failed").mkdir()
    with pytest.raises(RuntimeError):
        track(uri, folder / "failed", name="failed", digest="aaaa", metrics={"best_val_mae": 0.5}, fail=True)
    return uri


def track(uri, folder, *, name, digest, metrics, fail=False):
    with start_tracking(uri, folder=folder, experiment=TRAINING_EXPERIMENT, run_name=name) as tracker:
        params = {"train.network": "known", "train.input_size": 32, "data.num_train": 10}
        tracker.log_params({**params, "data.digest": digest, "data.fingerprint": "f"})
        tracker.log_metrics(metrics)
        if fail:
            raise RuntimeError
        if (folder / "bundle").exists():
            tracker.log_model(folder / "bundle")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("BONEAGE_HOME", str(tmp_path / "home"))


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["boneage", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_compares_finished_runs_on_the_same_records(uri):
    board = best(tracking_uri=uri)
    assert board.digest == "aaaa"
    assert board.runs["name"].tolist() == ["better", "good", "worst"]
    assert board.runs["value"].tolist() == [8.0, 8.5, 20.0]
    assert leaderboard_table(board).row_count == 3
    other = best(digest="bb", tracking_uri=uri)
    assert (other.digest, other.runs["name"].tolist()) == ("bbbb", ["elsewhere"])
    assert best(metric="val_error_share", tracking_uri=uri).runs["name"].tolist() == ["sex"]


def test_the_champion_answers_by_its_name(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert best(promote=True).runs["champion"].tolist() == [True, False, False]
    better = load_bundle(resolve_bundle("models:/boneage@champion"))
    assert read_metadata(resolve_bundle("models:/boneage/1")) == better.metadata
    assert better.folder == fetch_bundle("models:/boneage@champion", tracking_uri=uri)
    run = best().runs["run"][1]
    assert best(promote=True, run=run[:12]).runs["champion"].tolist() == [False, True, False]
    good = load_bundle(resolve_bundle("models:/boneage@champion"))
    assert good.metadata["sha256"] != better.metadata["sha256"]
    # Promoted again, it is the version that it was.
    assert best(promote=True).runs["champion"].tolist() == [True, False, False]
    assert resolve_bundle("models:/boneage@champion") == better.folder
    versions = open_store(uri).search_model_versions("name = 'boneage'")
    assert len(versions) == 2


def test_commands_take_the_champion_for_a_bundle(uri, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run_main(monkeypatch, "best", "--promote", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["runs"]] == ["better", "good", "worst"]
    assert told["runs"][0]["champion"] is True
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 10, axis=1).repeat(20, axis=0)).save(tmp_path / "half.png")
    words = ("predict", tmp_path / "half.png", "--sex", "female", "--bundle", "models:/boneage@champion", "--json")
    assert run_main(monkeypatch, *words) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["bone_age_months"] == pytest.approx(50.5, abs=0.3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("best", "--digest", "cccc"), "no finished run with val_mae on cccc"),
        (("best", "abcd"), "requires --promote"),
        (("best", "zzzz", "--promote"), "matches no run"),
        (("best", "--metric", "val_mea"), "Did you mean 'val_mae'?"),
        (("best", "--metric", "val_error_share", "--promote"), "has no model"),
        (("predict", "x.png", "--json", "--bundle", "models:/boneage@nobody"), "not found"),
        (("predict", "x.png", "--json", "--bundle", "models:/stranger/7"), "stranger"),
        (("predict", "x.png", "--json", "--bundle", "models:/boneage"), "boneage"),
    ],
)
def test_a_mistake_is_one_line(uri, monkeypatch, capsys, words, said):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run_main(monkeypatch, *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("boneage: ")
    assert said in line


def test_a_store_that_is_down_is_one_line(monkeypatch, capsys):
    for words in (("best",), ("ui",), ("predict", "x.png", "--json", "--bundle", "models:/boneage@champion")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        assert run_main(monkeypatch, *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("boneage: MLflow at http://127.0.0.1:1: ")


def test_a_model_of_another_kind_is_refused(uri, tmp_path):
    client = open_store(uri)
    client.create_registered_model("stranger")
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "MLmodel").write_text("flavors: {}\n")
    client.create_model_version("stranger", str(tmp_path / "stranger"))
    with pytest.raises(TrackingStoreError, match="not a boneage model"):
        fetch_bundle("models:/stranger/1", tracking_uri=uri)


def test_ui_opens_the_training_runs(uri, monkeypatch, capsys):
    started = []

    def execv(path, words):
        started.extend(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", execv)
    assert run_main(monkeypatch, "ui", "--tracking-uri", uri, "--port", "5001") == 0
    identity = open_store(uri).get_experiment_by_name(TRAINING_EXPERIMENT).experiment_id
    assert f"http://127.0.0.1:5001/#/experiments/{identity}" in capsys.readouterr().out
    assert started[started.index("--backend-store-uri") + 1] == uri
