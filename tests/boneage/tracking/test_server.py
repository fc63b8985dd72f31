"""MLflow's server over PostgreSQL: a run that it missed is sent later, promoted, and fetched from it."""

import contextlib
import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import pytest

from boneage.bundles.bundle import load_bundle
from boneage.registry.resolve import resolve_bundle
from boneage.registry.settings import TRAINING_EXPERIMENT
from boneage.tracking.registry import best
from boneage.tracking.sync import sync
from boneage.tracking.tracker import start_tracking

pytestmark = pytest.mark.slow


def find_program(name):
    """Debian keeps PostgreSQL's programs, one folder a version, where no path leads."""
    places = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    return shutil.which(name, path=os.pathsep.join(places))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def postgresql():
    """An empty PostgreSQL on this machine; it refuses to run as root."""
    initdb, pg_ctl = find_program("initdb"), find_program("pg_ctl")
    if not (initdb and pg_ctl and importlib.util.find_spec("psycopg2")):
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and psycopg2-binary")
    user = "nobody" if getpass.getuser() == "root" else None
    if user and not shutil.which("runuser"):
        pytest.skip("needs runuser, since PostgreSQL does not run as root")
    as_user = ["runuser", "-u", user, "--"] if user else []
    # Not pytest's own folder, into which no other user may look.
    with tempfile.TemporaryDirectory(prefix="boneage-") as folder:
        if user:
            shutil.chown(folder, user)
        data, port = f"{folder}/data", free_port()
        words = [initdb, "--pgdata", data, "--username", "boneage", "--auth", "trust", "--no-sync"]
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=folder)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        control = [*as_user, pg_ctl, "--pgdata", data, "--wait"]
        subprocess.run(
            [*control, "--log", f"{folder}/log", "--options", options, "start"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        try:
            # Named with its driver: which one is meant without it depends on the version of SQLAlchemy.
            yield f"postgresql+psycopg2://boneage@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "--mode", "immediate", "stop"], check=True, cwd=folder, capture_output=True)


@contextlib.contextmanager
def serve(store, *, port, artifacts):
    """Run MLflow's server."""
    words = ["server", "--backend-store-uri", store, "--artifacts-destination", str(artifacts), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", str(port)],
        start_new_session=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            assert process.poll() is None
            time.sleep(0.5)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
        process.wait()


def test_a_server_over_postgresql_gets_what_it_missed(postgresql, tmp_path, write_bundle, monkeypatch, caplog):
    port, folder = free_port(), tmp_path / "run"
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("BONEAGE_HOME", str(tmp_path / "home"))
    bundle = write_bundle(folder / "bundle")
    with start_tracking(None, folder=folder, experiment=TRAINING_EXPERIMENT, run_name="missed") as tracker:
        params = {"train.network": "known", "train.input_size": 32, "data.num_train": 10}
        tracker.log_params({**params, "data.digest": "aaaa", "data.fingerprint": "f"})
        tracker.log_metrics({"val_mae": 9.0}, step=1)
        tracker.log_metrics({"val_mae": 8.0, "best_val_mae": 8.0}, step=2)
        tracker.log_model(bundle)
    (told,) = (record.getMessage() for record in caplog.records if record.name == "boneage.tracking")
    assert f"boneage sync {folder}" in told
    with serve(postgresql, port=port, artifacts=tmp_path / "artifacts"):
        assert sync([folder])[folder] > 0
        assert sync([folder])[folder] == 0
        client = mlflow.MlflowClient(uri)
        (run,) = client.search_runs([client.get_experiment_by_name(TRAINING_EXPERIMENT).experiment_id])
        assert [metric.value for metric in client.get_metric_history(run.info.run_id, "val_mae")] == [9.0, 8.0]
        assert run.info.status == "FINISHED"
        assert best(promote=True).runs["champion"].tolist() == [True]
        fetched = load_bundle(resolve_bundle("models:/boneage@champion"))
    assert fetched.metadata == load_bundle(bundle).metadata
    assert fetched.folder.is_relative_to(tmp_path / "home")
