"""Publish a bundle on the Hugging Face hub, with a model card."""

import dataclasses
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boneage.base.files import write_json, write_text
from boneage.bundles.bundle import (
    CARD_FILE,
    KERAS_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    BundleError,
    check_model,
    load_bundle,
)
from boneage.registry.digest import metadata_digest
from boneage.registry.fetch_hub import MAX_BYTES
from boneage.registry.hub import MAIN, HubError, HubName, convert_hub_errors, open_hub, parse_hub_name
from boneage.registry.resolve import resolve_bundle
from boneage.registry.settings import METADATA_FILE
from boneage.tracking.card import write_card
from boneage.tracking.outbox import redact_paths

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_UNREACHABLE = "nothing is published; run the same command again when it can"
_MAX_LICENCE = 100


@dataclasses.dataclass(frozen=True)
class PublishedBundle:
    """A bundle on the hub.

    Args:
        name: `hf://owner/name@commit`, which always names this bundle.
        page: Address of its page.
        licence: Licence of the weights.
        files: Names of its files.
        is_new: Whether anything was uploaded; False if the same bundle was there.
        is_trainable: Whether it holds weights to train from.
    """

    name: str
    page: str
    licence: str
    files: tuple[str, ...]
    is_new: bool
    is_trainable: bool


def publish(
    bundle: str | Path, to: str, *, licence: str | None = None, private: bool = False, replace: bool = False
) -> PublishedBundle:
    """Publish a bundle on the Hugging Face hub: the network, its metadata and a model card.

    Nothing that holds code is published: the Keras network becomes `weights.npz`, from which it is built again. Of
    paths in the metadata only the last part is published. The token of `HF_TOKEN` must be allowed to write.

    Args:
        bundle: A bundle as in `boneage.load`.
        to: `hf://owner/name`; the repository is created if there is none.
        licence: Licence of the weights, best a name of SPDX (default: what the bundle states).
        private: Whether a new repository is private.
        replace: Whether to replace another bundle in the repository.

    Returns:
        The published bundle.

    Raises:
        BundleError: If the bundle is incomplete or damaged, or its licence is unknown or another one.
        HubError: If the hub cannot be reached or refuses, or the repository holds another bundle or is public.
    """
    name = parse_hub_name(to)
    if name.revision:
        raise HubError(f"{to}: a bundle is published on the branch {MAIN}; give hf://{name.repository}.")
    folder = resolve_bundle(bundle)
    metadata = load_bundle(folder).metadata
    stated = _choose_licence(metadata, folder=folder, given=licence)
    with tempfile.TemporaryDirectory() as beside:
        staged = Path(beside) / "bundle"
        staged.mkdir()
        described = _stage(folder, {**metadata, "licence": stated}, staged)
        own = folder / CARD_FILE
        card = write_card(
            described, name=str(name), licence=stated, own=own.read_text(encoding="utf-8") if own.exists() else ""
        )
        write_text(staged / CARD_FILE, card)
        hub = open_hub()
        with convert_hub_errors(name, unreachable=_UNREACHABLE):
            present = _find_repository(hub, name)
            is_same = present is not None and _is_same(hub, name, present, staged, beside=Path(beside), replace=replace)
            if private and present is not None and not present.private:
                raise HubError(f"{name}: the repository is public; make it private on its page first: {name.page}.")
            commit = str(present.sha) if present is not None and is_same else ""
            if not commit:
                commit = _upload(hub, name, present, staged, private=private)
        files = tuple(sorted(path.name for path in staged.iterdir()))
    pinned = HubName(name.repository, commit)
    return PublishedBundle(str(pinned), pinned.page, stated, files, not is_same, WEIGHTS_FILE in files)


