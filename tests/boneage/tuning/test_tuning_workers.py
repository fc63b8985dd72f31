"""Several processes that share one search."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from boneage.tuning.chief import OracleChain, TuningError, connect_to_chief, process_name, serve_oracles
from boneage.tuning.oracles import OBJECTIVE, FixedOracle

TUNE_TINY = Path(__file__).with_name("tune_tiny.py")
EXPERIMENT = """
[train]
input_size = 32
init = "none"
batch_size = 8

[tune]
num_layers = [1]
units = [4, 8, 16]
sex_widths = [4]
sex_places = ["before"]
dropouts = [0.0, 0.2]
activations = ["relu"]
poolings = ["average", "both"]
losses = ["mae"]
optimizers = ["adamw"]
trial_epochs = 3
best_k = 2
"""
VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def take(oracle, name) -> list[int]:
    """Work as a worker does, and return what was handed out."""
    taken = []
    while (trial := oracle.create_trial(name)).status != "STOPPED":
        if trial.status == "IDLE":
            time.sleep(0.01)
            continue
        taken.append(trial.hyperparameters.values["number"])
        end(oracle, trial)
    return taken


def end(oracle, trial):
    oracle.update_trial(trial.trial_id, {OBJECTIVE: 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


@pytest.fixture
def address(monkeypatch) -> list[str]:
    """A free address on loopback, in KerasTuner's variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        values = ["127.0.0.1", str(free.getsockname()[1])]
    for name, value in zip(VARIABLES[1:], values, strict=True):
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def ended():
    return []


@pytest.fixture
def chain(ended):
    """Three trials, and once they have ended two more."""
    lists = (FixedOracle([{"number": number} for number in numbers]) for numbers in ([1, 2, 3], [4, 5]))
    return OracleChain(lists, on_end=ended.append)


def test_oracles_follow_each_other_once_all_trials_have_ended(chain, ended):
    first, second, third = (chain.create_trial(name) for name in ("a", "b", "c"))
    assert [trial.hyperparameters.values["number"] for trial in (first, second, third)] == [1, 2, 3]
    assert chain.create_trial("a").trial_id == first.trial_id
    end(chain, first)
    end(chain, second)
    assert chain.create_trial("a").status == "IDLE"
    end(chain, third)
    assert [trial.trial_id for trial in ended] == [trial.trial_id for trial in (first, second, third)]
    assert take(chain, "a") == [4, 5]
    assert not chain.is_over.is_set()
    assert [take(chain, name) for name in ("b", "c")] == [[], []]
    assert chain.is_over.is_set()


def test_workers_share_the_trials_of_a_chief(chain, ended, address, monkeypatch):
    chief = threading.Thread(target=serve_oracles, args=(chain,))
    chief.start()
    taken = {"one": [], "two": []}

    def work(name):
        with connect_to_chief() as oracle:
            taken[name] = take(oracle, name)

    monkeypatch.setenv(VARIABLES[0], "one")
    workers = [threading.Thread(target=work, args=(name,)) for name in taken]
    for worker in workers:
        worker.start()
    for thread in (*workers, chief):
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert sorted(taken["one"] + taken["two"]) == [1, 2, 3, 4, 5]
    assert len(ended) == 5


def test_an_address_in_use_and_a_chief_that_fails_are_named(chain, address, monkeypatch):
    with socket.socket() as taken:
        taken.bind((address[0], int(address[1])))
        taken.listen()
        with pytest.raises(TuningError, match=f"^{':'.join(address)}: cannot listen here"):
            serve_oracles(chain)
    monkeypatch.setattr(chain, "create_trial", lambda name: 1 / 0)
    monkeypatch.setenv(VARIABLES[0], "one")
    chief = threading.Thread(target=serve_oracles, args=(chain,))
    chief.start()
    with pytest.raises(TuningError, match="is unreachable"), connect_to_chief() as oracle:
        oracle.create_trial("one")
    chain.is_over.set()
    chief.join(timeout=60)


def test_a_process_is_told_who_it_is(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert process_name() == "alone"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    assert process_name() == "alone"
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(TuningError, match=r"^KERASTUNER_ORACLE_PORT is not set"):
        process_name()
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    assert process_name() == "worker-1"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief-0")
    assert process_name() == "chief"


@pytest.fixture
def start(prepared, tmp_path, address):
    """A function that starts `boneage tune` in a separate process, as the chief or a worker of this name."""
    experiment, started = tmp_path / "tiny.toml", []
    experiment.write_text(EXPERIMENT)

    def begin(name, *arguments) -> subprocess.Popen:
        words = ["tune", experiment, "--data", prepared.folder, "--out", tmp_path / "search", "--num-trials", "8"]
        process = subprocess.Popen(
            [sys.executable, TUNE_TINY, *map(str, words), *arguments],
            env={**os.environ, "KERASTUNER_TUNER_ID": name, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def finish(process) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.slow
def test_a_chief_and_two_workers_share_one_search(start, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    chief, *workers = (start(name, "--tracking-uri", uri, "--json") for name in ("chief", "worker-1", "worker-2"))
    out, told = finish(chief)
    begun = [finish(worker)[1].count("begins a trial") for worker in workers]
    summary = json.loads(out)
    table = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert table["kind"].tolist() == ["16bit", "network", *["search"] * 6]
    assert (table["status"] == "completed").all()
    # Each trial was run once, by one of the workers, and the chief told of all of them.
    assert [(table["worker"] == name).sum() for name in ("worker-1", "worker-2")] == begun
    assert sum(begun) == len(table) == 8
    assert min(begun) > 0
    assert told.count(" months, ") == 8
    assert summary["num_trials"] == 8

    import mlflow

    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("boneage-tune").experiment_id])
    assert len(runs) == 1 + 8
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(["worker-2"], id="a worker", marks=pytest.mark.slow),
        pytest.param(["chief", "worker-1", "worker-2"], id="all", marks=pytest.mark.release),
    ],
)
def test_who_was_killed_goes_on_and_repeats_nothing(killed, start, tmp_path):
    trials = tmp_path / "search" / "trials"
    running = {name: start(name, "--tracking-uri", "none") for name in ("chief", "worker-1", "worker-2")}
    while len(list(trials.glob("*.json"))) < 4:
        assert all(process.poll() is None for process in running.values()), finish(running["chief"])
        time.sleep(0.05)
    for name in killed:
        running[name].kill()
        running[name].wait()
    kept = {path.name: path.stat().st_mtime_ns for path in trials.glob("*.json")}
    running |= {name: start(name, "--tracking-uri", "none") for name in killed}
    for process in running.values():
        finish(process)
    table = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert len(table) == 8 and (table["status"] == "completed").all()
    assert {name: (trials / name).stat().st_mtime_ns for name in kept} == kept
