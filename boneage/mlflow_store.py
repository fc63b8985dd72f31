"""MLflow's stores: how one is opened, named and shown, and what is wrong with it in one line."""

import logging
import os
import re
from hashlib import sha256
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from boneage.tracking import TRAINING_EXPERIMENT
from tfrecords.errors import BoneAgeError


class StoreError(BoneAgeError):
    """A store of MLflow's that cannot be reached, or not be used."""


def open_store(uri: str) -> MlflowClient:
    """Open a store; a SQLite file is made with its folder.

    Raises:
        StoreError: If it is none, or cannot be made.
    """
    # Answers are waited for, and asked for again, here; MLflow would do it for up to a quarter of an hour.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # MLflow would tell its makers of each model, and copy what pyproject.toml lies in the working folder.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    # Each start of a SQLite store tells of every migration of its empty database; what goes wrong is raised.
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if (path := sqlite_path(uri)) is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # MLflow would note down the working folder, as where the files of its own first experiment go.
            SqlAlchemyStore(uri, artifacts_beside(path))
        return MlflowClient(uri, registry_uri=uri)
    except (MlflowException, OSError, SQLAlchemyError, ImportError) as error:
        raise explain(error, uri=uri) from error


def explain(error: Exception, *, uri: str) -> StoreError:
    """Say in one line what is wrong with a store; passwords are left out."""
    said = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    if "failed with exception" in said:  # a chain of errors around the one that tells
        said = said.rsplit(": ", maxsplit=1)[-1].strip("'\")")
    return StoreError(f"MLflow at {hide_password(uri)}: {hide_password(said)[:300]}")


def hide_password(text: str) -> str:
    """Return the address of a store, or a text that names one, as it may be shown: without user and password."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def is_server(uri: str) -> bool:
    """Tell whether a store is a server of MLflow's, which has pages of its own."""
    return uri.startswith(("http://", "https://"))


def find_experiment_page(uri: str) -> str:
    """Return where in MLflow's pages the training runs are; empty where there are none yet.

    Raises:
        StoreError: If the store cannot be reached.
    """
    try:
        found = open_store(uri).get_experiment_by_name(TRAINING_EXPERIMENT)
    except (MlflowException, OSError, SQLAlchemyError) as error:
        raise explain(error, uri=uri) from error
    return "" if found is None else f"#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store; none of any other."""
    match = re.fullmatch(r"sqlite:///(.+)", uri)
    return Path(match[1]) if match else None


def artifacts_beside(path: Path) -> str:
    """Return where the files of a SQLite store go."""
    return (path.parent / "artifacts").resolve().as_uri()


def name_store(uri: str) -> str:
    """Name a store in the file of what was sent, wherever it is asked from; the address may hold a password."""
    path = sqlite_path(uri)
    return sha256((uri if path is None else f"sqlite:///{path.resolve()}").encode()).hexdigest()[:16]
