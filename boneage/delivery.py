"""From the journal of a run to MLflow's store: while a network is trained, without it waiting, or later by `sync`.

Whatever is sent can be sent again without anything standing twice: a run is looked up by its key before it is made,
metrics carry the time of the journal, and a model belongs to its run. So a store may be lost at any moment.
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

from boneage.bundle import BundleError, seal
from boneage.journal import Entry, Journal, hide_folders
from boneage.mlflow_model import write_model
from boneage.mlflow_store import (
    StoreError,
    artifacts_beside,
    explain,
    hide_password,
    name_store,
    open_store,
    sqlite_path,
)
from boneage.tracking import resolve_uri

PATIENCE_SECONDS = 10.0
"""How long a training that has ended waits for a store on another machine to take what is left."""
RETRY_SECONDS = 30.0
"""How long a store that was down is left alone."""
MODEL_NAME = "boneage"
KEY_TAG = "boneage.journal"

_MOST_METRICS = 1000  # of one request, by MLflow's own limit
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
_log = logging.getLogger("boneage.tracking")


class Delivery:
    """Sends what a store has not been sent of a journal yet, in order.

    Args:
        journal: The journal.
        uri: The store.
    """

    def __init__(self, journal: Journal, uri: str):
        self._journal, self._uri, self._store = journal, uri, name_store(uri)
        self._opened: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self.refusals: list[str] = []

    @property
    def num_waiting(self) -> int:
        """Number of entries that the store has not been sent."""
        return len(self._journal.read()) - self._journal.read_sent(self._store)[0]

    def send(self) -> int:
        """Send all that is there.

        What the store will never take, such as a file that is gone, is passed over and told in `refusals`.

        Returns:
            The number of entries that it took.

        Raises:
            StoreError: If the store cannot be reached; what was sent until then is kept in mind.
        """
        entries, (num_sent, runs), num_taken = self._journal.read(), self._journal.read_sent(self._store), 0
        while num_sent < len(entries):
            batch = _take_batch(entries[num_sent:])
            try:
                self._send(batch, runs)
                num_taken += len(batch)
            except (FileNotFoundError, BundleError) as error:
                self.refusals.append(str(error))
            except MlflowException as error:
                # Without the run there is nothing to send the rest to.
                if error.error_code not in _REFUSALS or batch[0]["kind"] == "begin":
                    raise explain(error, uri=self._uri) from error
                self.refusals.append(str(explain(error, uri=self._uri)))
            except (OSError, SQLAlchemyError, ImportError) as error:
                raise explain(error, uri=self._uri) from error
            num_sent += len(batch)
            self._journal.mark_sent(self._store, num_entries=num_sent, runs=runs)
        return num_taken

    def _send(self, batch: list[Entry], runs: dict[str, str]) -> None:
        client, entry = self._client, batch[0]
        if entry["kind"] == "begin":
            self._begin(entry, runs)
            return
        run_id = runs[entry["run"]]
        match entry["kind"]:
            case "params":
                params = [Param(key, str(value)) for key, value in entry["params"].items()]
                client.log_batch(run_id, params=params)
            case "metrics":
                metrics = [
                    Metric(key, value, each["time"], each["step"] or 0)
                    for each in batch
                    for key, value in each["metrics"].items()
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

    def _begin(self, entry: Entry, runs: dict[str, str]) -> None:
        """Make the run in the store, or go on with it; nothing is told of who runs it, where."""
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
                location = None if path is None else artifacts_beside(path)
                self._experiments[name] = self._client.create_experiment(name, artifact_location=location)
            else:
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def _require(self, name: str) -> Path:
        path = self._journal.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path}: is gone; it was to be sent to MLflow.")
        return path

    def _send_files(self, run_id: str, name: str) -> None:
        path = self._require(name)
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            inside = each.relative_to(self._journal.folder)
            if each.suffix == ".json":
                content = hide_folders(json.loads(each.read_text(encoding="utf-8")))
                if content.pop("seal", None):
                    content["seal"] = seal(content)
                self._client.log_text(run_id, json.dumps(content, indent=2) + "\n", inside.as_posix())
            elif not each.is_dir():
                above = None if inside.parent == Path() else inside.parent.as_posix()
                self._client.log_artifact(run_id, str(each), artifact_path=above)

    def _send_model(self, run_id: str, bundle: Path) -> None:
        """Log the bundle as the model of the run, which has one."""
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
        if not run.outputs or all(each.model_id != model_id for each in run.outputs.model_outputs):
            client.log_outputs(run_id, models=[LoggedModelOutput(model_id, step=0)])


def _take_batch(entries: list[Entry]) -> list[Entry]:
    """Return the first entry, and with metrics those of the same run that follow, as many as one request may hold."""
    first, room = entries[0], _MOST_METRICS
    if first["kind"] != "metrics":
        return [first]

    def fits(entry: Entry) -> bool:
        nonlocal room
        room -= len(entry.get("metrics", ()))
        return entry["kind"] == "metrics" and entry["run"] == first["run"] and room >= 0

    return list(takewhile(fits, entries)) or [first]


class Sender(threading.Thread):
    """Sends a journal while a run goes on; whatever the store does, the run waits for it once, shortly, at its end.

    Args:
        journal: The journal.
        uri: The store.
    """

    def __init__(self, journal: Journal, uri: str):
        super().__init__(name="boneage-tracking", daemon=True)
        self._delivery, self._journal, self._uri = Delivery(journal, uri), journal, uri
        self._over, self._told = threading.Event(), False

    def __enter__(self) -> "Sender":
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._journal.changed.set()
        # A file on this machine may take what time it needs: nothing else keeps what was trained.
        self.join(None if sqlite_path(self._uri) else PATIENCE_SECONDS)
        if self.is_alive() or self._delivery.num_waiting:
            self._tell(f"MLflow at {hide_password(self._uri)}: does not answer in time")

    def run(self) -> None:
        """Send what is there, then what comes, and end with the run."""
        is_last = False
        while not is_last:
            # In this order: whoever sets the second flag has set the first one before.
            self._journal.changed.clear()
            is_last = self._over.is_set()
            try:
                self._delivery.send()
                await_more: Callable[[], Any] = self._journal.changed.wait
            except Exception as error:  # whatever a store does must not end the training
                self._tell(str(error if isinstance(error, StoreError) else explain(error, uri=self._uri)))
                await_more = partial(self._over.wait, RETRY_SECONDS)
            if not is_last:
                await_more()
        if self._delivery.refusals:
            _log.warning("%s", self._delivery.refusals[0])

    def _tell(self, trouble: str) -> None:
        """Tell, once, that the store is in trouble, and what becomes of the run."""
        if not self._told:
            self._told = True
            _log.warning(
                "%s; the run goes on and keeps everything: send it by `boneage sync %s`", trouble, self._journal.folder
            )


def sync(runs: Sequence[str | Path], *, tracking_uri: str | None = None) -> dict[Path, int]:
    """Send to MLflow what it has not been sent of training runs, because the store was down or is another one.

    Args:
        runs: Run folders.
        tracking_uri: MLflow's store as in `boneage.train`.

    Returns:
        For each folder the number of entries of its journal that were sent; a second call sends none.

    Raises:
        StoreError: If the store cannot be reached, refuses something, or a folder has no journal.
    """
    uri, sent = resolve_uri(tracking_uri), {}
    for folder in map(Path, runs):
        journal = Journal(folder)
        if not journal.path.exists():
            raise StoreError(f"{folder}: no {journal.path.name} here; name the folder of a run that was tracked.")
        delivery = Delivery(journal, uri)
        sent[folder] = delivery.send()
        if delivery.refusals:
            raise StoreError(f"{folder}: all is sent but {len(delivery.refusals)} entries: {delivery.refusals[0]}")
    return sent