def _choose_licence(metadata: dict[str, Any], *, folder: Path, given: str | None) -> str:
    """Return the licence of the weights.

    Raises:
        BundleError: If it is unknown, or not the one that is given.
    """
    stated = metadata.get("licence")
    if stated is None and given is None:
        raise BundleError(
            f"{folder}: states no licence of its weights; give it by --licence, such as CC-BY-NC-4.0: the terms of the "
            "radiographs that they were trained on decide."
        )
    if stated is not None and given not in (None, stated):
        raise BundleError(f"{folder}: its weights have the licence {stated}. Received: {given}; leave --licence out.")
    licence = str(given if stated is None else stated)
    if not licence.strip() or not licence.isprintable() or len(licence) > _MAX_LICENCE:
        raise BundleError(f"{folder}: a licence is a name of 1 to {_MAX_LICENCE} characters. Received: {licence!r}.")
    return licence


def _stage(folder: Path, metadata: dict[str, Any], staged: Path) -> dict[str, Any]:
    """Write the files that are published, and return their metadata.

    Raises:
        BundleError: If one is missing or damaged, or there are others than those of a bundle.
    """
    for file in metadata["sha256"]:
        if file not in (KERAS_FILE, *MAX_BYTES):
            raise BundleError(f"{folder}: {METADATA_FILE} names {file}, which is no file of a bundle.")
        path = check_model(folder, metadata, file)
        if file != KERAS_FILE:
            shutil.copyfile(path, staged / file)
    if KERAS_FILE in metadata["sha256"] and WEIGHTS_FILE not in metadata["sha256"]:
        from boneage.bundles.save import convert_to_weights

        convert_to_weights(folder, staged / WEIGHTS_FILE)
    for path in staged.iterdir():
        if (size := path.stat().st_size) > MAX_BYTES[path.name]:
            raise BundleError(f"{folder}: {path.name} has {size:,} bytes (limit {MAX_BYTES[path.name]:,}).")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(staged.iterdir())}
    described: dict[str, Any] = redact_paths({**metadata, "sha256": digests})
    write_json(staged / METADATA_FILE, {**described, "metadata_digest": metadata_digest(described)})
    return described


def _find_repository(hub: "HfApi", name: HubName) -> "ModelInfo | None":
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return hub.model_info(name.repository, revision=MAIN)
    except RepositoryNotFoundError:
        return None


def _is_same(hub: "HfApi", name: HubName, present: "ModelInfo", staged: Path, *, beside: Path, replace: bool) -> bool:
    """Return whether the repository holds this bundle with this card already.

    Raises:
        HubError: If it holds another bundle that is not to be replaced.
    """
    files = {file.rfilename for file in present.siblings or []}
    same = {
        file: file in files
        and Path(hub.hf_hub_download(name.repository, file, revision=present.sha, local_dir=beside)).read_bytes()
        == (staged / file).read_bytes()
        for file in (METADATA_FILE, CARD_FILE)
    }
    if not same[METADATA_FILE] and files & {METADATA_FILE, ONNX_FILE} and not replace:
        raise HubError(f"{name}: the repository holds another bundle; choose another name, or replace it by --replace.")
    return all(same.values())


def _upload(hub: "HfApi", name: HubName, present: "ModelInfo | None", staged: Path, *, private: bool) -> str:
    """Upload the files in one commit, which takes files of another bundle away; returns the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if present is None:
        hub.create_repo(name.repository, private=private)
    files = {path.name: path for path in sorted(staged.iterdir())}
    old = {file.rfilename for file in (present.siblings or [])} if present is not None else set()
    info = hub.create_commit(
        name.repository,
        [
            *(CommitOperationAdd(path_in_repo=file, path_or_fileobj=path) for file, path in files.items()),
            *(CommitOperationDelete(path_in_repo=file) for file in sorted((old & MAX_BYTES.keys()) - files.keys())),
        ],
        commit_message="Publish a bundle by boneage",
        # Whoever has published something else in the meantime is not overwritten.
        parent_commit=None if present is None else present.sha,
    )
    return str(info.oid)
