"""Ensembles: several bundles as one, which answers with their mean."""

from collections.abc import Sequence
from pathlib import Path

from boneage.bundle import BundleError, read_metadata
from boneage.saving import join_networks, load_network, save_bundle
from boneage.views import VIEWS
from tfrecords.errors import check_choice

# What the members must have in common to be shown the same image and asked the same question.
_COMMON = ("task", "fingerprint", "input_size", "use_sex", "views")


def ensemble(bundles: Sequence[str | Path], *, out: str | Path, views: str | None = None) -> Path:
    """Join bundles into one network that answers with the mean of theirs, and save it as a bundle.

    Args:
        bundles: At least two bundles, trained on the same preprocessing at the same input size.
        out: Folder of the new bundle.
        views: How the new bundle looks at each radiograph, a key of `boneage.views.VIEWS`; as the others do without it.

    Returns:
        That folder.

    Raises:
        BundleError: If there are fewer than two, they differ in what must be equal, or one is calibrated.
        ValueError: If `views` is unknown.
    """
    if views is not None:
        check_choice("views", views, tuple(VIEWS))
    if len(bundles) < 2:
        raise BundleError(f"an ensemble needs at least two bundles. Received: {len(bundles)}.")
    described = [read_metadata(folder) for folder in bundles]
    for folder, metadata in zip(bundles, described, strict=True):
        for name in _COMMON:
            if metadata[name] != described[0][name]:
                raise BundleError(
                    f"{folder}: `{name}` is {metadata[name]!r}, that of {bundles[0]} {described[0][name]!r}; "
                    "only bundles that see the same can be joined."
                )
        if "calibration" in metadata:
            raise BundleError(f"{folder}: is calibrated; join the bundles first, then calibrate what comes of it.")
    model = join_networks([load_network(folder) for folder in bundles])
    metadata = {name: value for name, value in described[0].items() if name not in ("validation_error", "interval")}
    members = [{"network": each["network"], "sha256": each["sha256"]} for each in described]
    changes = {"network": "ensemble", "members": members, **({} if views is None else {"views": views})}
    return save_bundle(out, model, {**metadata, **changes})
