"""Read who the records of a split are, without their images: id, patient, and hash of the pixels."""

from pathlib import Path

import pandas as pd

from boneage.tfrecords.framing import DamagedShardError, read_frames
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tfrecords.schema import SchemaError, decode, group_key

COLUMNS = ("id", "group", "pixel_sha256")


def read_identities(folder: str | Path, *, split: str) -> pd.DataFrame:
    """Read the identities of the records of a split.

    Args:
        folder: The record folder.
        split: `"train"`, `"validation"` or `"test"`.

    Returns:
        Columns `id`, `group` (equal for radiographs of one patient) and `pixel_sha256`, sorted by id.

    Raises:
        RecordsError: If the folder or the split is missing or a shard is damaged.
    """
    described = split_info(read_info(folder), split, folder=folder)
    rows = []
    try:
        for shard in described["shards"]:
            for data in read_frames(Path(folder) / shard["file"]):
                record = decode(data)
                rows.append((record.id, group_key(record.id, record.group), record.pixel_sha256))
    except (DamagedShardError, SchemaError, FileNotFoundError) as error:
        raise RecordsError(
            f"{folder}: a shard is damaged or missing; run `boneage records {folder} --verify` to find it."
        ) from error
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("id", ignore_index=True)
