"""Resolve the name of a bundle: a folder, the packaged model, or a model in an MLflow registry, which is downloaded."""

from pathlib import Path

from boneage.base.files import restore_folder
from boneage.registry.settings import PACKAGED_BUNDLE, PACKAGED_NAME


def resolve_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle; a registered model such as `models:/boneage@champion` is downloaded.

    Args:
        bundle: A folder, `"default"` for the packaged model (a folder of that name goes by its absolute path), or
            `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        BoneAgeError: If it cannot be downloaded.
    """
    if bundle == PACKAGED_NAME or bundle == Path(PACKAGED_NAME):
        return PACKAGED_BUNDLE
    if not str(bundle).startswith("models:/"):
        folder = Path(bundle)
        restore_folder(folder)
        return folder
    # Imported here because MLflow takes seconds, and a folder does not need it.
    from boneage.registry.fetch import fetch_bundle

    return fetch_bundle(str(bundle))
