"""The official Segment Anything checkpoints: names, checksums, download and cache."""

import dataclasses
import functools
import hashlib
import logging
from pathlib import Path

from boneage.base.errors import BoneAgeError, check_choice
from boneage.base.files import cache_folder


class CheckpointUnavailableError(BoneAgeError):
    """A checkpoint is missing, damaged, of another model, or could not be downloaded."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An official checkpoint.

    Args:
        file: File name; it contains the first digits of the MD5.
        sha256: SHA-256, 64 hexadecimal digits.
        size_mb: Size in megabytes.
    """

    file: str
    sha256: str
    size_mb: int

    @property
    def url(self) -> str:
        """Address that it is downloaded from."""
        return f"https://dl.fbaipublicfiles.com/segment_anything/{self.file}"


# Kirillov et al. 2023, arXiv:2304.02643; files as listed at https://github.com/facebookresearch/segment-anything.
CHECKPOINTS = {
    "vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375
    ),
    "vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1250
    ),
    "vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2565
    ),
}


def find_checkpoint(model: str, *, checkpoint: str = "") -> Path:
    """Find the checkpoint of a model; the official one is downloaded once.

    Args:
        model: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        checkpoint: Path of a checkpoint of that model, or the name of one in the cache folder (default: the official
            one).

    Raises:
        ValueError: If there is no model of that name.
        CheckpointUnavailableError: If the file is missing and cannot be downloaded, or its checksum differs.
    """
    check_choice("sam_model", model, CHECKPOINTS)
    if checkpoint:
        # A bundle of another machine names a path there; its file name is looked up in the cache folder.
        for path in (Path(checkpoint).expanduser(), cache_folder() / Path(checkpoint).name):
            if path.is_file():
                return path
        raise CheckpointUnavailableError(
            f"{checkpoint}: checkpoint not found; give its path with --sam-checkpoint, or put it into {cache_folder()}."
        )
    official = CHECKPOINTS[model]
    path = cache_folder() / official.file
    if not path.is_file():
        _download(official, path)
    elif (found := hash_file(path)) != official.sha256:
        raise CheckpointUnavailableError(
            f"{path}: damaged or not the official checkpoint (SHA-256 {found}, not {official.sha256}); remove it to "
            "download it again, or use your own with --sam-checkpoint."
        )
    return path


@functools.cache
def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file that does not change while this process runs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(official: Checkpoint, path: Path) -> None:
    # Imported here: only downloads need it.
    import pooch

    # The progress bar shows the download; a log message is not needed.
    pooch.get_logger().setLevel(logging.ERROR)
    try:
        pooch.retrieve(
            official.url,
            known_hash=f"sha256:{official.sha256}",
            fname=official.file,
            path=path.parent,
            downloader=pooch.HTTPDownloader(progressbar=True),
        )
    except (OSError, ValueError) as error:
        # The errors of requests are OSErrors; a checksum that differs is a ValueError.
        raise CheckpointUnavailableError(
            f"{official.file} could not be downloaded ({error}); download {official.url} ({official.size_mb:,} MB, "
            f"SHA-256 {official.sha256}) and put it into {path.parent}, or give its path with --sam-checkpoint."
        ) from error
