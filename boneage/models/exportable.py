"""Layers of a backbone that cannot be exported to ONNX, replaced by equal ones that can."""

from typing import Any

import keras

from boneage.models.fused_batch_norm import assign_weights
from boneage.models.head import gelu


@keras.saving.register_keras_serializable(package="boneage")
class ExportableNormalization(keras.layers.Normalization):
    """`keras.layers.Normalization` with mean and variance as arrays, which become constants of a graph.

    Keras holds them in tensors, which tf2onnx takes for further inputs of the network.
    """

    mean: Any
    variance: Any

    def build(self, input_shape: Any) -> None:
        """Create mean and variance."""
        super().build(input_shape)
        self._hold_arrays()

    def finalize_state(self) -> None:
        """Update mean and variance from the weights."""
        super().finalize_state()
        self._hold_arrays()

    def _hold_arrays(self) -> None:
        self.mean, self.variance = map(keras.ops.convert_to_numpy, (self.mean, self.variance))


def make_exportable(backbone: keras.Model) -> keras.Model:
    """Replace the layers that tf2onnx cannot convert; weights keep their order.

    - `Conv2D` with one group per channel, as in ConvNeXt: Keras computes it by XLA on a CPU. `DepthwiseConv2D` is equal
      and faster there; its kernel has the last two dimensions exchanged, of which one is 1.
    - The activation `"gelu"`: Keras computes it by the complementary error function.
    - `Normalization`, see `ExportableNormalization`.

    Args:
        backbone: A functional model.

    Returns:
        A copy, or the same model if it has no such layer.
    """
    if not any(_is_depthwise(layer) or _has_gelu(layer) or _normalises(layer) for layer in backbone.layers):
        return backbone
    replaced = keras.models.clone_model(backbone, clone_function=_replace)
    pairs = zip(backbone.get_weights(), replaced.weights, strict=True)
    assign_weights(replaced, [value.reshape(weight.shape) for value, weight in pairs])
    return replaced


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D) and 1 < layer.groups == layer.filters == layer.input.shape[-1]


def _has_gelu(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "activation", None) is keras.activations.gelu


def _normalises(layer: keras.layers.Layer) -> bool:
    return type(layer) is keras.layers.Normalization


def _replace(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if _is_depthwise(layer):
        for name in ("filters", "groups"):
            del config[name]
        for part in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{part}"] = config.pop(f"kernel_{part}")
        copy = keras.layers.DepthwiseConv2D.from_config(config)
    elif _normalises(layer):
        copy = ExportableNormalization.from_config(config)
    else:
        copy = type(layer).from_config(config)
    if _has_gelu(copy):
        copy.activation = gelu
    return copy
