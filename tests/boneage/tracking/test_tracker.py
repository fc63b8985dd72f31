"""What is tracked reaches the store, once, whatever becomes of the store meanwhile."""

import getpass
import json
import logging
import socket
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.registry.store import TrackingStoreError, open_store
from boneage.tracking import sync as sync_module
from boneage.tracking.outbox import OUTBOX_FILE, SENT_FILE, Outbox, redact_paths
from boneage.tracking.sync import sync
from boneage.tracking.tracker import start_tracking


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store; MLflow needs seconds to make one."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    open_store(uri)
    return uri


@pytest.fixture
def track(tmp_path, write_bundle):
    """A function that tracks a run with all that a training logs, and gives its folder."""

    def track(uri, *, folder="run", experiment="e", **params):
        folder = tmp_path / folder
        if not folder.exists():
            write_bundle(folder / "bundle", network="known", experiment={"train": {"init": str(tmp_path / "bundle")}})
            (folder / "experiment.json").write_text(json.dumps({"train": {"init": str(tmp_path / "bundle")}}))
        with start_tracking(uri, folder=folder, experiment=experiment, run_name="tiny") as tracker:
            tracker.log_params({"network": "known", **params})
            for epoch in (1, 2):
                tracker.log_metrics({"val_mae": 10.0 - epoch, "learning_rate": 1e-3}, step=epoch)
            tracker.log_artifacts(folder / "experiment.json")
            tracker.log_model(folder / "bundle")
        return folder

    return track


def find_run(uri, folder, experiment="e"):
    """Return the only run of the outbox in `folder`."""
    client = mlflow.MlflowClient(uri)
    key = Outbox(folder).read()[0]["run"]
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    (run,) = client.search_runs([experiment_id], f"tags.`{sync_module.KEY_TAG}` = '{key}'")
    return client, run


def check_whole(uri, folder):
    """Check that the store has all of the run, and nothing twice."""
    client, run = find_run(uri, folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["network"] == "known"
    history = client.get_metric_history(run.info.run_id, "val_mae")
    assert [(metric.step, metric.value) for metric in history] == [(1, 9.0), (2, 8.0)]
    written = [entry["time"] for entry in Outbox(folder).read() if entry["kind"] == "metrics"]
    assert [metric.timestamp for metric in history] == written
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["experiment.json"]
    (model,) = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    assert model.status == "READY"
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_a_store_gets_all_of_a_run(track, uri):
    folder = track(uri)
    check_whole(uri, folder)
    assert sync([folder], tracking_uri=uri) == {folder: 0}


def test_code_is_told_by_version_and_commit(track, uri):
    _, run = find_run(uri, track(uri))
    assert run.data.tags["boneage.version"]
    if (Path(__file__).parents[3] / ".git").exists():
        assert len(run.data.tags["mlflow.source.git.commit"].removesuffix("-dirty")) == 40


def test_a_store_that_lost_count_gets_nothing_twice(track, uri):
    folder = track(uri)
    (folder / SENT_FILE).unlink()
    assert sync([folder], tracking_uri=uri)[folder] == len(Outbox(folder).read())
    check_whole(uri, folder)


def test_a_run_that_goes_on_is_the_same_run(track, uri):
    folder = track(uri)
    _, before = find_run(uri, folder)
    with start_tracking(uri, folder=folder, experiment="e", run_name="tiny") as tracker:
        tracker.log_metrics({"val_mae": 7.0}, step=3)
    client, after = find_run(uri, folder)
    assert after.info.run_id == before.info.run_id
    assert after.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(after.info.run_id, "val_mae")] == [1, 2, 3]


def test_a_part_is_a_run_below_the_run(tmp_path, uri):
    with start_tracking(uri, folder=tmp_path, experiment="parts", run_name="whole") as tracker:
        for number in (1, 2):
            with tracker.start_child(f"trial {number}") as child:
                child.log_metrics({"val_mae": float(number)})
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("parts").experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.run_name: run.data.metrics["val_mae"] for run in children} == {"trial 1": 1.0, "trial 2": 2.0}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_run_that_raises_has_failed(tmp_path, uri):
    with pytest.raises(RuntimeError), start_tracking(uri, folder=tmp_path, experiment="e", run_name="r"):
        raise RuntimeError
    assert find_run(uri, tmp_path)[1].info.status == "FAILED"


