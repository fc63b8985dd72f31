"""Resolve the name of a bundle: a folder, or a model in an MLflow registry, which is downloaded."""

from pathlib import Path

from boneage.base.files import restore_folder


def resolve_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle; a registered model such as `models:/boneage@champion` is downloaded.

    Raises:
        BoneAgeError: If it cannot be downloaded.
    """
    if not str(bundle).startswith("models:/"):
        folder = Path(bundle)
        restore_folder(folder)
        return folder
    # Imported here because MLflow takes seconds, and a folder does not need it.
    from boneage.registry.fetch import fetch_bundle

    return fetch_bundle(str(bundle))
