"""The default tracking store, and names shared by stores and bundles."""

import os

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
TRAINING_EXPERIMENT, TUNING_EXPERIMENT = "boneage-train", "boneage-tune"
MODEL_NAME = "boneage"
METADATA_FILE = "metadata.json"


def resolve_uri(tracking_uri: str | None) -> str:
    """Return the MLflow tracking URI: the given one, `MLFLOW_TRACKING_URI`, or a SQLite file in the working folder."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
