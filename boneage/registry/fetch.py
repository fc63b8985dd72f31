"""Download bundles from an MLflow model registry, with a cache."""

import os
import re
import tempfile
from hashlib import sha256
from pathlib import Path

import mlflow.artifacts

from boneage.base.files import cache_folder
from boneage.registry.settings import METADATA_FILE, resolve_uri
from boneage.registry.store import TrackingStoreError, convert_mlflow_errors, open_store


def fetch_bundle(name: str, *, tracking_uri: str | None = None) -> Path:
    """Download the bundle of a registered model; a cached one is not downloaded again.

    Args:
        name: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: MLflow tracking URI as in `boneage.train`.

    Returns:
        The bundle, below `$BONEAGE_HOME` or `~/.cache/boneage`.

    Raises:
        TrackingStoreError: If the name has another form, the store cannot be reached, or contains no such model.
    """
    if not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/\d+)", name):
        raise TrackingStoreError(f"{name}: names no model; write models:/NAME@ALIAS or models:/NAME/VERSION.")
    uri = resolve_uri(tracking_uri)
    path = name.removeprefix("models:/")
    model, _, alias = path.partition("@")
    with convert_mlflow_errors(uri):
        client = open_store(uri, create=False)
        if alias:
            version = client.get_model_version_by_alias(model, alias)
        else:
            model, _, number = path.partition("/")
            version = client.get_model_version(model, number)
        # Every model of a store has its own version, but two stores can use the same numbers.
        identity = f"{uri} {model} {version.version} {version.creation_timestamp} {version.run_id}"
        kept = cache_folder() / "models" / sha256(identity.encode()).hexdigest()[:16]
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
                source = client.get_model_version_download_uri(model, version.version)
                fetched = mlflow.artifacts.download_artifacts(source, dst_path=beside, tracking_uri=uri)
                try:
                    os.replace(fetched, kept)
                except OSError:
                    if not kept.exists():  # otherwise another process has just downloaded the same
                        raise
    try:
        return find_bundle_in(kept)
    except StopIteration:
        raise TrackingStoreError(
            f"{name}: not a boneage model; use one registered by `boneage best --promote`."
        ) from None


def find_bundle_in(folder: Path) -> Path:
    """Return the bundle inside a model that `write_model` wrote."""
    return next((folder / "data").glob(f"*/{METADATA_FILE}")).parent