def test_records_what_the_machine_does(tmp_path, uri):
    with start_tracking(uri, folder=tmp_path, experiment="e", run_name="r", system=True):
        pass
    _, run = find_run(uri, tmp_path)
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_store_that_does_not_answer_costs_moments_and_no_metric(
    track, uri, port, request, monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(sync_module, "SHUTDOWN_TIMEOUT_SECONDS", 1.0)
    down = f"http://someone:secret@127.0.0.1:{request.getfixturevalue(port)}"
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="boneage"):
        folder = track(down)
    assert time.monotonic() - began < 8
    (told,) = (record.getMessage() for record in caplog.records if record.name.startswith("boneage"))
    assert f"boneage sync {folder}" in told
    assert "\n" not in told
    assert "secret" not in told
    assert all(b"secret" not in path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert sync([folder], tracking_uri=uri)[folder] == len(Outbox(folder).read()) > 0
    check_whole(uri, folder)
    assert sync([folder], tracking_uri=uri) == {folder: 0}
    check_whole(uri, folder)


def test_a_store_that_comes_back_gets_what_it_missed(tmp_path, uri, monkeypatch, caplog):
    monkeypatch.setattr(sync_module, "RETRY_SECONDS", 0.05)
    failures = iter([True, True])

    def fail_twice(uri):
        if next(failures, False):
            raise TrackingStoreError("down")
        return open_store(uri)

    monkeypatch.setattr(sync_module, "open_store", fail_twice)
    with start_tracking(uri, folder=tmp_path, experiment="e", run_name="r") as tracker:
        tracker.log_metrics({"val_mae": 9.0}, step=1)
        until = time.monotonic() + 60
        while not (tmp_path / SENT_FILE).exists() and time.monotonic() < until:
            time.sleep(0.05)
    client, run = find_run(uri, tmp_path)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "val_mae")) == 1
    assert [record.name for record in caplog.records].count("boneage.tracking") == 1
    assert sync([tmp_path], tracking_uri=uri) == {tmp_path: 0}


def test_a_store_lost_between_two_entries_goes_on_where_it_was(track, uri, monkeypatch):
    folder = track("http://127.0.0.1:1")
    sent, calls = sync_module.OutboxSync._send, iter(range(100))

    def lose(self, batch, runs):
        if next(calls) == 2:
            sent(self, batch, runs)  # it arrives, but the store is lost before it says so
            raise ConnectionError("lost")
        sent(self, batch, runs)

    with monkeypatch.context() as patch:
        patch.setattr(sync_module.OutboxSync, "_send", lose)
        with pytest.raises(TrackingStoreError, match="lost"):
            sync([folder], tracking_uri=uri)
    assert sync([folder], tracking_uri=uri)[folder] > 0
    check_whole(uri, folder)


@pytest.mark.parametrize(
    ("lose", "told"),
    [(Path.unlink, "missing"), (lambda path: path.write_text('{"train": '), r"damaged \(")],
    ids=["gone", "cut short"],
)
def test_what_is_gone_or_damaged_is_told_and_the_rest_is_sent(track, uri, lose, told):
    folder = track("http://127.0.0.1:1")
    lose(folder / "experiment.json")
    with pytest.raises(TrackingStoreError, match=rf"1 entries could not be sent: .*experiment\.json: {told}"):
        sync([folder], tracking_uri=uri)
    assert find_run(uri, folder)[1].info.status == "FINISHED"
    assert sync([folder], tracking_uri=uri) == {folder: 0}


def test_a_line_that_a_kill_tore_is_none(tmp_path):
    Outbox(tmp_path).append("params", run="a", params={"x": 1})
    with (tmp_path / OUTBOX_FILE).open("a") as file:
        file.write('{"kind": "met')
    outbox = Outbox(tmp_path)
    assert len(outbox.read()) == 1
    outbox.append("params", run="a", params={"x": 2})
    assert [entry["params"]["x"] for entry in outbox.read()] == [1, 2]


