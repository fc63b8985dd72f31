"""The optimizers of this package, all warmed up and then lowered to zero along a cosine."""

from collections.abc import Sequence

import keras

MOMENTUM = 0.9
# As Keras names them: biases and the weights of normalisations.
_WITHOUT_DECAY = ("bias", "gamma", "beta")


class _Scaled(keras.optimizers.Optimizer):
    """A learning rate of its own for each variable, and decoupled weight decay, for any of Keras's optimizers.

    Args:
        learning_rate: Learning rate or schedule.
        kernel_decay: Decoupled weight decay of kernels, multiplied by their learning rate; biases and normalisations
            have none.
        factors: What the learning rate is multiplied by, one for each variable; 1 without them.
    """

    def __init__(self, learning_rate, *, kernel_decay: float, factors: Sequence[float] | None = None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.kernel_decay, self.factors = kernel_decay, factors

    def build(self, variables):
        """Make what is kept of each variable, and settle what is its own."""
        super().build(variables)
        self._scales = tuple(self.factors or [1.0] * len(variables))
        self._decays = tuple(0.0 if variable.name in _WITHOUT_DECAY else self.kernel_decay for variable in variables)

    def update_step(self, gradient, variable, learning_rate):
        """Shrink the variable by its weight decay, then change it as the optimizer does."""
        index = self._get_variable_index(variable)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (self._decays[index] * learning_rate))
        super().update_step(gradient, variable, learning_rate)


class ScaledAdamW(_Scaled, keras.optimizers.Adam):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); without weight decay it is Adam."""


class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """Stochastic gradient descent with such a weight decay."""


def build_optimizer(
    learning_rate: float,
    *,
    optimizer: str = "adamw",
    steps: int,
    warmup_steps: int,
    weight_decay: float,
    factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Build an optimizer with its schedule (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        learning_rate: Highest learning rate.
        optimizer: `"adamw"`, `"adam"`, which has no weight decay, or `"sgd"` with Nesterov's momentum.
        steps: Number of batches, warm-up included.
        warmup_steps: Batches over which the learning rate rises linearly from zero; 0 begins at the highest.
        weight_decay: Decoupled weight decay of kernels; biases and normalisations have none.
        factors: What the learning rate is multiplied by, one for each variable that it will change; 1 without them.
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
