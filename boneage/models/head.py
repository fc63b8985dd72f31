"""The head of a network: from the feature map, the sex and the chronological age to bone age."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras

_POOLED_BY = {"average": ("average",), "max": ("max",), "both": ("average", "max"), "gem": ("gem",)}

NUM_MONTHS = 241
"""Number of classes of the head `"distribution"`: the months from 0 to 240, the range of the answers of a bundle."""

AGE_SCALE_MONTHS = 120.0
"""The chronological age is divided by it, so that its values are about as large as features."""

SCALED_AGE_LAYER = "scaled_age"
"""Name of the layer that divides the chronological age."""

LOGITS_LAYER = "bone_age_logits"
"""Name of the layer of the head `"distribution"` that returns a logit for each month."""


@keras.saving.register_keras_serializable(package="boneage")
def gelu(x: Any) -> Any:
    """Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Keras's implementation uses the complementary error function, which ONNX does not support.
    """
    return 0.5 * x * (1 + keras.ops.erf(x / 2**0.5))


@keras.saving.register_keras_serializable(package="boneage")
class GeneralizedMeanPooling(keras.layers.Layer):
    """Generalised mean of each channel, with an exponent that is learnt (Radenovic et al. 2018, arXiv:1711.02512).

    The mean of `x ** p`, to the power of `1 / p`: near the average for `p` near 1, near the maximum for a large `p`.
    All channels share one exponent, 3 at first as in the paper. It is learnt as the logarithm of `p - 1`, so that it
    stays above 1. Negative values count as 0, and 1e-6 is added. Create it with `dtype="float32"`: powers exceed the
    range of float16.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, channels)`.
    """

    def build(self, input_shape: Any) -> None:
        """Create the exponent."""
        initial = keras.initializers.Constant(math.log(3 - 1))
        self.log_excess = self.add_weight(shape=(1,), initializer=initial, name="log_excess")

    def call(self, inputs: Any) -> Any:
        """Pool over height and width."""
        exponent = 1 + keras.ops.exp(self.log_excess)
        # Not the maximum with 1e-6, which LiteRT fails to compute for batches of any size.
        powers = keras.ops.power(keras.ops.relu(inputs) + 1e-6, exponent)
        return keras.ops.power(keras.ops.mean(powers, axis=(1, 2)), 1 / exponent)


@keras.saving.register_keras_serializable(package="boneage")
class Expectation(keras.layers.Layer):
    """Expectation of a distribution over months, `0, 1, ..., classes - 1`.

    Input shape:
        Probabilities `(batch, classes)`.

    Output shape:
        Months `(batch, 1)`.
    """

    def call(self, inputs: Any) -> Any:
        """Return the mean month, weighted by the probabilities."""
        months = keras.ops.arange(inputs.shape[-1], dtype=inputs.dtype)
        return keras.ops.sum(inputs * months, axis=-1, keepdims=True)


def add_pooling(feature_map: Any, pooling: str) -> list[Any]:
    """Pool a feature map.

    The first layer is always named `pool`: its input is the feature map in every network.

    Args:
        feature_map: Keras tensor `(batch, height, width, channels)`.
        pooling: `"average"`, `"max"`, `"both"` or `"gem"`.

    Returns:
        One or two Keras tensors `(batch, channels)`.
    """
    kinds = {
        "average": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "gem": functools.partial(GeneralizedMeanPooling, dtype="float32"),
    }
    names = ("pool", "pool_max")
    return [kinds[kind](name=name)(feature_map) for kind, name in zip(_POOLED_BY[pooling], names, strict=False)]


def add_hidden_layers(
    pooled: Sequence[Any],
    male: Any | None,
    age: Sequence[Any] = (),
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
        age: The chronological age in months, and possibly whether it is known, Keras tensors `(batch, 1)`.
        head_units: Units of the hidden layers.
        dropout: Dropout rate in [0, 1) before the hidden layers.
        activation: Activation of all hidden layers: `"relu"`, `"gelu"` or `"swish"`.
        sex_units: Units of the dense layer on the sex, and of that on the age.
        sex_joins: Where both join: `"before"` or `"after"` the hidden layers.

    Returns:
        Keras tensor `(batch, units)`.
    """
    layers = keras.layers
    activate = gelu if activation == "gelu" else activation
    x = layers.Concatenate(name="average_and_max")(pooled) if len(pooled) > 1 else pooled[0]

    def join(x: Any) -> Any:
        known = {}
        if male is not None:
            known["sex"] = layers.Dense(sex_units, activation=activate, name="sex")(male)
        if age:
            # float32 under any precision: in bfloat16 ten years are exact to half a month.
            scaled = layers.Rescaling(1 / AGE_SCALE_MONTHS, dtype="float32", name=SCALED_AGE_LAYER)(age[0])
            if len(age) > 1:
                scaled = layers.Concatenate(dtype="float32", name="age_and_known")([scaled, age[1]])
            known["age"] = layers.Dense(sex_units, activation=activate, dtype="float32", name="age")(scaled)
        return layers.Concatenate(name="_and_".join(["image", *known]))([x, *known.values()]) if known else x

    if sex_joins == "before":
        x = join(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    for number, units in enumerate(head_units, start=1):
        x = layers.Dense(units, activation=activate, name=f"head_{number}")(x)
    if sex_joins == "after":
        x = join(x)
    return x


def add_bone_age_output(x: Any, age: Any | None = None, *, mean_months: float, std_months: float) -> Any:
    """Add the output layers: standardised bone age, rescaled to months; float32 under any precision.

    Args:
        x: Keras tensor `(batch, units)`.
        age: The chronological age in months, Keras tensor `(batch, 1)`: the difference from it is predicted, and it is
            added; or None.
        mean_months: Mean bone age, or mean difference, of the training split, in months.
        std_months: Its standard deviation, in months.

    Returns:
        Keras tensor `(batch, 1)`, in months.
    """
    x = keras.layers.Dense(1, dtype="float32", name="standardized_bone_age")(x)
    if age is None:
        return keras.layers.Rescaling(std_months, mean_months, dtype="float32", name="bone_age_months")(x)
    difference = keras.layers.Rescaling(std_months, mean_months, dtype="float32", name="difference_months")(x)
    return keras.layers.Add(dtype="float32", name="bone_age_months")([difference, age])


def add_distribution_output(x: Any) -> Any:
    """Add the output layers: a probability for each month from 0 to 240, and their expectation; float32.

    Args:
        x: Keras tensor `(batch, units)`.

    Returns:
        Keras tensor `(batch, 1)`, in months.
    """
    x = keras.layers.Dense(NUM_MONTHS, dtype="float32", name=LOGITS_LAYER)(x)
    x = keras.layers.Softmax(dtype="float32", name="bone_age_probabilities")(x)
    return Expectation(dtype="float32", name="bone_age_months")(x)
