"""The training loop: the same for one device, several devices and several machines."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from boneage.config import TrainConfig
from boneage.distribution import is_chief

KERAS_LOSSES = {
    "mae": keras.losses.mean_absolute_error,
    "mse": keras.losses.mean_squared_error,
    "huber": keras.losses.huber,
    "log_cosh": keras.losses.log_cosh,
}

# One step: a distributed batch to sum of losses, sum of errors (months, or 1 for a wrong sex), and number of examples.
Step = Callable[[Any], tf.Tensor]


def fit(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    *,
    config: TrainConfig,
    batches: Iterator,
    validation: tf.data.Dataset,
    steps: int,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train, and validate after each epoch.

    Each epoch ends with the callbacks' `on_epoch_end` and the logs `loss`, `mae`, `val_mae` (months; for the task
    `"sex"` `error_share` and `val_error_share`) and `input_stall_share`, the share of the training time that was spent
    waiting for batches. `stop_training` ends it.

    Args:
        model: The network, with its optimizer, made under the strategy.
        strategy: What divides the work.
        config: The loss, the size of the global batch, and the number of epochs to tell.
        batches: Endless distributed batches.
        validation: The validation split, distributed; with several workers each has the whole of it.
        steps: Batches in an epoch.
        epochs: Numbers of the epochs to train, from 0.
        callbacks: Keras callbacks.
    """
    train_step = _build_training_step(model, strategy, config=config, spec=batches.element_spec)  # type: ignore[attr-defined]
    validation_step = _build_validation_step(model, strategy, config=config, spec=validation.element_spec)
    watched = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=True, model=model, verbose=_verbosity(strategy), epochs=config.epochs, steps=steps
    )
    model.stop_training = False
    watched.on_train_begin()
    for epoch in epochs:
        watched.on_epoch_begin(epoch)
        logs = _train_epoch(train_step, batches, steps=steps, watched=watched, measure=config.measure)
        sums = sum(validation_step(batch).numpy().astype(np.float64) for batch in validation)
        logs[f"val_{config.measure}"] = _means(sums, measure=config.measure)[config.measure]
        watched.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watched.on_train_end()


def _verbosity(strategy: tf.distribute.Strategy) -> int:
    """A progress bar for who watches, else one line an epoch; nothing from workers that are not the chief."""
    if not is_chief(strategy):
        return 0
    return 1 if sys.stdout.isatty() else 2


def _train_epoch(
    step: Step, batches: Iterator, *, steps: int, watched: keras.callbacks.CallbackList, measure: str
) -> dict[str, float]:
    sums, waited = np.zeros(3), 0.0
    began = time.perf_counter()
    for number in range(steps):
        watched.on_train_batch_begin(number)
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        # Taking the numbers waits for the device: only so is the time until the next batch a time without work.
        sums += step(batch).numpy()
        watched.on_train_batch_end(number, _means(sums, measure=measure))
    return {**_means(sums, measure=measure), "input_stall_share": waited / (time.perf_counter() - began)}


def _means(sums: np.ndarray, *, measure: str) -> dict[str, float]:
    loss, error, count = sums
    return {"loss": loss / count, measure: error / count}


def _build_training_step(
    model: keras.Model, strategy: tf.distribute.Strategy, *, config: TrainConfig, spec: Any
) -> Step:
    optimizer, variables = model.optimizer, model.trainable_variables

    def train(inputs: dict[str, tf.Tensor], truth: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses, sums = _measure(model(inputs, training=True), truth, config=config)
            # The optimizer adds up what the replicas find: divided by the global batch, that is the mean.
            loss = optimizer.scale_loss(tf.reduce_sum(losses) / config.batch_size)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return sums

    return _run_on_replicas(train, strategy, spec=spec)


def _build_validation_step(
    model: keras.Model, strategy: tf.distribute.Strategy, *, config: TrainConfig, spec: Any
) -> Step:
    def validate(inputs: dict[str, tf.Tensor], truth: tf.Tensor) -> tf.Tensor:
        return _measure(model(inputs, training=False), truth, config=config)[1]

    return _run_on_replicas(validate, strategy, spec=spec)


def _measure(predicted: tf.Tensor, truth: tf.Tensor, *, config: TrainConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the loss of each example, and the sums that a step reports."""
    if config.task == "sex":
        losses = keras.losses.binary_crossentropy(truth, predicted)
        errors = tf.cast((predicted > 0.5) != (truth > 0.5), tf.float32)
    else:
        losses = KERAS_LOSSES[config.loss](truth, predicted)
        errors = tf.abs(predicted - truth)
    return losses, tf.stack([tf.reduce_sum(losses), tf.reduce_sum(errors), tf.cast(tf.size(truth), tf.float32)])


def _run_on_replicas(function: Callable[..., tf.Tensor], strategy: tf.distribute.Strategy, *, spec: Any) -> Step:
    """Compile a function of one replica's part of a batch into one of the whole batch that adds up the results."""

    def step(batch: Any) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(function, args=batch), axis=None)

    return tf.function(step, input_signature=[spec], autograph=False)
