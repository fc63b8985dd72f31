"""Track training runs with MLflow; training does not depend on a reachable store.

Everything goes into the outbox in the run folder, from which `boneage.tracking.sync` sends it. Names of users and
machines and paths outside the run folder are not tracked.
"""

import contextlib
import functools
import importlib.metadata
import subprocess
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boneage.registry.settings import resolve_uri
from boneage.tracking.outbox import Outbox


class Tracker:
    """Interface for tracking a run. This base class discards everything: an untracked run."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record the settings of the run."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record metrics (MAE in months) of an epoch or of the whole run."""

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder of the run folder."""

    def log_model(self, bundle: Path) -> None:
        """Record a bundle of the run folder as a model that MLflow can load and serve."""

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator["Tracker"]:
        """Track a part of the run as a child run."""
        yield self


class OutboxTracker(Tracker):
    """Tracks a run by appending to an outbox.

    Args:
        outbox: The outbox.
        experiment: Name of the MLflow experiment.
        key: Key of the run in the outbox.
    """

    def __init__(self, outbox: Outbox, *, experiment: str, key: str):
        self._outbox, self._experiment, self._key = outbox, experiment, key

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record the settings of the run."""
        self._outbox.append("params", run=self._key, params=dict(params))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record metrics (MAE in months) of an epoch or of the whole run."""
        self._outbox.append(
            "metrics", run=self._key, metrics={name: float(value) for name, value in metrics.items()}, step=step
        )

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder of the run folder."""
        self._outbox.append("files", run=self._key, path=path.relative_to(self._outbox.folder).as_posix())

    def log_model(self, bundle: Path) -> None:
        """Record a bundle of the run folder as a model that MLflow can load and serve."""
        self._outbox.append("model", run=self._key, path=bundle.relative_to(self._outbox.folder).as_posix())

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator[Tracker]:
        """Track a part of the run as a child run, unless a run that was interrupted has done so."""
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._key} {run_name}").hex
        if any(entry["kind"] == "end" and entry["run"] == key for entry in self._outbox.read()):
            yield Tracker()
            return
        child = OutboxTracker(self._outbox, experiment=self._experiment, key=key)
        with child.running(run_name, parent=self._key):
            yield child

    @contextlib.contextmanager
    def running(self, run_name: str, *, parent: str | None = None) -> Iterator[None]:
        """Record the start of the run and its final status."""
        self._outbox.append(
            "begin", run=self._key, experiment=self._experiment, name=run_name, parent=parent, tags=_tags()
        )
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self._outbox.append("end", run=self._key, status=status)


def list_params(table: str, config: Any) -> dict[str, Any]:
    """Return the settings of a table of the experiment as parameters, such as `train.epochs`."""
    return {f"{table}.{key}": value for key, value in vars(config).items()}


@contextlib.contextmanager
def start_tracking(
    tracking_uri: str | None,
    *,
    folder: Path,
    experiment: str,
    run_name: str,
    key: str | None = None,
    system: bool = False,
) -> Iterator[Tracker]:
    """Track a training run.

    Args:
        tracking_uri: MLflow tracking URI as in `resolve_uri`; `"none"` turns tracking off.
        folder: The run folder.
        experiment: Name of the MLflow experiment.
        run_name: Name of the run.
        key: Key of the run in the outbox, where it is resumed (default: that of the first run in the outbox). Other
            runs there that have not ended have failed.
        system: Whether to record system metrics as well: CPU, memory, disk, network, GPU.

    Yields:
        The tracker. The MLflow run is marked as failed if the body raises.
    """
    uri = resolve_uri(tracking_uri)
    if uri == "none":
        yield Tracker()
        return
    # Imported here because it takes seconds and is not needed to train.
    with warnings.catch_warnings():
        # MLflow loads tqdm, which asks for widgets in a notebook: no bar of it is shown.
        warnings.filterwarnings("ignore", "IProgress not found")
        from boneage.tracking.sync import SyncThread
    from boneage.tracking.system import watch_system

    outbox = Outbox(folder)
    entries = outbox.read()
    known = [entry["run"] for entry in entries if entry["kind"] == "begin" and entry["parent"] is None]
    key = key or next(iter(known), uuid.uuid4().hex)
    ended = {entry["run"] for entry in entries if entry["kind"] == "end"}
    for other in dict.fromkeys(known):
        if other != key and other not in ended:
            outbox.append("end", run=other, status="FAILED")
    tracker = OutboxTracker(outbox, experiment=experiment, key=key)
    watched = watch_system(tracker.log_metrics) if system else contextlib.nullcontext()
    with SyncThread(outbox, uri), tracker.running(run_name), watched:
        yield tracker


@functools.cache
def _tags() -> dict[str, str]:
    """Return the version of the package, and its commit if it lies in its own repository."""
    tags = {"boneage.version": importlib.metadata.version("boneage")}
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        # A package installed inside another repository is not tracked by it.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], check=True, capture_output=True)
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return tags
    return tags | {"mlflow.source.git.commit": described.stdout.strip()}
