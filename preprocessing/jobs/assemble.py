"""The last step of a preparation: finished shards become the splits of a record folder, with its metadata."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boneage.base.errors import printable
from boneage.base.json_files import read_own_json
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.jobs.contact_sheets import write_contact_sheets
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.sources.splits import assign_splits, shuffle_key
from boneage.tfrecords.framing import read_frame_at
from boneage.tfrecords.schema import SCHEMA_VERSION, SPLITS, decode, encode
from boneage.tfrecords.writer import (
    REJECTED_FILE,
    REVIEW_FOLDER,
    data_digest,
    describe_ages,
    describe_readers,
    write_features,
    write_rejected,
    write_split,
)

# (shard file, offset, group) of a finished record.
Handle = tuple[Path, int, int]


def assemble(
    folder: Path,
    manifests: Sequence[Path],
    cases: Sequence[Case],
    rejected: list[dict[str, str]],
    *,
    config: PreprocessingConfig,
    split: str,
    seed: int,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Divide finished shards into splits and write the record folder.

    Args:
        folder: Where to write; it must not exist yet.
        manifests: Manifests of the finished shards, beside their records.
        cases: All cases of the job.
        rejected: Rows that were rejected before any file was read.
        config: The preprocessing of the shards.
        split: `"given"` or `"random"`.
        seed: Seed of the random split and of the order of the records.

    Returns:
        The content of `dataset_info.json` and all rejected rows, both as written.
    """
    places: dict[str, tuple[Path, int]] = {}
    hashes: dict[str, str] = {}
    rejected = list(rejected)
    for manifest in manifests:
        finished = read_own_json(
            manifest, fields={"index": list, "rejected": list}, fix="remove it and run the same command again"
        )
        rejected += finished["rejected"]
        for entry in finished["index"]:
            places[entry["id"]] = (manifest.with_suffix(".tfrecord"), entry["offset"])
            hashes[entry["id"]] = entry["pixel_sha256"]
    known = {case.id: case for case in cases if case.id in places}
    assignment = assign_splits(list(known.values()), hashes, split=split, seed=seed)
    for item in assignment.rejections:
        rejected.append({**dataclasses.asdict(item), "file": printable(known[item.id].name)})
    rejected.sort(key=lambda row: (row["reason"], row["id"], row["file"]))

    folder.mkdir()
    splits = {}
    for name in SPLITS:
        ids = sorted(
            (id for id, assigned in assignment.splits.items() if assigned == name),
            key=lambda id: shuffle_key(id, seed=seed),
        )
        if ids:
            groups = assignment.groups
            shards = write_split(folder, name, [(*places[id], groups[id]) for id in ids], load=_load)
            num_groups = len({groups[id] for id in ids})
            splits[name] = {**_describe([known[id] for id in ids]), "num_groups": num_groups, "shards": shards}
    info = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint(config),
        "preprocessing": dataclasses.asdict(config),
        "split": split,
        "seed": seed,
        "splits": splits,
        "digest": data_digest(splits),
        "duplicates": assignment.duplicates,
        "num_rejected": len(rejected),
    }
    write_features(folder)
    write_contact_sheets(folder / REVIEW_FOLDER, [manifest.with_suffix(".tiles") for manifest in manifests])
    write_rejected(folder / REJECTED_FILE, rejected)
    return info, rejected


def _load(handle: Handle) -> bytes:
    """Load a finished record, and give it the group that is known only now that all pixels have been compared."""
    path, offset, group = handle
    with path.open("rb") as file:
        record = decode(read_frame_at(file, offset))
    return encode(dataclasses.replace(record, group=group))


def _describe(cases: Sequence[Case]) -> dict[str, Any]:
    labelled = [case for case in cases if case.bone_age_months is not None]
    ages = [case.bone_age_months for case in labelled if case.bone_age_months is not None]
    readers = describe_readers([(case.num_readers, case.reader_sd_months) for case in labelled])
    return {"num_records": len(cases), **describe_ages(ages), **readers}
