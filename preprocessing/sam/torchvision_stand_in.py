"""Replacements for the four functions of torchvision that segment-anything imports, used if torchvision is absent.

The CPU builds of torch come without a matching torchvision.
"""

import importlib.util
import sys
import types
from typing import Any

import numpy as np
import torch
from PIL import Image


def resize(image: Image.Image | torch.Tensor, size: list[int] | tuple[int, int]) -> Image.Image | torch.Tensor:
    """Resize to `(height, width)`, bilinear and antialiased, as `torchvision.transforms.functional.resize`."""
    height, width = size
    if isinstance(image, Image.Image):
        return image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.nn.functional.interpolate(
        image.float(), (height, width), mode="bilinear", align_corners=False, antialias=True
    ).to(image.dtype)


def to_pil_image(pixels: np.ndarray) -> Image.Image:
    """Convert `(height, width, 3)`, uint8, to an image, as `torchvision.transforms.functional.to_pil_image`."""
    return Image.fromarray(pixels)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas of boxes `(left, top, right, bottom)`, as `torchvision.ops.boxes.box_area`."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, categories: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Keep the best of overlapping boxes of a category, best first, as `torchvision.ops.boxes.batched_nms`."""
    kept: list[int] = []
    areas = box_area(boxes)
    for index in scores.argsort(descending=True, stable=True).tolist():
        rivals = torch.tensor([other for other in kept if categories[other] == categories[index]], dtype=torch.long)
        low = torch.maximum(boxes[rivals, :2], boxes[index, :2])
        high = torch.minimum(boxes[rivals, 2:], boxes[index, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        if not bool((shared / (areas[rivals] + areas[index] - shared) > iou_threshold).any()):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def install() -> None:
    """Register the replacements as torchvision, unless it is installed."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return
    contents: dict[str, dict[str, Any]] = {
        "torchvision": {},
        "torchvision.ops": {},
        "torchvision.ops.boxes": {"batched_nms": batched_nms, "box_area": box_area},
        "torchvision.transforms": {},
        "torchvision.transforms.functional": {"resize": resize, "to_pil_image": to_pil_image},
    }
    for name, members in contents.items():
        module = types.ModuleType(name, "Stand-in for torchvision: what segment-anything imports.")
        module.__dict__.update(members)
        sys.modules[name] = module
