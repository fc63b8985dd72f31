"""The one optimizer of this package: AdamW, warmed up, then lowered to zero along a cosine."""

from collections.abc import Sequence

import keras

# As Keras names them: biases and the weights of normalisations.
WITHOUT_DECAY = ("bias", "gamma", "beta")


class ScaledAdamW(keras.optimizers.Adam):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with a learning rate and a weight decay for each variable.

    Args:
        learning_rate: Learning rate or schedule.
        factors: What the learning rate is multiplied by, one for each variable.
        weight_decays: Decoupled weight decay, one for each variable; it is multiplied by the variable's learning rate.
    """

    def __init__(self, learning_rate, *, factors: Sequence[float], weight_decays: Sequence[float], **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.factors, self.weight_decays = tuple(factors), tuple(weight_decays)

    def update_step(self, gradient, variable, learning_rate):
        """Shrink the variable by its weight decay, then change it as Adam does."""
        index = self._get_variable_index(variable)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * self.factors[index]
        if self.weight_decays[index]:
            self.assign_sub(variable, variable * (self.weight_decays[index] * learning_rate))
        super().update_step(gradient, variable, learning_rate)


def build_optimizer(
    learning_rate: float,
    *,
    steps: int,
    warmup_steps: int,
    weight_decay: float,
    variables: Sequence[keras.Variable],
    factors: Sequence[float],
) -> keras.optimizers.Optimizer:
    """Build AdamW with its schedule (Loshchilov & Hutter 2017, arXiv:1608.03983).

    Args:
        learning_rate: Highest learning rate.
        steps: Number of batches, warm-up included.
        warmup_steps: Batches over which the learning rate rises linearly from zero; 0 begins at the highest.
        weight_decay: Decoupled weight decay of kernels; biases and normalisations have none.
        variables: What it will change.
        factors: What the learning rate of each of them is multiplied by.
    """
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    decays = [0.0 if variable.name in WITHOUT_DECAY else weight_decay for variable in variables]
    return ScaledAdamW(schedule, factors=factors, weight_decays=decays)
