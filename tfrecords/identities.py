"""Read who the records of a split are, without their images: id, patient, hash of the pixels, and both ages."""

from pathlib import Path

import pandas as pd

from boneage.tfrecords.framing import DamagedShardError, read_frames
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tfrecords.schema import SchemaError, decode, group_key

COLUMNS = ("id", "group", "pixel_sha256", "bone_age_months", "chronological_age_months")


def read_identities(folder: str | Path, *, split: str) -> pd.DataFrame:
    """Read the identities of the records of a split.

    Args:
        folder: The record folder.
        split: `"train"`, `"validation"` or `"test"`.

    Returns:
        Columns `id`, `group` (equal for radiographs of one patient), `pixel_sha256`, and `bone_age_months` and
        `chronological_age_months`, NaN where missing, sorted by id.

    Raises:
        RecordsError: If the folder or the split is missing or a shard is damaged.
    """
    described = split_info(read_info(folder), split, folder=folder)
    rows = []
    try:
        for shard in described["shards"]:
            for data in read_frames(Path(folder) / shard["file"]):
                record = decode(data)
                ages = (record.bone_age_months, record.chronological_age_months)
                rows.append((record.id, group_key(record.id, record.group), record.pixel_sha256, *ages))
    except (DamagedShardError, SchemaError, FileNotFoundError) as error:
        raise RecordsError(
            f"{folder}: a shard is damaged or missing; run `boneage records {folder} --verify` to find it."
        ) from error
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[3:], float))
    return frame.sort_values("id", ignore_index=True)