def test_a_folder_without_a_journal_is_named(tmp_path):
    with pytest.raises(TrackingStoreError, match=r"contains no tracking\.jsonl"):
        sync([tmp_path], tracking_uri="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/home/ottilie/runs/lite0/bundle", "bundle"),
        ("~/bundle", "bundle"),
        ("../ottilie/bundle", "bundle"),
        (r"C:\Users\Ottilie\bundle", "bundle"),
        ("runs/lite0/bundle", "runs/lite0/bundle"),
        ("imagenet", "imagenet"),
        ("see https://a.example/b/c and/or 2/5", "see https://a.example/b/c and/or 2/5"),
        ("2/5", "2/5"),
        ("models:/boneage@champion", "models:/boneage@champion"),
        ("failed at /home/ottilie/runs/x: disk full", "failed at x: disk full"),
        (r"C:\Users\Ottilie\x.png: not read", "x.png: not read"),
        (0.5, 0.5),
        (None, None),
        ([Path("/home/ottilie/a")], ["a"]),
    ],
)
def test_folders_of_a_machine_are_hidden(value, kept):
    assert redact_paths({"key": value}) == {"key": kept}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("runs/ottilie/bundle", "bundle"),
        (r"runs\ottilie\bundle", "bundle"),
        ("models:/boneage@champion", "models:/boneage@champion"),
        ("imagenet", "imagenet"),
        (None, None),
    ],
)
def test_folders_of_settings_that_name_files_are_hidden(value, kept):
    for key in ("init", "train.init", "sam_checkpoint"):
        assert redact_paths({key: value}) == {key: kept}


def test_nothing_personal_reaches_the_store(tmp_path, write_dicom, write_bundle, monkeypatch):
    name, number, born = "Zwetschgenbaum^Ottilie", "PATIENT-4711", "20100203"
    home = tmp_path / "home" / "aschenbrenner"
    monkeypatch.setenv("HOME", str(home))
    for variable in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(variable, "aschenbrenner")
    assert getpass.getuser() == "aschenbrenner"
    monkeypatch.setattr(socket, "gethostname", lambda: "radiologie-pc-7")
    dicom, folder = home / "dicom", home / "runs" / "ours"
    dicom.mkdir(parents=True)
    for count in range(3):
        pixels = np.random.default_rng(count).integers(0, 256, (40, 40)).astype(np.uint8)
        path = write_dicom(
            pixels,
            SOPInstanceUID=f"1.2.3.{count}",
            PatientName=name,
            PatientID=number,
            PatientBirthDate=born,
            PatientSex="F",
        )
        (dicom / f"IM{count:04d}").write_bytes(path.read_bytes())
    (home / "readings.csv").write_text("id,boneage\nIM0000,60\nIM0001,70\nIM0002,80\n")
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    made = prepare(dicom, out=home / "records", table=home / "readings.csv", split="random", config=config, workers=1)
    experiment = {"train": {"init": str(home / "bundle")}}
    training_data = {"digest": made.info["digest"], "source": made.info["source"]}
    write_bundle(folder / "bundle", experiment=experiment, training_data=training_data)
    (folder / "experiment.json").write_text(json.dumps(experiment))
    store = tmp_path / "elsewhere"
    uri = f"sqlite:///{store / 'mlflow.db'}"
    monkeypatch.chdir(home)
    with start_tracking(uri, folder=folder, experiment="e", run_name="ours", system=True) as tracker:
        tracker.log_params({"data.digest": made.info["digest"], "train.init": str(home / "bundle")})
        tracker.log_artifacts(folder / "experiment.json")
        tracker.log_model(folder / "bundle")
    secrets = (*name.split("^"), number, born, "aschenbrenner", "radiologie-pc-7", str(home))
    files = [path for path in store.rglob("*") if path.is_file()] + [folder / OUTBOX_FILE, folder / SENT_FILE]
    assert {"mlflow.db", "experiment.json", "model.onnx", "MLmodel"} <= {path.name for path in files}
    for path in files:
        for secret in secrets:
            assert secret.encode() not in path.read_bytes(), f"{secret} in {path.name}"
