"""Tracking of training runs with MLflow, at the edge: a run without it, or with a store that is down, trains the same.

Everything goes into the journal in the run folder, from where `boneage.delivery` sends it. No name of a user or of a
machine is tracked, nor a path outside the run folder.
"""

import contextlib
import functools
import importlib.metadata
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boneage.journal import Journal

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
TRAINING_EXPERIMENT, TUNING_EXPERIMENT = "boneage-train", "boneage-tune"


class Tracker:
    """Where a training run reports to. This one keeps nothing: a run that is not tracked."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what the run was asked to do."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record figures, MAE in months, by epoch or for the whole run."""

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder of the run folder."""

    def log_model(self, bundle: Path) -> None:
        """Record a bundle of the run folder as a model that MLflow can load and serve."""

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator["Tracker"]:
        """Track a part of the run as a run of its own, below this one."""
        yield self


class JournalTracker(Tracker):
    """Writes into a journal, for a run of which the journal has the key.

    Args:
        journal: The journal.
        experiment: Name of MLflow's experiment.
        key: The key.
    """

    def __init__(self, journal: Journal, *, experiment: str, key: str):
        self._journal, self._experiment, self._key = journal, experiment, key

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what the run was asked to do."""
        self._journal.append("params", run=self._key, params=dict(params))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record figures, MAE in months, by epoch or for the whole run."""
        self._journal.append(
            "metrics", run=self._key, metrics={name: float(value) for name, value in metrics.items()}, step=step
        )

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder of the run folder."""
        self._journal.append("files", run=self._key, path=path.relative_to(self._journal.folder).as_posix())

    def log_model(self, bundle: Path) -> None:
        """Record a bundle of the run folder as a model that MLflow can load and serve."""
        self._journal.append("model", run=self._key, path=bundle.relative_to(self._journal.folder).as_posix())

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator[Tracker]:
        """Track a part of the run as a run of its own, below this one."""
        child = JournalTracker(self._journal, experiment=self._experiment, key=uuid.uuid4().hex)
        with child.running(run_name, parent=self._key):
            yield child

    @contextlib.contextmanager
    def running(self, run_name: str, *, parent: str | None = None) -> Iterator[None]:
        """Record that the run begins, and how it ends."""
        self._journal.append(
            "begin", run=self._key, experiment=self._experiment, name=run_name, parent=parent, tags=_tags()
        )
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self._journal.append("end", run=self._key, status=status)


def list_params(table: str, config: Any) -> dict[str, Any]:
    """List the settings of a table of the experiment as parameters, such as `train.epochs`."""
    return {f"{table}.{key}": value for key, value in vars(config).items()}


def resolve_uri(tracking_uri: str | None) -> str:
    """Return MLflow's store: the given one, `MLFLOW_TRACKING_URI`, or a SQLite file in the working folder."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


@contextlib.contextmanager
def start_tracking(
    tracking_uri: str | None, *, folder: Path, experiment: str, run_name: str, system: bool = False
) -> Iterator[Tracker]:
    """Track a training run.

    Args:
        tracking_uri: MLflow's store as in `resolve_uri`; `"none"` tracks nothing.
        folder: The run folder. A run that its journal knows is gone on with.
        experiment: Name of MLflow's experiment.
        run_name: Name of the run.
        system: Whether to record what the machine does as well: processor, memory, disk, network, GPU.

    Yields:
        The tracker. The MLflow run is marked as failed if the body raises.
    """
    uri = resolve_uri(tracking_uri)
    if uri == "none":
        yield Tracker()
        return
    # Imported here because it takes seconds and is not needed to train.
    from boneage.delivery import Sender
    from boneage.system import watch_system

    journal = Journal(folder)
    known = [entry["run"] for entry in journal.read() if entry["kind"] == "begin" and entry["parent"] is None]
    tracker = JournalTracker(journal, experiment=experiment, key=known[0] if known else uuid.uuid4().hex)
    watched = watch_system(tracker) if system else contextlib.nullcontext()
    with Sender(journal, uri), tracker.running(run_name), watched:
        yield tracker


@functools.cache
def _tags() -> dict[str, str]:
    """Tell what code runs: the version, and the commit where the package lies in a repository of its own."""
    tags = {"boneage.version": importlib.metadata.version("boneage")}
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        # A package that was installed below somebody's repository is no part of it.
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
