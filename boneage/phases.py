"""How a network begins to learn: built for it, then given an optimizer for each phase of its training."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from boneage.config import TrainConfig
from boneage.models import build_network
from boneage.models.transfer import learning_rate_factors, set_trainable
from boneage.optimizer import build_optimizer


def build_to_train(config: TrainConfig, *, mean_months: float, std_months: float) -> keras.Model:
    """Build a network by its seed, under the precision of its training.

    Args:
        config: How it is built and trained.
        mean_months: Mean bone age of what it learns from, in months.
        std_months: Its standard deviation, in months.
    """
    mean, std = (mean_months, std_months) if config.standardize_target else (0.0, 1.0)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy(config.precision)
    try:
        return build_network(config, init=config.init, target_mean_months=mean, target_std_months=std or 1.0)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def begin_phases(
    model: keras.Model, strategy: tf.distribute.Strategy, *, config: TrainConfig, steps: int, begun: int = 0
) -> Iterator[range]:
    """Prepare a network for one phase after the other: the head alone, then what `trainable` tells.

    Args:
        model: The network, made under the strategy.
        strategy: What divides the work.
        config: How it is trained.
        steps: Batches in an epoch.
        begun: Epochs that are behind it; a phase that ended before is left out.

    Yields:
        The numbers of the epochs of the phase, once the network is ready for it.
    """
    phases = [(range(config.head_epochs), "head"), (range(config.head_epochs, config.epochs), config.trainable)]
    for epochs, trainable in phases:
        if epochs and begun <= epochs.stop:
            with strategy.scope():
                _begin_phase(model, config, trainable=trainable, epochs=epochs, steps=steps)
            yield epochs


def _begin_phase(model: keras.Model, config: TrainConfig, *, trainable: str | int, epochs: range, steps: int) -> None:
    """Set what learns in these epochs, and give the model an optimizer for it."""
    set_trainable(model, tower=config.network, trainable=trainable)
    warmup_epochs = config.warmup_epochs if epochs.stop == config.epochs else 0
    optimizer = build_optimizer(
        config.learning_rate,
        optimizer=config.optimizer,
        steps=len(epochs) * steps,
        warmup_steps=round(warmup_epochs * steps),
        weight_decay=config.weight_decay,
        factors=learning_rate_factors(model, tower=config.network, layer_decay=config.layer_decay),
    )
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Built, so that a checkpoint can be loaded into its variables.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, auto_scale_loss=False)
