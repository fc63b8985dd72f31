"""Ensembles: several bundles combined into one that predicts their mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boneage.base.errors import check_choice
from boneage.base.files import check_output
from boneage.base.locks import lock_output
from boneage.bundles.bundle import BundleError, read_metadata
from boneage.bundles.save import average_networks, list_members, load_network, save_bundle
from boneage.bundles.seen import join_seen, list_seen, read_seen
from boneage.configuration.training import TTA_TRANSFORMS
from boneage.registry.resolve import resolve_bundle

# Metadata that must be equal for all members.
_COMMON = ("task", "fingerprint", "use_sex", "chronological_age", "tta")


def ensemble(bundles: Sequence[str | Path], *, out: str | Path, tta: str | None = None) -> Path:
    """Combine bundles into one network that predicts their mean, and save it as a bundle.

    Args:
        bundles: At least two bundles with the same task, preprocessing and use of sex and chronological age. Their
            input sizes may differ: the largest is that of the new bundle, which shrinks the image for the others. Of
            an ensemble each member counts as one.
        out: Folder of the new bundle.
        tta: Test-time augmentation of the new bundle, a key of `boneage.configuration.training.TTA_TRANSFORMS`
            (default: that of the bundles).

    Returns:
        The folder `out`.

    Raises:
        BundleError: If there are fewer than two bundles, they do not match, or one is calibrated.
        NotADirectoryError: If `out` is a file.
        OutputInUseError: If another process writes the folder.
        ValueError: If `tta` is unknown.
    """
    if tta is not None:
        check_choice("tta", tta, tuple(TTA_TRANSFORMS))
    if len(bundles) < 2:
        raise BundleError(f"an ensemble needs at least two bundles. Received: {len(bundles)}.")
    bundles = [resolve_bundle(bundle) for bundle in bundles]
    described = [read_metadata(folder) for folder in bundles]
    for folder, metadata in zip(bundles, described, strict=True):
        for name in _COMMON:
            mine, first = ({"chronological_age": "none", **bundle}[name] for bundle in (metadata, described[0]))
            if mine != first:
                raise BundleError(
                    f"{folder}: `{name}` is {mine!r}, that of {bundles[0]} is {first!r}; "
                    f"all bundles of an ensemble need the same `{name}`."
                )
        if "calibration" in metadata:
            raise BundleError(
                f"{folder}: is calibrated; build the ensemble from uncalibrated bundles and calibrate the result."
            )
    check_output(Path(out), is_folder=True)
    with lock_output(Path(out)):  # Before the networks are loaded, which takes a while.
        loaded = zip(map(load_network, bundles), described, strict=True)
        networks = [member for network, metadata in loaded for member in list_members(network, metadata)]
        model = average_networks(networks)
        own = ("validation_error", "interval", "interval_without_age")
        metadata = {name: value for name, value in described[0].items() if name not in own}
        entries = [entry for member in described for entry in list_seen(member)]
        metadata["seen_data"] = [entry for number, entry in enumerate(entries) if entry not in entries[:number]]
        if licences := sorted({member["licence"] for member in described if member.get("licence")}):
            metadata["licence"] = " AND ".join(licences)
        seen = join_seen([read_seen(folder, member) for folder, member in zip(bundles, described, strict=True)])
        changes = {
            "network": "ensemble",
            "members": [member for metadata in described for member in _describe_members(metadata)],
            "input_size": max(metadata["input_size"] for metadata in described),
            **({} if tta is None else {"tta": tta}),
        }
        return save_bundle(out, model, {**metadata, **changes}, seen=seen)


def _describe_members(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe a network, or each that an ensemble averages."""
    own = {name: metadata[name] for name in ("network", "sha256", "input_size")}
    return [{"input_size": metadata["input_size"], **member} for member in metadata.get("members", (own,))]
