"""The training loop for one device, several devices and several machines."""

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from boneage.base.progress import is_notebook
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.training import TrainConfig
from boneage.models.head import LOGITS_LAYER
from boneage.training.augmentation import build_augmentation, to_values
from boneage.training.distribution import is_chief
from boneage.training.losses import compute_losses, weigh_losses
from boneage.training.optimizer import averaged_weights

# Number of steps between two readings of the sums, for which the host waits for the device.
READ_STEPS = 10

# A step maps a distributed batch to the sum of losses, the sum of errors (months, or 1 for a wrong sex) and the
# number of examples.
Step = Callable[[Any], tf.Tensor]


def fit(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    *,
    config: TrainConfig,
    ranges: AugmentConfig,
    mean_months: float,
    std_months: float,
    batches: Iterator[Any],
    validation: tf.data.Dataset,
    steps: int,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train, and validate after each epoch.

    Each epoch ends with the callbacks' `on_epoch_end` and the logs `loss` (not weighted), `mae`, `val_mae` (months; for
    the task `"sex"` `error_share` and `val_error_share`) and `input_stall_share`, the fraction of the training time
    spent waiting for batches. A callback stops the training by `model.stop_training`. A loss that is not finite ends
    the epoch within `READ_STEPS` steps, and its validation values are NaN.

    Args:
        model: The compiled network, created in the scope of the strategy.
        strategy: The distribution strategy.
        config: The loss, its weights, the global batch size and the number of epochs.
        ranges: The ranges of the augmentation.
        mean_months: Mean bone age of the train split, in months.
        std_months: Its standard deviation, in months.
        batches: Infinite iterator of distributed batches of `boneage.training.datasets.training_batches`.
        validation: The distributed validation split; each worker has all of it.
        steps: Number of batches in an epoch.
        epochs: Indices of the epochs to train, counted from 0.
        callbacks: Keras callbacks.
    """
    train_step = build_training_step(
        model,
        strategy,
        config=config,
        augment=build_augmentation(ranges),
        weigh=functools.partial(weigh_losses, mean_months=mean_months, std_months=std_months, config=config),
        spec=batches.element_spec,  # type: ignore[attr-defined]
    )
    validation_step = _build_validation_step(model, strategy, config=config, spec=validation.element_spec)
    watched = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=True, model=model, verbose=_verbosity(strategy), epochs=config.epochs, steps=steps
    )
    model.stop_training = False
    watched.on_train_begin()
    for epoch in epochs:
        watched.on_epoch_begin(epoch)
        logs = _train_epoch(train_step, batches, steps=steps, watched=watched, metric=config.metric)
        logs[f"val_{config.metric}"] = math.nan
        if math.isfinite(logs["loss"]):
            with averaged_weights(model):
                sums = sum(validation_step(batch).numpy().astype(np.float64) for batch in validation)
            logs[f"val_{config.metric}"] = _means(sums, metric=config.metric)[config.metric]
        watched.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watched.on_train_end()


def _verbosity(strategy: tf.distribute.Strategy) -> int:
    """Progress bar on a terminal or in a notebook, else one line per epoch; no output from workers but the chief."""
    if not is_chief(strategy):
        return 0
    return 1 if sys.stdout.isatty() or is_notebook() else 2


def _train_epoch(
    step: Step, batches: Iterator[Any], *, steps: int, watched: keras.callbacks.CallbackList, metric: str
) -> dict[str, float]:
    sums, unread, logs, waited = np.zeros(3), [], {}, 0.0
    began = time.perf_counter()
    for number in range(steps):
        watched.on_train_batch_begin(number)
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        unread.append(step(batch))
        if len(unread) == READ_STEPS or number + 1 == steps:
            sums += np.sum([value.numpy() for value in unread], axis=0, dtype=np.float64)
            unread, logs = [], _means(sums, metric=metric)
        watched.on_train_batch_end(number, logs)
        if logs and not math.isfinite(logs["loss"]):
            break
    return {**logs, "input_stall_share": waited / (time.perf_counter() - began)}


def _means(sums: np.ndarray, *, metric: str) -> dict[str, float]:
    loss, error, count = sums
    return {"loss": loss / count, metric: error / count}


def build_training_step(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    *,
    config: TrainConfig,
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    weigh: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    spec: Any,
) -> Step:
    """Build the function of a training step: augmentation, loss, gradients and update.

    Args:
        model: The compiled network, created in the scope of the strategy.
        strategy: The distribution strategy.
        config: The loss, the global batch size and its parts.
        augment: From images and draws to augmented images, see `boneage.training.augmentation.build_augmentation`.
        weigh: From losses and truth to weighted losses.
        spec: Specification of the distributed batches.

    Returns:
        The step; see `Step`.
    """
    optimizer, variables = model.optimizer, model.trainable_variables
    forward = _build_forward(model, config=config)

    def differentiate(
        inputs: dict[str, tf.Tensor], truth: tf.Tensor, weights: tf.Tensor, draws: tf.Tensor
    ) -> list[tf.Tensor]:
        inputs = {**inputs, "image": augment(inputs["image"], draws)}
        with tf.GradientTape() as tape:
            losses, sums = _measure(*forward(inputs, training=True), truth, config=config)
            # The optimizer sums the gradients of the replicas: divide by the global batch size to get the mean.
            loss = optimizer.scale_loss(tf.reduce_sum(weights * weigh(losses, truth)) / config.batch_size)
        return [sums, *tape.gradient(loss, variables)]

    def train(*batch: Any) -> tf.Tensor:
        parts = config.accumulate_steps
        total = differentiate(*_part(batch, 0, parts))
        for number in range(1, parts):
            # One part after the other: together they would need the memory of the whole batch.
            with tf.control_dependencies(total):
                part = differentiate(*_part(batch, number, parts))
            total = [tf.add(*pair) for pair in zip(total, part, strict=True)]
        sums, *gradients = total
        optimizer.apply(gradients, variables)
        return sums

    return _run_on_replicas(train, strategy, spec=spec)


def _part(batch: Any, number: int, parts: int) -> Any:
    """Return every so many radiographs of a batch, so that the parts of all replicas are those of one device."""
    return batch if parts == 1 else tf.nest.map_structure(lambda tensor: tensor[number::parts], batch)


def _build_validation_step(
    model: keras.Model, strategy: tf.distribute.Strategy, *, config: TrainConfig, spec: Any
) -> Step:
    forward = functools.partial(_build_forward(model, config=config), training=False)
    is_alone = strategy.num_replicas_in_sync == 1

    def validate(inputs: dict[str, tf.Tensor], truth: tf.Tensor) -> tf.Tensor:
        inputs = {**inputs, "image": to_values(inputs["image"])}
        predicted, logits = forward(inputs) if is_alone else _predict_padded(forward, inputs)
        return _measure(predicted, logits, truth, config=config)[1]

    return _run_on_replicas(validate, strategy, spec=spec)


def _predict_padded(forward: Callable[..., Sequence[tf.Tensor | None]], inputs: dict[str, tf.Tensor]) -> Any:
    """Predict a batch that may be empty: TensorFlow 2.21 does not convolve empty batches correctly on a CPU.

    The last batch can leave some replicas without radiographs; one that is black and counts for nothing is appended.
    """
    padded = {name: tf.concat([value, tf.zeros([1, *value.shape[1:]])], axis=0) for name, value in inputs.items()}
    return [None if output is None else output[:-1] for output in forward(padded)]


def _build_forward(model: keras.Model, *, config: TrainConfig) -> Callable[..., tuple[tf.Tensor, tf.Tensor | None]]:
    """Build the function from inputs to the prediction and, for the head `"distribution"`, the logits."""
    if config.head != "distribution":
        return lambda inputs, training: (model(inputs, training=training), None)
    forward: Callable[..., tuple[tf.Tensor, tf.Tensor | None]] = keras.Model(
        model.input, (model.output, model.get_layer(LOGITS_LAYER).output)
    )
    return forward


def _measure(
    predicted: tf.Tensor, logits: tf.Tensor | None, truth: tf.Tensor, *, config: TrainConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the loss of each example, and the sums that a step returns."""
    losses = compute_losses(predicted, truth, config=config, logits=logits)
    if config.task == "sex":
        errors = tf.cast((predicted > 0.5) != (truth > 0.5), tf.float32)
    else:
        errors = tf.abs(predicted - truth)
    return losses, tf.stack([tf.reduce_sum(losses), tf.reduce_sum(errors), tf.cast(tf.size(truth), tf.float32)])


def _run_on_replicas(function: Callable[..., tf.Tensor], strategy: tf.distribute.Strategy, *, spec: Any) -> Step:
    """Compile a function of one replica's part of a batch into a function of the global batch; results are summed."""

    def step(batch: Any) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(function, args=batch), axis=None)

    compiled: Step = tf.function(step, input_signature=[spec], autograph=False)
    return compiled
