"""The runs of a store compared, and the best of them in MLflow's registry, from where `models:/` fetches it."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import mlflow.artifacts
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.box import SIMPLE_HEAD
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from boneage.delivery import MODEL_NAME
from boneage.mlflow_model import find_bundle_in
from boneage.mlflow_store import StoreError, explain, open_store
from boneage.tracking import TRAINING_EXPERIMENT, resolve_uri
from tfrecords.errors import check_choice

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
_MOST_RUNS = 1000


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Runs on the same records, best first.

    Args:
        metric: By what they are compared.
        data: Digest of the records.
        runs: One row a run: `run` (MLflow's id), `name`, `value` (of its bundle, in months for `val_mae`), `network`,
            `input_size_px`, `num_train` (radiographs), `fingerprint` of the preprocessing, `commit` of the code,
            `began` (UTC), and whether it is the `champion`.
    """

    metric: str
    data: str
    runs: pd.DataFrame


def best(
    *,
    metric: str = "val_mae",
    data: str | None = None,
    promote: bool = False,
    run: str | None = None,
    tracking_uri: str | None = None,
) -> Leaderboard:
    """Compare the finished training runs on the same records, and promote one of them.

    Args:
        metric: `"val_mae"` in months, or `"val_error_share"` of networks that tell the sex, both of a run's bundle.
        data: Digest of the records that the runs were trained and measured on, or its beginning; that of the newest
            finished run without it.
        promote: Whether to register the model of a run as `boneage` and to give it the alias `champion`, after which
            `models:/boneage@champion` names its bundle.
        run: Id of the run to promote, or its beginning; the best one without it.
        tracking_uri: MLflow's store as in `boneage.train`.

    Raises:
        StoreError: If the store cannot be reached, knows no such run, or the run has no model.
        ValueError: If `metric` is unknown, or `run` is given without `promote`.
    """
    check_choice("metric", metric, METRICS)
    if run is not None and not promote:
        raise ValueError(f"a run is named to promote it: add --promote. Received: {run!r}.")
    uri = resolve_uri(tracking_uri)
    with _explained(uri):
        client = open_store(uri)
        found, digest = _find_runs(client, metric=metric, data=data, uri=uri)
        if promote:
            _promote(client, _choose(found, run))
        champion = _find_champion(client)
    rows = [_row(each, metric=metric, champion=champion) for each in found]
    return Leaderboard(metric, digest, pd.DataFrame(rows, columns=list(COLUMNS)))


def fetch_bundle(name: str, *, tracking_uri: str | None = None) -> Path:
    """Fetch the bundle of a registered model; one that was fetched before is not fetched again.

    Args:
        name: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: MLflow's store as in `boneage.train`.

    Returns:
        The bundle, below `$BONEAGE_HOME` or `~/.cache/boneage`.

    Raises:
        StoreError: If the store cannot be reached, or has no such model.
    """
    uri = resolve_uri(tracking_uri)
    path = name.removeprefix("models:/")
    model, _, alias = path.partition("@")
    with _explained(uri):
        client = open_store(uri)
        if alias:
            version = client.get_model_version_by_alias(model, alias)
        else:
            model, _, number = path.partition("/")
            version = client.get_model_version(model, number)
        # Whoever promotes another model gives it another version, but another store may count alike.
        identity = f"{uri} {model} {version.version} {version.creation_timestamp} {version.run_id}"
        home = Path(os.environ.get("BONEAGE_HOME") or "~/.cache/boneage").expanduser()
        kept = home / "models" / sha256(identity.encode()).hexdigest()[:16]
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
                source = client.get_model_version_download_uri(model, version.version)
                fetched = mlflow.artifacts.download_artifacts(source, dst_path=beside, tracking_uri=uri)
                shutil.move(fetched, kept)
    try:
        return find_bundle_in(kept)
    except StopIteration:
        raise StoreError(f"{name}: is no model of boneage's; name one that `boneage best --promote` made.") from None


def tabulate(board: Leaderboard) -> Table:
    """Lay the leaderboard out for a terminal."""
    unit = "MAE, months" if board.metric == "val_mae" else "wrong, share"
    table = Table(title=f"Validation on records {board.data}", box=SIMPLE_HEAD, title_justify="left")
    # What all of them share or few look for is in the JSON document.
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


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError, SQLAlchemyError) as error:
        raise explain(error, uri=uri) from error


def _find_runs(client: MlflowClient, *, metric: str, data: str | None, uri: str) -> tuple[list[Run], str]:
    """Return the finished runs on the same records, best first, and the digest of those."""
    experiment = client.get_experiment_by_name(TRAINING_EXPERIMENT)
    nothing = StoreError(
        f"{uri}: no finished run with {metric}" + (f" on {data}" if data else "") + "; train one, or name the store "
        "by --tracking-uri."
    )
    if experiment is None:
        raise nothing
    where = "attributes.status = 'FINISHED'" + (f" AND params.`data.digest` LIKE '{data}%'" if data else "")
    newest = client.search_runs([experiment.experiment_id], where, order_by=["attributes.start_time DESC"])
    measured = [each for each in newest if f"best_{metric}" in each.data.metrics]
    if not measured:
        raise nothing
    digest = measured[0].data.params["data.digest"]
    where = f"attributes.status = 'FINISHED' AND params.`data.digest` = '{digest}' AND metrics.`best_{metric}` >= 0"
    order = [f"metrics.`best_{metric}` ASC", "attributes.start_time ASC"]
    return client.search_runs([experiment.experiment_id], where, max_results=_MOST_RUNS, order_by=order), digest


def _choose(runs: list[Run], run: str | None) -> Run:
    chosen = runs if run is None else [each for each in runs if each.info.run_id.startswith(run)]
    if not chosen or (run is not None and len(chosen) > 1):
        raise StoreError(f"{run}: {'names several' if chosen else 'none of the'} runs; take an id of the table.")
    return chosen[0]


def _promote(client: MlflowClient, run: Run) -> None:
    """Register the model of a run, unless it was before, and call it the champion."""
    run_id = run.info.run_id
    models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if not models:
        raise StoreError(f"{run_id}: has no model; only networks for bone age have one.")
    if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
        client.create_registered_model(MODEL_NAME, description="Bone age in months. Research use: no medical device.")
    known = client.search_model_versions(f"name = '{MODEL_NAME}' AND run_id = '{run_id}'")
    version = (
        known[0]
        if known
        # By where the model lies: its id would be looked up in whatever store is the default of this process.
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
