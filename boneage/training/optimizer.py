"""Optimizers with linear warm-up, cosine decay, layer-wise learning rates and decoupled weight decay."""

from collections.abc import Sequence
from typing import Any

import keras

MOMENTUM = 0.9


class _Scaled(keras.optimizers.Optimizer):
    """Per-variable learning rates and decoupled weight decay for a Keras optimizer.

    Args:
        learning_rate: Learning rate or schedule.
        kernel_decay: Decoupled weight decay of kernels, multiplied by their learning rate; not applied to biases and
            normalisations.
        factors: Factor of the learning rate of each variable (default: 1).
    """

    def __init__(
        self, learning_rate: Any, *, kernel_decay: float, factors: Sequence[float] | None = None, **kwargs: Any
    ):
        super().__init__(learning_rate, **kwargs)
        self.kernel_decay, self.factors = kernel_decay, factors

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the optimizer state and resolve the learning rate and decay of each variable."""
        super().build(variables)
        self._scales = tuple(self.factors or [1.0] * len(variables))
        # Biases, the weights of normalisations and other scales have one dimension.
        self._decays = tuple(self.kernel_decay if len(variable.shape) > 1 else 0.0 for variable in variables)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Apply the weight decay, then the step of the optimizer."""
        index = self._get_variable_index(variable)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (self._decays[index] * learning_rate))
        super().update_step(gradient, variable, learning_rate)


class ScaledAdamW(_Scaled, keras.optimizers.Adam):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); Adam if the weight decay is zero."""


class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """Stochastic gradient descent with decoupled weight decay."""


def build_optimizer(
    learning_rate: float,
    *,
    optimizer: str = "adamw",
    steps: int,
    warmup_steps: int,
    weight_decay: float,
    factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Build an optimizer with warm-up and cosine decay (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        learning_rate: Peak learning rate.
        optimizer: `"adamw"`, `"adam"` (without weight decay) or `"sgd"` (with Nesterov momentum).
        steps: Number of steps, including the warm-up.
        warmup_steps: Number of steps of linear warm-up from zero; 0 starts at the peak.
        weight_decay: Decoupled weight decay of kernels; not applied to biases and normalisations.
        factors: Factor of the learning rate of each trainable variable (default: 1).
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    if optimizer == "sgd":
        return ScaledSGD(schedule, kernel_decay=weight_decay, factors=factors, momentum=MOMENTUM, nesterov=True)
    return ScaledAdamW(schedule, kernel_decay=0.0 if optimizer == "adam" else weight_decay, factors=factors)
