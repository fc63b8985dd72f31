"""The default tracking store, and names shared by stores and bundles."""

import os
from pathlib import Path

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
TRAINING_EXPERIMENT, TUNING_EXPERIMENT = "boneage-train", "boneage-tune"
MODEL_NAME = "boneage"
METADATA_FILE = "metadata.json"
# The packaged model for bone age, and the name by which commands take it.
PACKAGED_BUNDLE = Path(__file__).parents[1] / "bundles" / "default"
PACKAGED_NAME = "default"


def resolve_uri(tracking_uri: str | None) -> str:
    """Return the MLflow tracking URI: the given one, `MLFLOW_TRACKING_URI`, or a SQLite file in the working folder."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
