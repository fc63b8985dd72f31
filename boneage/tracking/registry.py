"""Compare the training runs of a store, and register the best one in MLflow's model registry."""

import collections
import dataclasses

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.base.errors import check_choice
from boneage.registry.settings import MODEL_NAME, TRAINING_EXPERIMENT, resolve_uri
from boneage.registry.store import TrackingStoreError, convert_mlflow_errors, open_store

METRICS = ("val_mae", "val_error_share")
CHAMPION = "champion"
COLUMNS = (
    "run",
    "name",
    "value",
    "network",
    "input_size_px",
    "num_train",
    "fingerprint",
    "commit",
    "began",
    "champion",
)
_MAX_RUNS = 1000


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Runs on the same records, best first.

    Args:
        metric: The metric that ranks them.
        digest: Digest of the records.
        runs: One row per run: `run` (MLflow's id), `name`, `value` (of its bundle, in months for `val_mae`), `network`,
            `input_size_px`, `num_train` (radiographs), `fingerprint` of the preprocessing, `commit` of the code,
            `began` (UTC), and whether it is the `champion`.
        others: Number of further finished runs with the metric by the digest of their records, newest first.
    """

    metric: str
    digest: str
    runs: pd.DataFrame
    others: dict[str, int]


def best(
    *,
    metric: str = "val_mae",
    digest: str | None = None,
    promote: bool = False,
    run: str | None = None,
    tracking_uri: str | None = None,
) -> Leaderboard:
    """List the finished training runs on the same records, best first; optionally register one as the champion.

    Args:
        metric: `"val_mae"` in months, or `"val_error_share"` for sex classification, both of the bundle of a run.
        digest: Digest of the records of the runs, or its prefix (default: that of the newest finished run).
        promote: Whether to register the model of a run as `boneage` with the alias `champion`, so that
            `models:/boneage@champion` names its bundle.
        run: Id of the run to promote, or a unique prefix (default: the best run).
        tracking_uri: MLflow tracking URI as in `boneage.train`.

    Raises:
        TrackingStoreError: If the store cannot be reached, contains no such run, or the run has no model.
        ValueError: If `metric` is unknown, or `run` is given without `promote`.
    """
    check_choice("metric", metric, METRICS)
    if run is not None and not promote:
        raise ValueError(f"a run id requires --promote. Received: {run!r}.")
    uri = resolve_uri(tracking_uri)
    with convert_mlflow_errors(uri):
        client = open_store(uri, create=False)
        found, digest, others = _find_runs(client, metric=metric, digest=digest, uri=uri)
        if promote:
            _promote(client, _choose(found, run))
        champion = _find_champion(client)
    rows = [_row(run, metric=metric, champion=champion) for run in found]
    return Leaderboard(metric, digest, pd.DataFrame(rows, columns=list(COLUMNS)), others)


def leaderboard_table(board: Leaderboard) -> Table:
    """Format the leaderboard as a table for the terminal."""
    unit = "MAE, months" if board.metric == "val_mae" else "error, share"
    table = Table(title=f"Validation on records {board.digest}", box=SIMPLE_HEAD, title_justify="left")
    # The other columns are in the JSON document.
    for name in ("Run", "Name", unit, "Network", "Pixels", "Began", ""):
        table.add_column(name, justify="right" if name in (unit, "Pixels") else "left", overflow="fold")
    for row in board.runs.to_dict("records"):
        table.add_row(
            row["run"][:8],
            row["name"],
            f"{row['value']:.2f}" if board.metric == "val_mae" else f"{row['value']:.4f}",
            row["network"],
            row["input_size_px"],
            row["began"][:10],
            CHAMPION if row["champion"] else "",
        )
    return table


def _find_runs(
    client: MlflowClient, *, metric: str, digest: str | None, uri: str
) -> tuple[list[Run], str, dict[str, int]]:
    """Return the finished runs on the same records, best first, their digest, and the number of runs on others."""
    experiment = client.get_experiment_by_name(TRAINING_EXPERIMENT)
    nothing = TrackingStoreError(
        f"{uri}: no finished run with {metric}" + (f" on {digest}" if digest else "") + "; train one, or pass "
        "--tracking-uri."
    )
    if experiment is None:
        raise nothing
    newest = client.search_runs(
        [experiment.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time DESC"]
    )
    digests = [run.data.params["data.digest"] for run in newest if f"best_{metric}" in run.data.metrics]
    matching = [found for found in digests if found.startswith(digest or "")]
    if not matching:
        raise nothing
    digest = matching[0]
    others = {other: count for other, count in collections.Counter(digests).items() if other != digest}
    where = f"attributes.status = 'FINISHED' AND params.`data.digest` = '{digest}' AND metrics.`best_{metric}` >= 0"
    order = [f"metrics.`best_{metric}` ASC", "attributes.start_time ASC"]
    return client.search_runs([experiment.experiment_id], where, max_results=_MAX_RUNS, order_by=order), digest, others


def _choose(runs: list[Run], run: str | None) -> Run:
    chosen = runs if run is None else [candidate for candidate in runs if candidate.info.run_id.startswith(run)]
    if not chosen or (run is not None and len(chosen) > 1):
        raise TrackingStoreError(f"{run}: matches {'several runs' if chosen else 'no run'}; use an id from the table.")
    return chosen[0]


def _promote(client: MlflowClient, run: Run) -> None:
    """Register the model of a run, if it is not registered yet, as the champion."""
    run_id = run.info.run_id
    models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise TrackingStoreError(f"{run_id}: has no model; only bone-age networks have one.")
    if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
        client.create_registered_model(
            MODEL_NAME, description="Bone age in months. Research use: not a medical device."
        )
    known = client.search_model_versions(f"name = '{MODEL_NAME}' AND run_id = '{run_id}'")
    version = (
        known[0]
        if known
        # By location: MLflow would look up a model id in the default store of this process.
        else client.create_model_version(
            MODEL_NAME, models[0].artifact_location, run_id=run_id, model_id=models[0].model_id
        )
    )
    client.set_registered_model_alias(MODEL_NAME, CHAMPION, version.version)


def _find_champion(client: MlflowClient) -> str | None:
    """Return the id of the run whose model is the champion."""
    for model in client.search_registered_models(f"name = '{MODEL_NAME}'"):
        if version := model.aliases.get(CHAMPION):
            return client.get_model_version(MODEL_NAME, version).run_id
    return None


def _row(run: Run, *, metric: str, champion: str | None) -> dict[str, object]:
    params = run.data.params
    began = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
    return {
        "run": run.info.run_id,
        "name": run.info.run_name,
        "value": round(run.data.metrics[f"best_{metric}"], 4),
        "network": params.get("train.network", ""),
        "input_size_px": params.get("train.input_size", ""),
        "num_train": params.get("data.num_train", ""),
        "fingerprint": params.get("data.fingerprint", ""),
        "commit": run.data.tags.get("mlflow.source.git.commit", ""),
        "began": began.isoformat(timespec="seconds"),
        "champion": run.info.run_id == champion,
    }
