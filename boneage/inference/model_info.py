"""What a loaded model is called, and how well it was measured."""

import dataclasses
from typing import Any

from boneage.bundles.bundle import Bundle


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Description of a loaded model.

    Args:
        name: Folder name of the bundle and name of its network.
        digest: First 12 digits of the SHA-256 of the network.
        error_months: Mean absolute error on the validation split, in months; None if the bundle does not record it.
        coverage_share: Measured coverage of the prediction interval on validation, in [0, 1]; None without interval.
        has_sex_network: Whether the sex is predicted from the image.
    """

    name: str
    digest: str
    error_months: float | None
    coverage_share: float | None
    has_sex_network: bool

    @property
    def label(self) -> str:
        """Name and digest."""
        return f"{self.name} {self.digest}"


def describe_model(age_bundle: Bundle, *, has_sex_network: bool) -> ModelInfo:
    """Describe a loaded model by the metadata of its bone-age bundle.

    Args:
        age_bundle: The bone-age bundle.
        has_sex_network: Whether there is a sex bundle beside it.
    """
    metadata: dict[str, Any] = age_bundle.metadata
    interval = metadata.get("interval") or {}
    network = metadata.get("network")
    return ModelInfo(
        name=f"{age_bundle.folder.resolve().name}{f' ({network})' if network else ''}",
        digest=metadata["sha256"]["model.onnx"][:12],
        error_months=metadata.get("validation_error"),
        coverage_share=interval.get("measured_coverage_share"),
        has_sex_network=has_sex_network,
    )
