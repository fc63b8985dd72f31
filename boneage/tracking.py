"""Tracking of training runs with MLflow, at the edge: a run without it trains the same."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"


class Tracker:
    """Where a training run reports to. This one keeps nothing: a run that is not tracked."""

    run_id: str | None = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what the run was asked to do."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record figures, MAE in months, by epoch or for the whole run."""

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder."""

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator["Tracker"]:
        """Track a part of the run as a run of its own, below this one."""
        yield self


class MLflowTracker(Tracker):
    """Reports to MLflow's active run."""

    def __init__(self, mlflow: Any, run_id: str):
        self._mlflow, self.run_id = mlflow, run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what the run was asked to do."""
        self._mlflow.log_params(dict(params))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Record figures, MAE in months, by epoch or for the whole run."""
        self._mlflow.log_metrics(dict(metrics), step=step)

    def log_artifacts(self, path: Path) -> None:
        """Record a file or a folder."""
        if path.is_dir():
            self._mlflow.log_artifacts(str(path), artifact_path=path.name)
        else:
            self._mlflow.log_artifact(str(path))

    @contextlib.contextmanager
    def start_child(self, run_name: str) -> Iterator[Tracker]:
        """Track a part of the run as a run of its own, below this one."""
        with self._mlflow.start_run(run_name=run_name, nested=True) as run:
            yield MLflowTracker(self._mlflow, run.info.run_id)


def list_params(table: str, config: Any) -> dict[str, Any]:
    """List the settings of a table of the experiment as parameters, such as `train.epochs`."""
    return {f"{table}.{key}": value for key, value in vars(config).items()}


def resolve_uri(tracking_uri: str | None) -> str:
    """Return MLflow's store: the given one, `MLFLOW_TRACKING_URI`, or a SQLite file in the working folder."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


@contextlib.contextmanager
def start_tracking(
    tracking_uri: str | None, *, experiment: str, run_name: str, run_id: str | None
) -> Iterator[Tracker]:
    """Track a training run.

    Args:
        tracking_uri: MLflow's store as in `resolve_uri`; `"none"` tracks nothing.
        experiment: Name of MLflow's experiment.
        run_name: Name of the run.
        run_id: MLflow's id of the run to go on with; a new run without it.

    Yields:
        The tracker. The MLflow run is marked as failed if the body raises.
    """
    uri = resolve_uri(tracking_uri)
    if uri == "none":
        yield Tracker()
        return
    # Imported here because it takes seconds and is not needed to train.
    import mlflow

    # Each start of a SQLite store tells of every migration of its empty database.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if match := re.fullmatch(r"sqlite:///(.+)", uri):
        Path(match[1]).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name(experiment) is None:
        artifacts = (Path(match[1]).parent / "artifacts").resolve().as_uri() if match else None
        mlflow.create_experiment(experiment, artifact_location=artifacts)
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_id=run_id, run_name=None if run_id else run_name) as run:
        yield MLflowTracker(mlflow, run.info.run_id)
