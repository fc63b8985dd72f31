"""Networks that read bone age from a radiograph and the sex."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boneage.models.build import build_model, build_network
    from boneage.models.networks import NETWORKS
    from boneage.models.pretrained import WeightsUnavailable

__all__ = ["NETWORKS", "WeightsUnavailable", "build_model", "build_network"]

_MODULES = {
    "NETWORKS": "networks",
    "WeightsUnavailable": "pretrained",
    "build_model": "build",
    "build_network": "build",
}


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is first used, so that keras loads only where a model is needed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
