"""Open and describe MLflow stores, with errors as one line."""

import logging
import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from boneage.base.errors import BoneAgeError
from boneage.registry.settings import TRAINING_EXPERIMENT


class TrackingStoreError(BoneAgeError):
    """Raised if an MLflow store cannot be reached or used."""


def open_store(uri: str, *, create: bool = True) -> MlflowClient:
    """Open a store.

    Args:
        uri: MLflow tracking URI.
        create: Whether a SQLite file and its folder are created if missing.

    Raises:
        TrackingStoreError: If the URI is invalid, or the store is missing or cannot be created.
    """
    if not create and (path := sqlite_path(uri)) is not None and not path.exists():
        raise TrackingStoreError(f"{path}: no such file; train a network, or name another store by --tracking-uri.")
    # Retries happen in `boneage.tracking.sync`; MLflow would retry for up to 15 minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # No telemetry, and no copy of a pyproject.toml in the working folder with each model.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    # A new SQLite store logs every migration of its empty database; failures are raised.
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if (path := sqlite_path(uri)) is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without the artifact folder, MLflow would store the working folder as that of its default experiment.
            SqlAlchemyStore(uri, artifact_uri(path))
        return MlflowClient(uri, registry_uri=uri)
    except (MlflowException, OSError, SQLAlchemyError, ImportError) as error:
        raise to_store_error(error, uri=uri) from error


def to_store_error(error: Exception, *, uri: str) -> TrackingStoreError:
    """Return an error of a store as one line, without passwords."""
    message = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    if "failed with exception" in message:  # the cause follows the last colon
        message = message.rsplit(": ", maxsplit=1)[-1].strip("'\")")
    return TrackingStoreError(
        f"MLflow at {redact_credentials(uri)}: {textwrap.shorten(redact_credentials(message), 300)}"
    )


def redact_credentials(text: str) -> str:
    """Return a tracking URI, or a text that contains one, without user and password."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of an MLflow server."""
    return uri.startswith(("http://", "https://"))


def find_experiment_page(uri: str) -> str:
    """Return the page of the training runs in the MLflow UI; empty if there are none yet.

    Raises:
        TrackingStoreError: If the store cannot be reached.
    """
    try:
        found = open_store(uri).get_experiment_by_name(TRAINING_EXPERIMENT)
    except (MlflowException, OSError, SQLAlchemyError) as error:
        raise to_store_error(error, uri=uri) from error
    return "" if found is None else f"#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for other stores."""
    match = re.fullmatch(r"sqlite:///(.+)", uri)
    return Path(match[1]) if match else None


def artifact_uri(path: Path) -> str:
    """Return the artifact location of a SQLite store."""
    return (path.parent / "artifacts").resolve().as_uri()


def store_id(uri: str) -> str:
    """Return an id of a store, independent of the working folder; hashed, since the URI may contain a password."""
    path = sqlite_path(uri)
    return sha256((uri if path is None else f"sqlite:///{path.resolve()}").encode()).hexdigest()[:16]


@contextmanager
def convert_mlflow_errors(uri: str) -> Iterator[None]:
    """Convert an MLflow error in the body to a TrackingStoreError.

    Raises:
        TrackingStoreError: If the body raises an MLflow, OS or database error.
    """
    try:
        yield
    except (MlflowException, OSError, SQLAlchemyError) as error:
        raise to_store_error(error, uri=uri) from error
