import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset
from boneage.training.distribution import (
    build_strategy,
    check_divisible,
    distribute,
    is_chief,
    num_workers,
    resolve_precision,
)
from boneage.training.run_folder import TrainingError

TRAIN_TINY = Path(__file__).with_name("train_tiny.py")
TABLE = """
[train]
input_size = 32
init = "none"
epochs = 3
batch_size = 4
warmup_epochs = 0.5
learning_rate = 0.01
seed = 5

[augment]
"""
# Sums of float32 in another order; three epochs let the differences grow.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """40 records to train on and 5 to validate: with batches of 4, two devices end with one record and none."""
    folder = tmp_path_factory.mktemp("distribution")
    write_dataset(folder / "drawn", num_images=50, seed=3, size_px=(80, 64))
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    made = prepare(folder / "drawn", out=folder / "records", split="random", config=config, workers=1)
    assert made.info["splits"]["validation"]["num_records"] == 5
    return made.folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """An experiment with augmentation that drops no units, so that only sums can differ."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.toml"
    path.write_text(f"{TABLE}blur_px = 0.5\nnoise_share = 0.03\n")
    return path


@pytest.fixture(scope="module")
def start(records, experiment):
    """A function that starts `boneage train` in a separate process."""
    started = []

    def begin(run, *arguments, num_devices=1, rest_seconds=0.0, tf_config=None) -> subprocess.Popen:
        words = ("train", experiment, "--data", records, "--run", run, "--tracking-uri", "none", "--json", *arguments)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        if tf_config:
            environment["TF_CONFIG"] = json.dumps(tf_config)
        started.append(
            subprocess.Popen(
                [sys.executable, TRAIN_TINY, str(num_devices), str(rest_seconds), *map(str, words)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()  # closes its pipes


@pytest.fixture(scope="module")
def start_workers(start):
    """A function that starts two workers on loopback."""

    def begin(run, *arguments, **options) -> list[subprocess.Popen]:
        sockets = [socket.socket() for _ in range(2)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{socket.getsockname()[1]}" for socket in sockets]}
        for listener in sockets:
            listener.close()
        tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
        return [start(run, *arguments, tf_config=task, **options) for task in tasks]

    return begin


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory) -> dict:
    """What one device reports."""
    return outcome(start(tmp_path_factory.mktemp("alone") / "run", "--distribution", "none"))


def outcome(process) -> dict:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out)


def check_same(mine, theirs):
    for key in ("loss", "mae", "val_mae", "learning_rate"):
        expected = [row[key] for row in theirs["history"]]
        assert [row[key] for row in mine["history"]] == pytest.approx(expected, rel=TOLERANCE), key
    assert mine["validation_error"] == pytest.approx(theirs["validation_error"], rel=TOLERANCE)


@pytest.mark.slow
def test_two_devices_have_the_losses_of_one(start, alone, tmp_path):
    check_same(outcome(start(tmp_path / "run", "--distribution", "mirrored", num_devices=2)), alone)


@pytest.mark.slow
def test_two_devices_clip_average_and_accumulate_as_one(start, tmp_path):
    settings = [f"--set={setting}" for setting in ("clip_norm=0.5", "ema_momentum=0.9", "accumulate_steps=2")]
    alone = outcome(start(tmp_path / "one", "--distribution", "none", *settings))
    check_same(outcome(start(tmp_path / "two", "--distribution", "mirrored", *settings, num_devices=2)), alone)


@pytest.mark.slow
def test_two_workers_have_the_losses_of_one_and_share_a_run(start_workers, alone, tmp_path):
    chief, other = [outcome(process) for process in start_workers(tmp_path / "run")]
    check_same(chief, alone)
    assert [other[key] for key in ("run", "bundle")] == [chief[key] for key in ("run", "bundle")]
    check_same(other, chief)
    assert (tmp_path / "run" / "bundle" / "model.keras").exists()


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_all_go_on(start_workers, alone, tmp_path):
    state = tmp_path / "run" / "state.json"

    def num_epochs() -> int:
        return len(json.loads(state.read_text())["history"]) if state.exists() else 0

    chief, other = start_workers(tmp_path / "run", rest_seconds=3.0)
    while num_epochs() == 0:
        assert chief.poll() is None, chief.communicate()[1]
        time.sleep(0.1)
    other.kill()
    _, err = chief.communicate(timeout=600)
    assert chief.returncode == 1
    assert err.splitlines()[-1].startswith("boneage: Another worker failed or became unreachable"), err
    assert num_epochs() == 1
    chief, _ = [outcome(process) for process in start_workers(tmp_path / "run", "--resume")]
    assert [row["epoch"] for row in chief["history"]] == [1, 2, 3]
    check_same(chief, alone)


def test_chooses_one_device_here_and_names_what_is_unknown(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategy = build_strategy("auto")
    assert (strategy.num_replicas_in_sync, num_workers(strategy), is_chief(strategy)) == (1, 1, True)
    with pytest.raises(ValueError, match="Did you mean 'mirrored'"):
        build_strategy("mirored")
    with pytest.raises(TrainingError, match="needs the workers in TF_CONFIG"):
        build_strategy("multiworker")


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 1}', '{"cluster": {"worker": 2}}'])
def test_tf_config_that_describes_no_workers_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingError, match="TF_CONFIG does not describe workers"):
        build_strategy("auto")


class TwoReplicas:
    """As much of a strategy as dividing batches needs."""

    num_replicas_in_sync = 2

    class extended:
        worker_devices = ("a", "b")

    def distribute_datasets_from_function(self, function):
        return function(None)


def test_a_batch_that_replicas_do_not_divide_is_refused():
    check_divisible(TwoReplicas(), TrainConfig(batch_size=8))
    with pytest.raises(TrainingError, match=r"multiple of the 2 replicas\. Received: 7"):
        check_divisible(TwoReplicas(), TrainConfig(batch_size=7))
    with pytest.raises(TrainingError, match=r"2 replicas, times 3 `accumulate_steps`\. Received: 9"):
        check_divisible(TwoReplicas(), TrainConfig(batch_size=9, accumulate_steps=3))


def test_float16_on_several_replicas_is_refused():
    with pytest.raises(TrainingError, match="use 'mixed_bfloat16'"):
        check_divisible(TwoReplicas(), TrainConfig(precision="mixed_float16"))


@pytest.mark.parametrize(
    ("capabilities", "num_replicas", "precision"),
    [
        ([], 1, "float32"),
        ([(6, 1)], 1, "float32"),
        ([(7, 5)], 1, "mixed_float16"),
        ([(7, 0), (7, 0)], 2, "float32"),
        ([(9, 0), (8, 0)], 2, "mixed_bfloat16"),
        ([(9, 0), (7, 5)], 1, "mixed_float16"),
        ([None], 1, "float32"),
    ],
)
def test_resolve_precision_is_what_the_slowest_gpu_computes(monkeypatch, capabilities, num_replicas, precision):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities if kind == "GPU" else [])
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda capability: {} if capability is None else {"compute_capability": capability},
    )
    strategy = TwoReplicas() if num_replicas == 2 else tf.distribute.get_strategy()
    assert resolve_precision(TrainConfig(precision="auto"), strategy).precision == precision


def test_resolve_precision_leaves_a_stated_one():
    config = TrainConfig(precision="mixed_bfloat16")
    assert resolve_precision(config, tf.distribute.get_strategy()) is config


def test_divides_each_batch_and_the_last_one_unevenly():
    numbers = tf.data.Dataset.range(5)
    batches = tf.data.Dataset.zip({"x": numbers}, numbers).batch(4)
    parts = distribute(batches, TwoReplicas())
    assert [part[0]["x"].numpy().tolist() for part in parts] == [[0, 1], [2, 3], [4], []]
    assert [part[1].numpy().tolist() for part in parts] == [[0, 1], [2, 3], [4], []]
    assert parts.cardinality() == 4
    assert distribute(batches.repeat(), TwoReplicas()).cardinality() == tf.data.INFINITE_CARDINALITY
