"""Resolve the name of a bundle: a folder, the packaged model, or a model in an MLflow registry or on the hub."""

import re
from pathlib import Path

from boneage.base.files import restore_folder
from boneage.registry.settings import PACKAGED_BUNDLE, PACKAGED_NAME

_REMOTE = re.compile(r"(models|hf):/")


def resolve_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle; one in a registry or on the Hugging Face hub is downloaded, and cached.

    Args:
        bundle: A folder, `"default"` for the packaged model (a folder of that name goes by its absolute path),
            `models:/NAME@ALIAS` or `models:/NAME/VERSION` of an MLflow registry, or `hf://owner/name@revision` of the
            hub.

    Raises:
        BoneAgeError: If it cannot be downloaded.
    """
    if bundle == PACKAGED_NAME or bundle == Path(PACKAGED_NAME):
        return PACKAGED_BUNDLE
    name = bundle.as_posix() if isinstance(bundle, Path) else bundle
    if not _REMOTE.match(name):
        folder = Path(bundle)
        restore_folder(folder)
        return folder
    if name.startswith("hf:"):
        from boneage.registry.fetch_hub import fetch_from_hub

        return fetch_from_hub(name)
    # Imported here because MLflow takes seconds, and a folder does not need it.
    from boneage.registry.fetch import fetch_bundle

    return fetch_bundle(name)


def pin_bundle(name: str) -> str:
    """Return a name that means the same bundle for ever: of a branch or tag on the hub, that of its present commit.

    Args:
        name: A name as in `resolve_bundle`, or any other initial weights, which stay as they are.

    Raises:
        BoneAgeError: If the bundle cannot be downloaded.
    """
    if not name.startswith("hf:/"):
        return name
    folder = resolve_bundle(name)
    return f"hf://{folder.parent.name}/{folder.name}"


def names_bundle(init: str | Path) -> bool:
    """Whether initial weights are those of a bundle: as in `resolve_bundle`, but a folder must exist."""
    return init == PACKAGED_NAME or _REMOTE.match(str(init)) is not None or Path(init).is_dir()
