"""A Keras network in PyTorch: the same outputs from the same weights, with conversion in both directions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# Axes of a Keras kernel in torch's order: (row, column, in, out) becomes (out, in, row, column), and a depthwise kernel
# (row, column, channel, 1) becomes (channel, 1, row, column).
_CONVOLUTION_AXES, _DEPTHWISE_AXES, _DENSE_AXES = (3, 2, 0, 1), (2, 3, 0, 1), (1, 0)


class TorchNetwork(nn.Module):
    """A functional Keras model in PyTorch.

    Args:
        layers: The layers in order of computation, with `name`, Keras class (`kind`), names of the `inputs`, and
            `options`.
        weights: Keras weights by `<layer>/<weight>`.

    Input shape:
        `image`: `(batch, 1, height, width)`, float32 in [0, 1]; `male`: `(batch, 1)`, float32.

    Output shape:
        Output of the last layer, float32; the logit if its activation is a sigmoid.
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]], weights: Mapping[str, np.ndarray]):
        super().__init__()
        self.layers, self.trained = layers, nn.ParameterDict()
        kinds = {layer["name"]: layer["kind"] for layer in layers}
        self._axes: dict[str, tuple[int, ...]] = {}
        for name, array in weights.items():
            axes = tuple(range(array.ndim))
            if array.ndim == 4:
                axes = _DEPTHWISE_AXES if kinds[name.rpartition("/")[0]] == "DepthwiseConv2D" else _CONVOLUTION_AXES
            elif array.ndim == 2:
                axes = _DENSE_AXES
            self._axes[name] = axes
            tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(axes), np.float32))
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            if name.endswith(("/moving_mean", "/moving_variance")):
                self.register_buffer(_key(name), tensor)
            else:
                self.trained[_key(name)] = nn.Parameter(tensor)

    def to_keras(self) -> dict[str, np.ndarray]:
        """Return the weights in Keras's layout."""
        found = {**dict(self.named_buffers()), **dict(self.trained.items())}
        return {
            name: np.ascontiguousarray(found[_key(name)].detach().cpu().numpy().transpose(np.argsort(axes)))
            for name, axes in self._axes.items()
        }

    def forward(self, image: torch.Tensor, male: torch.Tensor) -> torch.Tensor:
        """Compute the output."""
        values = {"image": image.contiguous(memory_format=torch.channels_last), "male": male}
        for layer in self.layers:
            values[layer["name"]] = self._compute(layer, [values[name] for name in layer["inputs"]])
        return values[self.layers[-1]["name"]].float()

    def _compute(self, layer: Mapping[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
        options, x = layer["options"], inputs[0]
        match layer["kind"]:
            case "Conv2D" | "DepthwiseConv2D":
                return self._convolve(layer, x)
            case "BatchNormalization":
                return self._normalize(layer, x)
            case "Dense":
                with torch.autocast(x.device.type, enabled=False):  # bfloat16 is too coarse for months
                    x = functional.linear(x.float(), self._weight(layer, "kernel"), self._weight(layer, "bias"))
                # A final sigmoid is part of the loss.
                return functional.relu(x) if options["activation"] == "relu" else x
            case "ReLU":
                return functional.hardtanh(x, 0.0, options["max_value"])
            case "Rescaling":
                return x.float() * options["scale"] + options["offset"]
            case "Dropout":
                return functional.dropout(x, options["rate"], self.training)
            case "GlobalAveragePooling2D":
                return x.mean(dim=(2, 3))
            case "Concatenate":
                return torch.cat(inputs, dim=1)
            case "Add":
                return inputs[0] + inputs[1]
        raise ValueError(f"{layer['name']}: layers of class {layer['kind']} are not supported.")

    def _weight(self, layer: Mapping[str, Any], name: str) -> torch.Tensor:
        return self.trained[_key(f"{layer['name']}/{name}")]

    def _convolve(self, layer: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
        stride, side = layer["options"]["strides"][0], x.shape[2]
        groups = x.shape[1] if layer["kind"] == "DepthwiseConv2D" else 1
        # TensorFlow's padding "same": an odd amount of padding is one larger at the end.
        missing = max((math.ceil(side / stride) - 1) * stride + layer["options"]["kernel_size"][0] - side, 0)
        if missing % 2:
            x, missing = functional.pad(x, [missing // 2, missing - missing // 2] * 2), 0
        return functional.conv2d(x, self._weight(layer, "kernel"), stride=stride, padding=missing // 2, groups=groups)

    def _normalize(self, layer: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
        mean, variance = (
            getattr(self, _key(f"{layer['name']}/moving_{statistic}")) for statistic in ("mean", "variance")
        )
        return functional.batch_norm(
            x,
            mean,
            variance,
            self._weight(layer, "gamma"),
            self._weight(layer, "beta"),
            training=self.training,
            momentum=1 - layer["options"]["momentum"],
            eps=layer["options"]["epsilon"],
        )


def _key(name: str) -> str:
    """Return a name that torch accepts for a parameter."""
    return name.replace("/", "|")
