"""The head of a network: from the feature map and the sex to bone age."""

from collections.abc import Sequence
from typing import Any

import keras

_POOLED_BY = {"average": ("average",), "max": ("max",), "both": ("average", "max")}


@keras.saving.register_keras_serializable(package="boneage")
def gelu(x: Any) -> Any:
    """Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Keras's implementation uses the complementary error function, which ONNX does not support.
    """
    return 0.5 * x * (1 + keras.ops.erf(x / 2**0.5))


def add_pooling(feature_map: Any, pooling: str) -> list[Any]:
    """Pool a feature map.

    The first layer is always named `pool`: its input is the feature map in every network.

    Args:
        feature_map: Keras tensor `(batch, height, width, channels)`.
        pooling: `"average"`, `"max"` or `"both"`.

    Returns:
        One or two Keras tensors `(batch, channels)`.
    """
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    names = ("pool", "pool_max")
    return [kinds[kind](name=name)(feature_map) for kind, name in zip(_POOLED_BY[pooling], names, strict=False)]


def add_hidden_layers(
    pooled: Sequence[Any],
    male: Any | None,
    *,
    head_units: Sequence[int],
    dropout: float,
    activation: str,
    sex_units: int,
    sex_joins: str,
) -> Any:
    """Add the layers between the pooled features and the output.

    Args:
        pooled: Keras tensors `(batch, channels)`, which are concatenated.
        male: The sex, Keras tensor `(batch, 1)`, or None.
        head_units: Units of the hidden layers.
        dropout: Dropout rate in [0, 1) before the hidden layers.
        activation: Activation of all hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Units of the dense layer on the sex.
        sex_joins: `"before"` or `"after"` the hidden layers.

    Returns:
        Keras tensor `(batch, units)`.
    """
    layers = keras.layers
    activate = gelu if activation == "gelu" else activation
    x = layers.Concatenate(name="average_and_max")(pooled) if len(pooled) > 1 else pooled[0]

    def join(x: Any) -> Any:
        sex = layers.Dense(sex_units, activation=activate, name="sex")(male)
        return layers.Concatenate(name="image_and_sex")([x, sex])

    if male is not None and sex_joins == "before":
        x = join(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    for number, units in enumerate(head_units, start=1):
        x = layers.Dense(units, activation=activate, name=f"head_{number}")(x)
    if male is not None and sex_joins == "after":
        x = join(x)
    return x


def add_bone_age_output(x: Any, *, mean_months: float, std_months: float) -> Any:
    """Add the output layers: standardised bone age, rescaled to months; float32 under any precision.

    Args:
        x: Keras tensor `(batch, units)`.
        mean_months: Mean bone age of the training split, in months.
        std_months: Its standard deviation, in months.

    Returns:
        Keras tensor `(batch, 1)`, in months.
    """
    x = keras.layers.Dense(1, dtype="float32", name="standardized_bone_age")(x)
    return keras.layers.Rescaling(std_months, mean_months, dtype="float32", name="bone_age_months")(x)
