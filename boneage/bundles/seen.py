"""What a bundle has seen: the radiographs that it was trained on, and those that chose its epoch or set its numbers.

The metadata name them by record folder and split, under `seen_data`. The file `seen.npz` has a hash of each of them, by
which they are found in other record folders too.
"""

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from boneage.bundles.bundle import SEEN_FILE, check_model

Hashes = UInt64[np.ndarray, " radiographs"]

USES = {
    "training": "trained the network",
    "selection": "chose its epoch",
    "calibration": "set its calibration",
    "interval": "set its prediction interval",
}
"""How a bundle uses radiographs, and the words for it."""


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Radiographs that a bundle has seen.

    Attributes:
        use: A key of `USES`.
        num_images: Their number.
        split: Their split in the records at hand; empty for files.
    """

    use: str
    num_images: int
    split: str

    def __str__(self) -> str:
        of_split = f" of the split {self.split!r}" if self.split else ""
        return f"{self.num_images:,} radiographs{of_split} {USES[self.use]}"


def hash_radiographs(pixel_sha256: Iterable[str]) -> Hashes:
    """Return short hashes of radiographs, sorted: half a million of them have one in a hundred million in common.

    Args:
        pixel_sha256: Hashes of their pixels, as in the records.
    """
    digests = (hashlib.sha256(text.encode()).digest()[:8] for text in pixel_sha256)
    return np.unique(np.array([int.from_bytes(digest) for digest in digests], np.uint64))


def describe_seen(use: str, *, info: Mapping[str, Any], split: str, num_images: int) -> dict[str, Any]:
    """Return an entry of `seen_data`.

    Args:
        use: A key of `USES`.
        info: `dataset_info.json` of the record folder.
        split: The split.
        num_images: Number of its radiographs that are used so.
    """
    return {"use": use, "digest": info["digest"], "split": split, "num_images": num_images}


def list_seen(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of `seen_data`; for bundles made before there were any, what their other metadata tell."""
    if "seen_data" in metadata:
        return list(metadata["seen_data"])
    trained = metadata.get("training_data", {}).get("digest")
    digests = [digest for digest in (trained, metadata.get("carried_over_to")) if digest]
    entries = [
        {"use": use, "digest": digest, "split": split}
        for digest in digests
        for use, split in (("training", "train"), ("selection", "validation"))
    ]
    if calibrated := metadata.get("calibration_data", {}).get("digest"):
        entries.append({"use": "calibration", "digest": calibrated})
    return entries


def read_seen(folder: str | Path, metadata: Mapping[str, Any]) -> dict[str, Hashes]:
    """Read the hashes of the radiographs that a bundle has seen, by use; empty for a bundle without.

    Raises:
        BundleError: If the file is missing or changed.
    """
    if SEEN_FILE not in metadata.get("sha256", {}):
        return {}
    with np.load(check_model(Path(folder), dict(metadata), SEEN_FILE), allow_pickle=False) as stored:
        return {use: stored[use] for use in stored.files}


def join_seen(parts: Sequence[Mapping[str, Hashes]]) -> dict[str, Hashes]:
    """Join the hashes of several bundles, or of a bundle and of what is added to it."""
    uses = [use for use in USES if any(use in part for part in parts)]
    return {use: np.unique(np.concatenate([part[use] for part in parts if use in part])) for use in uses}


def encode_seen(seen: Mapping[str, Hashes]) -> bytes:
    """Return the content of `seen.npz`."""
    file = io.BytesIO()
    arrays: dict[str, Any] = dict(seen)
    np.savez(file, **arrays)
    return file.getvalue()


def find_overlap(
    metadata: Mapping[str, Any], seen: Mapping[str, Hashes], *, digest: str, split: str, hashes: Hashes
) -> list[Overlap]:
    """Find which radiographs of a split a bundle has seen.

    Args:
        metadata: The metadata of the bundle.
        seen: From `read_seen`.
        digest: Digest of the record folder.
        split: The split.
        hashes: Hashes of its radiographs.

    Returns:
        One entry for each use of any of them.
    """
    counts = {use: int(np.isin(hashes, known).sum()) for use, known in seen.items()}
    for entry in list_seen(metadata):
        if entry["digest"] == digest and entry.get("split", split) == split:
            # Bundles without hashes know the split alone.
            num_images = min(entry.get("num_images", len(hashes)), len(hashes))
            counts[entry["use"]] = max(counts.get(entry["use"], 0), num_images)
    return [Overlap(use, counts[use], split) for use in USES if counts.get(use)]
