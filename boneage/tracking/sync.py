"""Send the outbox of a run to MLflow, in the background during training or later with `boneage sync`.

Sending is idempotent: a run is looked up by its key before it is created, metrics carry the time of the outbox, and a
model belongs to its run. The connection may fail at any moment.
"""

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from boneage.base.json_files import DamagedFileError, read_own_json
from boneage.bundles.bundle import BundleError
from boneage.registry.digest import metadata_digest
from boneage.registry.settings import resolve_uri
from boneage.registry.store import (
    TrackingStoreError,
    artifact_uri,
    open_store,
    redact_credentials,
    sqlite_path,
    store_id,
    to_store_error,
)
from boneage.tracking.outbox import Entry, Outbox, redact_paths
from boneage.tracking.pyfunc import write_model

SHUTDOWN_TIMEOUT_SECONDS = 10.0
"""Maximum time that a finished training waits for a remote store to receive the rest."""
RETRY_SECONDS = 30.0
"""Time before an unreachable store is tried again."""
MODEL_NAME = "boneage"
KEY_TAG = "boneage.outbox"

_MAX_METRICS_PER_REQUEST = 1000  # MLflow's limit
_PERMANENT_ERROR_CODES = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
_log = logging.getLogger("boneage.tracking")


class OutboxSync:
    """Sends the pending entries of an outbox to a store, in order.

    Args:
        outbox: The outbox.
        uri: Tracking URI of the store.
    """

    def __init__(self, outbox: Outbox, uri: str):
        self._outbox, self._uri, self._store = outbox, uri, store_id(uri)
        self._opened: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self.permanent_errors: list[str] = []

    @property
    def num_pending(self) -> int:
        """Number of entries that the store has not received."""
        return len(self._outbox.read()) - self._outbox.read_sent(self._store)[0]

    def send(self) -> int:
        """Send all pending entries.

        Entries that can never be sent, such as a missing file, are skipped and listed in `permanent_errors`.

        Returns:
            The number of entries that the store accepted.

        Raises:
            TrackingStoreError: If the store cannot be reached; entries sent before that are recorded.
        """
        entries, (num_sent, runs), num_accepted = self._outbox.read(), self._outbox.read_sent(self._store), 0
        while num_sent < len(entries):
            batch = _take_batch(entries[num_sent:])
            try:
                self._send(batch, runs)
                num_accepted += len(batch)
            except (FileNotFoundError, BundleError, DamagedFileError) as error:
                self.permanent_errors.append(str(error))
            except MlflowException as error:
                # Without the run, the other entries have no destination.
                if error.error_code not in _PERMANENT_ERROR_CODES or batch[0]["kind"] == "begin":
                    raise to_store_error(error, uri=self._uri) from error
                self.permanent_errors.append(str(to_store_error(error, uri=self._uri)))
            except (OSError, SQLAlchemyError, ImportError) as error:
                raise to_store_error(error, uri=self._uri) from error
            num_sent += len(batch)
            self._outbox.mark_sent(self._store, num_entries=num_sent, runs=runs)
        return num_accepted

    def _send(self, batch: list[Entry], runs: dict[str, str]) -> None:
        client, entry = self._client, batch[0]
        if entry["kind"] == "begin":
            self._start_run(entry, runs)
            return
        run_id = runs[entry["run"]]
        match entry["kind"]:
            case "params":
                params = [Param(key, str(value)) for key, value in entry["params"].items()]
                client.log_batch(run_id, params=params)
            case "metrics":
                metrics = [
                    Metric(key, value, entry["time"], entry["step"] or 0)
                    for entry in batch
                    for key, value in entry["metrics"].items()
                ]
                client.log_batch(run_id, metrics=metrics)
            case "files":
                self._send_files(run_id, entry["path"])
            case "model":
                self._send_model(run_id, self._require(entry["path"]))
            case "end":
                client.set_terminated(run_id, status=entry["status"], end_time=entry["time"])

    @property
    def _client(self) -> MlflowClient:
        if self._opened is None:
            self._opened = open_store(self._uri)
        return self._opened

    def _start_run(self, entry: Entry, runs: dict[str, str]) -> None:
        """Create or reopen the run in the store, without the names of user and machine."""
        client, key = self._client, entry["run"]
        tags = entry["tags"] | {KEY_TAG: key, "mlflow.source.name": "boneage", "mlflow.source.type": "LOCAL"}
        if entry["parent"]:
            tags["mlflow.parentRunId"] = runs[entry["parent"]]
        experiment_id = self._find_experiment(entry["experiment"])
        found = client.search_runs([experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'")
        if not found:
            run = client.create_run(experiment_id, start_time=entry["time"], tags=tags, run_name=entry["name"])
            runs[key] = run.info.run_id
            return
        runs[key] = found[0].info.run_id
        client.update_run(runs[key], status=RunStatus.to_string(RunStatus.RUNNING))
        for name, value in tags.items():
            client.set_tag(runs[key], name, value)

    def _find_experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                path = sqlite_path(self._uri)
                location = None if path is None else artifact_uri(path)
                self._experiments[name] = self._client.create_experiment(name, artifact_location=location)
            else:
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def _require(self, name: str) -> Path:
        path = self._outbox.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path}: missing; it was queued for MLflow.")
        return path

    def _send_files(self, run_id: str, name: str) -> None:
        path = self._require(name)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            inside = file.relative_to(self._outbox.folder)
            if file.suffix == ".json":
                content = redact_paths(
                    read_own_json(file, fields={}, fix="it was queued for MLflow, which did not receive it")
                )
                if content.pop("metadata_digest", None):
                    content["metadata_digest"] = metadata_digest(content)
                self._client.log_text(run_id, json.dumps(content, indent=2) + "\n", inside.as_posix())
            elif file.suffix == ".csv":
                self._client.log_text(run_id, redact_paths(file.read_text(encoding="utf-8")), inside.as_posix())
            elif not file.is_dir():
                above = None if inside.parent == Path() else inside.parent.as_posix()
                self._client.log_artifact(run_id, str(file), artifact_path=above)

    def _send_model(self, run_id: str, bundle: Path) -> None:
        """Log the bundle as the only model of the run."""
        client = self._client
        run = client.get_run(run_id)
        experiment_id = run.info.experiment_id
        found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
        if found:
            model_id = found[0].model_id
        else:
            model_id = client.create_logged_model(
                experiment_id, name=MODEL_NAME, source_run_id=run_id, params=run.data.params, model_type="bone age"
            ).model_id
        with tempfile.TemporaryDirectory() as folder:
            model = write_model(Path(folder) / MODEL_NAME, bundle, run_id=run_id, model_id=model_id)
            client.log_model_artifacts(model_id, str(model))
        client.finalize_logged_model(model_id, "READY")
        if not run.outputs or all(output.model_id != model_id for output in run.outputs.model_outputs):
            client.log_outputs(run_id, models=[LoggedModelOutput(model_id, step=0)])


def _take_batch(entries: list[Entry]) -> list[Entry]:
    """Return the first entry; for metrics also the following ones of the same run, up to the limit of one request."""
    first, room = entries[0], _MAX_METRICS_PER_REQUEST
    if first["kind"] != "metrics":
        return [first]

    def fits(entry: Entry) -> bool:
        nonlocal room
        room -= len(entry.get("metrics", ()))
        return entry["kind"] == "metrics" and entry["run"] == first["run"] and room >= 0

    return list(takewhile(fits, entries)) or [first]


class SyncThread(threading.Thread):
    """Sends an outbox in the background; the run waits for the store only at its end, for a limited time.

    Args:
        outbox: The outbox.
        uri: Tracking URI of the store.
    """

    def __init__(self, outbox: Outbox, uri: str):
        super().__init__(name="boneage-tracking", daemon=True)
        self._sync, self._outbox, self._uri = OutboxSync(outbox, uri), outbox, uri
        self._is_finished, self._has_warned = threading.Event(), False

    def __enter__(self) -> "SyncThread":
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._is_finished.set()
        self._outbox.changed.set()
        # A local SQLite store gets unlimited time.
        self.join(None if sqlite_path(self._uri) else SHUTDOWN_TIMEOUT_SECONDS)
        if self.is_alive() or self._sync.num_pending:
            self._warn_once(f"MLflow at {redact_credentials(self._uri)}: timed out")

    def run(self) -> None:
        """Send entries until the run ends."""
        is_last = False
        while not is_last:
            # In this order: `__exit__` sets `_is_finished` before `changed`.
            self._outbox.changed.clear()
            is_last = self._is_finished.is_set()
            try:
                self._sync.send()
                await_more: Callable[[], Any] = self._outbox.changed.wait
            except Exception as error:  # a failing store must not stop the training
                self._warn_once(
                    str(error if isinstance(error, TrackingStoreError) else to_store_error(error, uri=self._uri))
                )
                await_more = partial(self._is_finished.wait, RETRY_SECONDS)
            if not is_last:
                await_more()
        if self._sync.permanent_errors:
            _log.warning("%s", self._sync.permanent_errors[0])

    def _warn_once(self, problem: str) -> None:
        """Warn once about a failing store."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s; training continues, entries are kept in the run folder: send them later with `boneage sync %s`",
                problem,
                self._outbox.folder,
            )


def sync(runs: Sequence[str | Path], *, tracking_uri: str | None = None) -> dict[Path, int]:
    """Send pending tracking entries of run folders to MLflow, after an outage or to another store.

    Args:
        runs: Run folders.
        tracking_uri: MLflow tracking URI as in `boneage.train`.

    Returns:
        The number of entries sent, by folder; a second call sends none.

    Raises:
        TrackingStoreError: If the store cannot be reached or rejects an entry, or a folder has no outbox.
    """
    uri, sent = resolve_uri(tracking_uri), {}
    for folder in map(Path, runs):
        outbox = Outbox(folder)
        if not outbox.path.exists():
            raise TrackingStoreError(f"{folder}: contains no {outbox.path.name}; give the folder of a tracked run.")
        outbox_sync = OutboxSync(outbox, uri)
        sent[folder] = outbox_sync.send()
        if outbox_sync.permanent_errors:
            raise TrackingStoreError(
                f"{folder}: {len(outbox_sync.permanent_errors)} entries could not be sent: "
                f"{outbox_sync.permanent_errors[0]}"
            )
    return sent
