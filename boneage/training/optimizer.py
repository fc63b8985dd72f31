"""Optimizers with schedules, layer-wise learning rates, decoupled weight decay, clipping and averaged weights."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

MOMENTUM = 0.9


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """One cycle of the learning rate (Smith & Topin 2018, arXiv:1708.07120).

    It rises by a cosine from 1/25 of the peak in the first 30% of the steps, and falls by a cosine to 1/250,000 of the
    peak: the defaults of PyTorch's `OneCycleLR`, whose cycle of the momentum is left out.

    Args:
        learning_rate: Peak learning rate.
        steps: Number of steps.
    """

    RISING_SHARE, START_SHARE, END_SHARE = 0.3, 1 / 25, 1 / 250_000

    def __init__(self, learning_rate: float, steps: int):
        self.learning_rate, self.steps = learning_rate, steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        done = keras.ops.cast(step, "float32") / max(1, self.steps - 1)
        risen = keras.ops.clip(done / self.RISING_SHARE, 0, 1)
        fallen = keras.ops.clip((done - self.RISING_SHARE) / (1 - self.RISING_SHARE), 0, 1)
        rising = 1 - (1 - self.START_SHARE) * (1 + keras.ops.cos(math.pi * risen)) / 2
        falling = (1 - self.END_SHARE) * (1 - keras.ops.cos(math.pi * fallen)) / 2
        return self.learning_rate * (rising - falling)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"learning_rate": self.learning_rate, "steps": self.steps}


class _Scaled(keras.optimizers.Optimizer):
    """Learning rates, decoupled weight decay and averages of each variable, and clipping, for a Keras optimizer.

    Keras's own clipping, averages and accumulation do not add up over the replicas of a distribution strategy.

    Args:
        learning_rate: Learning rate or schedule.
        kernel_decay: Decoupled weight decay of kernels, multiplied by their learning rate; not applied to biases and
            normalisations.
        factors: Factor of the learning rate of each variable (default: 1).
        clip_norm: Largest norm of the gradient over all variables and replicas; 0 turns clipping off.
        average_momentum: Momentum of the exponential moving average of the variables; 0 keeps no average.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        kernel_decay: float,
        factors: Sequence[float] | None = None,
        clip_norm: float = 0.0,
        average_momentum: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        self.kernel_decay, self.factors = kernel_decay, factors
        self.clip_norm, self.average_momentum = clip_norm, average_momentum

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the optimizer state and resolve the learning rate and decay of each variable."""
        super().build(variables)
        self._scales = tuple(self.factors or [1.0] * len(variables))
        # Biases, the weights of normalisations and other scales have one dimension.
        self._decays = tuple(self.kernel_decay if len(variable.shape) > 1 else 0.0 for variable in variables)

        averaged = variables if self.average_momentum else []
        self.averages = [self.add_variable_from_reference(variable, name="average") for variable in averaged]
        for average, variable in zip(self.averages, averaged, strict=True):
            average.assign(variable)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Sum the gradients of all replicas, then clip them."""
        summed = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.clip_norm:
            return summed
        gradients, variables = zip(*summed, strict=True)
        return list(zip(tf.clip_by_global_norm(gradients, self.clip_norm)[0], variables, strict=True))

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Apply the weight decay, then the step of the optimizer, and update the average."""
        index = self._get_variable_index(variable)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (self._decays[index] * learning_rate))
        super().update_step(gradient, variable, learning_rate)
        if self.average_momentum:
            # Less at first, as in TensorFlow's ExponentialMovingAverage: the average forgets the initial weights.
            steps = keras.ops.cast(self.iterations, variable.dtype)
            momentum = keras.ops.minimum(self.average_momentum, (1 + steps) / (10 + steps))
            average = self.averages[index]
            self.assign_sub(average, (average - variable) * (1 - momentum))


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
    schedule: str = "cosine",
    clip_norm: float = 0.0,
    ema_momentum: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Build an optimizer with its schedule.

    Args:
        learning_rate: Peak learning rate.
        optimizer: `"adamw"`, `"adam"` (without weight decay) or `"sgd"` (with Nesterov momentum).
        steps: Number of steps, including the warm-up.
        warmup_steps: Number of steps of linear warm-up from zero; 0 starts at the peak. Without effect on
            `"one_cycle"`.
        weight_decay: Decoupled weight decay of kernels; not applied to biases and normalisations.
        factors: Factor of the learning rate of each trainable variable (default: 1).
        schedule: `"cosine"`, warm-up and cosine decay (Loshchilov & Hutter 2017, arXiv:1608.03983), or `"one_cycle"`.
        clip_norm: Largest norm of the gradient over all variables; 0 turns clipping off.
        ema_momentum: Momentum of the exponential moving average of the variables, see `use_averages`; 0 keeps none.
    """
    options: dict[str, Any] = {"factors": factors, "clip_norm": clip_norm, "average_momentum": ema_momentum}
    decay = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    rates = OneCycle(learning_rate, steps) if schedule == "one_cycle" else decay
    if optimizer == "sgd":
        return ScaledSGD(rates, kernel_decay=weight_decay, momentum=MOMENTUM, nesterov=True, **options)
    return ScaledAdamW(rates, kernel_decay=0.0 if optimizer == "adam" else weight_decay, **options)


def use_averages(model: keras.Model) -> list[Any]:
    """Replace the trainable weights of a compiled network by their averages, if its optimizer keeps averages.

    Returns:
        The replaced weights, in the order of `model.trainable_variables`; none if there are no averages.
    """
    # The optimizer may be inside one that scales the loss.
    averages = getattr(model.optimizer, "inner_optimizer", model.optimizer).averages
    if not averages:
        return []
    replaced = [variable.numpy() for variable in model.trainable_variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(average.numpy())
    return replaced


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Use the averages of the weights for a while, see `use_averages`."""
    replaced = use_averages(model)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, replaced, strict=False):
            variable.assign(value)
