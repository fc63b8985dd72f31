"""Complete a bundle: write the metadata beside its models, and move the folder to its place."""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

from boneage.base.files import replace_folder, write_json
from boneage.bundles.bundle import (
    BUNDLE_VERSION,
    KERAS_FILE,
    ONNX_FILE,
    SEEN_FILE,
    WEIGHTS_FILE,
    load_bundle,
)
from boneage.registry.digest import metadata_digest
from boneage.registry.settings import METADATA_FILE

INTENDED_USE = "Research. Not a medical device: no diagnosis or treatment may rest on its output."


def complete_bundle(beside: Path, folder: Path, metadata: dict[str, Any]) -> Path:
    """Write the metadata of a folder with models, check that it loads, and move it to its place.

    Args:
        beside: Folder with `model.onnx` and, for further training, `model.keras` or `weights.npz`; it is renamed.
        folder: The folder of the bundle.
        metadata: Content of `metadata.json` in addition to the version and the checksums of the models.

    Returns:
        The folder.
    """
    files = [beside / name for name in (ONNX_FILE, KERAS_FILE, WEIGHTS_FILE, SEEN_FILE) if (beside / name).exists()]
    own = {
        "bundle_version": BUNDLE_VERSION,
        "boneage_version": importlib.metadata.version("boneage"),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "value_range": [0.0, 1.0],
        "unit": "months",
        "intended_use": INTENDED_USE,
    }
    complete = {**metadata, **own}
    write_json(beside / METADATA_FILE, {**complete, "metadata_digest": metadata_digest(complete)})
    load_bundle(beside)
    replace_folder(beside, folder)
    return folder
