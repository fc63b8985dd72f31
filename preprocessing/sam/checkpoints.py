"""The official Segment Anything checkpoints: their names, where they lie, and how they get there."""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

from tfrecords.errors import BoneAgeError, check_choice


class CheckpointUnavailable(BoneAgeError):
    """A checkpoint is missing, damaged, of another model, or could not be fetched."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An official checkpoint.

    Args:
        file: Its file name; what looks like a checksum in it is the beginning of its MD5.
        sha256: Its SHA-256, 64 hexadecimal digits.
        size_mb: Its size in megabytes.
    """

    file: str
    sha256: str
    size_mb: int

    @property
    def url(self) -> str:
        """Where it is fetched from."""
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
    """Find the checkpoint of a model; the official one is fetched if it is not there yet.

    Args:
        model: `"vit_b"`, `"vit_l"` or `"vit_h"`.
        checkpoint: Path of a checkpoint of that model, or the name of one in the folder of `home`; the official one
            without it.

    Raises:
        ValueError: If there is no model of that name.
        CheckpointUnavailable: If the file is not there and cannot be fetched, or the official one is not what it
            should be.
    """
    check_choice("sam_model", model, CHECKPOINTS)
    if checkpoint:
        # By its name alone it is found on another machine too, where a bundle asks for it.
        for path in (Path(checkpoint).expanduser(), home() / Path(checkpoint).name):
            if path.is_file():
                return path
        raise CheckpointUnavailable(
            f"{checkpoint}: no such checkpoint; name one by --sam-checkpoint, or put it into {home()}."
        )
    official = CHECKPOINTS[model]
    path = home() / official.file
    if not path.is_file():
        _fetch(official, path)
    elif (found := hash_file(path)) != official.sha256:
        raise CheckpointUnavailable(
            f"{path}: damaged or not the official checkpoint (SHA-256 {found}, not {official.sha256}); remove it to "
            "fetch it again, or name one of your own by --sam-checkpoint."
        )
    return path


def home() -> Path:
    """Return the folder of what is fetched: `$BONEAGE_HOME`, or `~/.cache/boneage` without it."""
    return Path(os.environ.get("BONEAGE_HOME") or "~/.cache/boneage").expanduser()


@functools.cache
def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file that does not change while this process runs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(official: Checkpoint, path: Path) -> None:
    # It checks the hash, writes beside and renames, and draws its own progress bar on standard error.
    from torch.hub import download_url_to_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(official.url, str(path), hash_prefix=official.sha256)
    except (OSError, RuntimeError) as error:
        # No network is an OSError, a hash that differs a RuntimeError.
        raise CheckpointUnavailable(
            f"{official.file} could not be fetched ({error}); download {official.url} ({official.size_mb:,} MB, "
            f"SHA-256 {official.sha256}) and put it into {path.parent}, or name it by --sam-checkpoint."
        ) from error
