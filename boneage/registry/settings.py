"""The tracking store that is meant, and names shared by stores and bundles."""

import importlib.metadata
import os
import re
from pathlib import Path

from boneage.base.errors import suggest_closest

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
TRAINING_EXPERIMENT, TUNING_EXPERIMENT = "boneage-train", "boneage-tune"
MODEL_NAME = "boneage"
METADATA_FILE = "metadata.json"
# The packaged model for bone age, and the name by which commands take it.
PACKAGED_BUNDLE = Path(__file__).parents[1] / "bundles" / "default"
PACKAGED_NAME = "default"


# Those of MLflow 3; a database may name its driver, as in postgresql+psycopg2.
_SCHEMES = (
    "http",
    "https",
    "sqlite",
    "postgresql",
    "mysql",
    "mssql",
    "file",
    "databricks",
    "databricks-uc",
    "uc",
)


def resolve_uri(tracking_uri: str | None) -> str:
    """Return the MLflow tracking URI: the given one, `MLFLOW_TRACKING_URI`, or a SQLite file in the working folder.

    Raises:
        ValueError: If neither MLflow nor a plugin of it knows the scheme. Nothing else of the URI is checked.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    written = re.match(r"([a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:", uri, re.IGNORECASE)
    if written and (scheme := written[1].lower()) not in _SCHEMES:
        plugins = {point.name for point in importlib.metadata.entry_points(group="mlflow.tracking_store")}
        if scheme not in plugins:
            name = "`tracking_uri`" if tracking_uri else "$MLFLOW_TRACKING_URI"
            # The rest may hold a password.
            raise ValueError(
                f"{name} must begin with one of {', '.join(f'{known}:' for known in _SCHEMES)} or be a folder. "
                f"Received: {scheme}:.{suggest_closest(scheme, _SCHEMES)}"
            )
    return uri
