"""Download bundles from the Hugging Face hub, with a cache in which a commit is found without the network."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from boneage.base.files import cache_folder
from boneage.base.json_files import read_json
from boneage.registry.digest import metadata_digest
from boneage.registry.hub import MAIN, HubError, HubName, convert_hub_errors, is_commit, open_hub, parse_hub_name
from boneage.registry.settings import METADATA_FILE

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

# All that is downloaded: none of it can hold code. The largest networks of this field have a tenth of a gigabyte.
MAX_BYTES: Mapping[str, int] = {
    METADATA_FILE: 2**22,
    "README.md": 2**22,
    "model.onnx": 2**30,
    "seen.npz": 2**28,
    "weights.npz": 2**30,
}
_REQUIRED = (METADATA_FILE, "model.onnx")

_log = logging.getLogger("boneage.hub")


def fetch_from_hub(name: str) -> Path:
    """Download a bundle from the hub; a commit that is in the cache needs no network.

    A branch or a tag is looked up each time, and a line of the log names its commit. Only the files of a bundle are
    downloaded, whatever else the repository holds, and they are checked before they are moved into the cache.

    Args:
        name: `hf://owner/name@revision`; the revision is a branch, a tag or a full commit (default: `main`).

    Returns:
        The bundle, below `$BONEAGE_HOME` or `~/.cache/boneage`; its folder is `name@commit`.

    Raises:
        HubError: If the hub cannot be reached, has no such bundle, or the bundle is incomplete, too large or changed.
    """
    asked = parse_hub_name(name)
    if asked.is_pinned and (kept := _find_place(asked)).exists():
        return kept
    hub = open_hub()
    with convert_hub_errors(asked, unreachable=_explain_offline(asked)):
        info = hub.model_info(asked.repository, revision=asked.revision or MAIN, files_metadata=True)
    commit = info.sha or ""
    if not is_commit(commit) or (asked.is_pinned and commit != asked.revision):
        raise HubError(f"{asked}: the hub answers with the commit {commit[:40]!r} instead.")
    pinned = HubName(asked.repository, commit)
    kept = _find_place(pinned)
    if not kept.exists():
        names = _choose_files(info.siblings or [], name=pinned)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as beside:
            folder = _download(hub, pinned, names, beside=Path(beside))
            try:
                os.replace(folder, kept)
            except OSError:
                if not kept.exists():  # otherwise another process has just downloaded the same
                    raise
    if not asked.is_pinned:
        _log.warning("%s is %s; give this name to use the same again, also offline", asked, pinned)
    return kept


def _find_place(name: HubName) -> Path:
    """Return the folder of a commit in the cache."""
    owner, _, repository = name.repository.partition("/")
    return cache_folder() / "hub" / owner / f"{repository}@{name.revision}"


def _choose_files(siblings: "list[RepoSibling]", *, name: HubName) -> list[str]:
    """Return the files to download.

    Raises:
        HubError: If the repository lists a file outside itself, lacks a file, or one is too large.
    """
    sizes = {file.rfilename: file.size for file in siblings}
    for path in sizes:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
            raise HubError(f"{name}: lists the file {path!r}, outside the repository; nothing is downloaded.")
    if missing := [file for file in _REQUIRED if file not in sizes]:
        raise HubError(f"{name}: no bundle, there is no {missing[0]}; `boneage publish` writes a complete one.")
    chosen = [file for file in MAX_BYTES if file in sizes]
    for file in chosen:
        if (sizes[file] or 0) > MAX_BYTES[file]:
            raise HubError(f"{name}: {file} has {sizes[file]:,} bytes (limit {MAX_BYTES[file]:,}).")
    return chosen


def _download(hub: "HfApi", name: HubName, files: list[str], *, beside: Path) -> Path:
    """Download files, and check them.

    Returns:
        A folder that holds them alone.

    Raises:
        HubError: If the hub cannot be reached, or the files are not those of the metadata.
    """
    fetched, folder = beside / "fetched", beside / "bundle"
    folder.mkdir()
    for file in files:
        with convert_hub_errors(name, unreachable=_explain_offline(name)):
            hub.hf_hub_download(name.repository, file, revision=name.revision, local_dir=fetched)
        os.replace(fetched / file, folder / file)
        # A file that is renamed before its content is on the disk is empty after a power cut.
        with (folder / file).open("rb+") as written:
            os.fsync(written.fileno())
    _check(folder, files, name=name)
    return folder


def _check(folder: Path, files: list[str], *, name: HubName) -> None:
    """Check the metadata by their digest, and the other files by the metadata.

    Raises:
        HubError: If a file is missing, changed or too large.
    """
    for file in files:
        if (size := (folder / file).stat().st_size) > MAX_BYTES[file]:
            raise HubError(f"{name}: {file} has {size:,} bytes (limit {MAX_BYTES[file]:,}).")
    try:
        metadata = read_json(folder / METADATA_FILE)
    except ValueError as error:
        raise HubError(f"{name}: {METADATA_FILE} is damaged ({error}); nothing is kept of it.") from error
    if metadata.pop("metadata_digest", None) != metadata_digest(metadata):
        raise HubError(f"{name}: {METADATA_FILE} was changed, its digest does not match; nothing is kept of it.")
    digests = metadata.get("sha256")
    if not isinstance(digests, dict) or "model.onnx" not in digests:
        raise HubError(f"{name}: {METADATA_FILE} has no digest of model.onnx; nothing is kept of it.")
    for file, digest in digests.items():
        if file not in files:
            raise HubError(
                f"{name}: {METADATA_FILE} names {file}, which the repository lacks or which is never downloaded; "
                "`boneage publish` writes a complete one."
            )
        if hashlib.sha256((folder / file).read_bytes()).hexdigest() != digest:
            raise HubError(f"{name}: {file} was changed, its SHA-256 is not that of {METADATA_FILE}; nothing is kept.")
    for file in set(files) - {METADATA_FILE, "README.md"} - digests.keys():
        (folder / file).unlink()  # nothing states what it should be


def _explain_offline(name: HubName) -> str:
    """Say what to do without the network."""
    kept = _find_place(HubName(name.repository, "*"))
    found = sorted(kept.parent.glob(kept.name), key=lambda folder: folder.stat().st_mtime)
    cached = HubName(name.repository, found[-1].name.rpartition("@")[2]) if found else None
    files = ", ".join(file for file in MAX_BYTES if file != "README.md")
    return (
        (f"offline, give {cached}, which is in the cache, or " if cached else "")
        + f"download the files {files}, as far as they are there, from {name.page} into one folder elsewhere, and give "
        "that folder for the bundle"
    )
