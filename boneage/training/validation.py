"""The radiographs that a training uses: one half of the validation split chooses the epoch, one sets the interval."""

import dataclasses
from pathlib import Path
from typing import Any

from boneage.bundles.bundle import read_metadata
from boneage.bundles.seen import Hashes, describe_seen, hash_radiographs, join_seen, list_seen, read_seen
from boneage.evaluation.bootstrap import split_by_group
from boneage.evaluation.conformal import least_groups
from boneage.registry.resolve import names_bundle, resolve_bundle
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import read_info

# The same for every training on the same records, so that an ensemble of them has a half that chose no epoch of any.
_SEED = 0


@dataclasses.dataclass(frozen=True)
class UsedRadiographs:
    """The radiographs that a training uses.

    Args:
        choosing: Ids of the validation radiographs that choose the epoch.
        held_back: Ids of those that set the prediction interval; empty where they are of too few patients.
        entries: `seen_data` of the bundle.
        hashes: Hashes of all radiographs, by use.
    """

    choosing: list[str]
    held_back: list[str]
    entries: list[dict[str, Any]]
    hashes: dict[str, Hashes]


def list_used_radiographs(data: str | Path, *, task: str, init: str) -> UsedRadiographs:
    """Divide the validation split by patient, and describe all radiographs that a training uses.

    The errors on radiographs that chose the epoch are smaller than on new ones, so that no interval may be set by them:
    one half of the patients chooses the epoch, the other sets the interval. A half of too few patients for an interval
    goes to the other: all radiographs then choose the epoch.

    Args:
        data: The record folder.
        task: Task of the network; the classification of the sex has no interval.
        init: The initial weights; what a bundle has seen, the network that starts from it has seen too.

    Raises:
        RecordsError: If a split is missing or damaged.
        BundleError: If the bundle that `init` names is damaged.
    """
    info = read_info(data)
    validation = read_identities(data, split="validation")
    halves = split_by_group(validation["group"].to_numpy(), num_folds=2, seed=_SEED)
    is_enough = task == "age" and validation["group"][halves == 1].nunique() >= least_groups()
    is_held_back = (halves == 1) & is_enough
    used = {
        "training": ("train", read_identities(data, split="train")),
        "selection": ("validation", validation[~is_held_back]),
        "interval": ("validation", validation[is_held_back]),
    }
    entries, parts = _list_inherited(init)
    for use, (split, rows) in used.items():
        if len(rows):
            entries.append(describe_seen(use, info=info, split=split, num_images=len(rows)))
            parts.append({use: hash_radiographs(rows["pixel_sha256"])})
    choosing, held_back = (used[use][1]["id"].tolist() for use in ("selection", "interval"))
    return UsedRadiographs(choosing, held_back, entries, join_seen(parts))


def _list_inherited(init: str) -> tuple[list[dict[str, Any]], list[dict[str, Hashes]]]:
    """Return what the bundle of the initial weights has seen; none for other weights."""
    if not names_bundle(init):
        return [], []
    bundle = resolve_bundle(init)
    metadata = read_metadata(bundle)
    # Radiographs that only set the interval left nothing in the weights.
    entries = [{**entry, "use": "training"} for entry in list_seen(metadata) if entry["use"] != "interval"]
    return entries, [{"training": hashes} for use, hashes in read_seen(bundle, metadata).items() if use != "interval"]
