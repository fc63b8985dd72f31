"""The training schedule: building the network, and the phases of a run with the optimizer of each."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.models.build import build_network
from boneage.models.freezing import learning_rate_factors, set_trainable
from boneage.training.initialise import initialise
from boneage.training.optimizer import build_optimizer


def build_for_training(config: TrainConfig, *, mean_months: float, std_months: float) -> keras.Model:
    """Build and initialise a network with the seed and the precision of the training.

    Args:
        config: The table `[train]` of the experiment, with a precision other than `"auto"`.
        mean_months: Mean bone age of the training split, in months.
        std_months: Its standard deviation, in months.
    """
    mean, std = (mean_months, std_months) if config.standardize_target else (0.0, 1.0)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy(config.precision)
    try:
        model = build_network(config, target_mean_months=mean, target_std_months=std or 1.0)
        return initialise(model, config.init)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def prepare_phases(
    model: keras.Model, strategy: tf.distribute.Strategy, *, config: TrainConfig, steps: int, first_epoch: int = 0
) -> Iterator[range]:
    """Prepare a network for each phase in turn: first only the head, then the layers of `trainable`.

    Args:
        model: The network, created in the scope of the strategy.
        strategy: The distribution strategy.
        config: The table `[train]` of the experiment.
        steps: Number of batches in an epoch.
        first_epoch: Number of finished epochs; finished phases are skipped.

    Yields:
        The indices of the epochs of the phase, after the network is prepared for it.
    """
    phases = [(range(config.head_epochs), "head"), (range(config.head_epochs, config.epochs), config.trainable)]
    for epochs, trainable in phases:
        if epochs and first_epoch <= epochs.stop:
            with strategy.scope():
                _prepare_phase(model, config, trainable=trainable, epochs=epochs, steps=steps)
            yield epochs


def _prepare_phase(model: keras.Model, config: TrainConfig, *, trainable: str | int, epochs: range, steps: int) -> None:
    """Set the trainable layers of these epochs, and compile the model with their optimizer."""
    set_trainable(model, backbone=config.backbone, trainable=trainable)
    warmup_epochs = config.warmup_epochs if epochs.stop == config.epochs else 0
    optimizer = build_optimizer(
        config.learning_rate,
        optimizer=config.optimizer,
        steps=len(epochs) * steps,
        warmup_steps=round(warmup_epochs * steps),
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        clip_norm=config.clip_norm,
        ema_momentum=config.ema_momentum,
        factors=learning_rate_factors(model, backbone=config.backbone, layer_decay=config.layer_decay),
    )
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # A checkpoint can only be loaded into the variables of a built optimizer.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, auto_scale_loss=False)
