"""The second stage of a search: a head trained with the tower that it was found on, as `boneage train` does."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from boneage.batches import to_example, training_batches, validation_batches
from boneage.config import ConfigError, Experiment, TrainConfig
from boneage.distribution import distribute
from boneage.features import Features, build_tower
from boneage.heads import Diverged, Head, check_finite
from boneage.loop import fit
from boneage.models.fused import assign_weights, fuse
from boneage.models.networks import NETWORKS
from boneage.phases import begin_phases, build_to_train
from tfrecords.read import name_damage, read_records


def list_settings(experiment: Experiment) -> list[tuple[int, str | int]]:
    """List what heads are trained end to end with: sizes of the input in pixels, each with what learns.

    Raises:
        ConfigError: If the network takes no input of such a size.
    """
    train, tune = experiment.train, experiment.tune
    smallest = NETWORKS[train.network].min_input_size
    if small := [size for size in tune.input_sizes if size < smallest]:
        raise ConfigError(f"`input_sizes` must be at least {smallest} for {train.network}. Received: {small[0]}.")
    return list(itertools.product(tune.input_sizes or (train.input_size,), tune.trainables or (train.trainable,)))


def retrain(head: Head, experiment: Experiment) -> Head:
    """Return a head as it is trained end to end: by the experiment's optimizer, since its own suits a frozen tower."""
    train = experiment.train
    return dataclasses.replace(
        head,
        optimizer=train.optimizer,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        epochs=experiment.tune.fine_epochs,
    )


def configure(head: Head, experiment: Experiment, *, input_size: int, trainable: str | int, seed: int) -> TrainConfig:
    """Say how a head is trained end to end; its tower is given by `train_end_to_end`.

    Args:
        head: What `retrain` returned.
        experiment: Says all else; the warm-up and the epochs of the head alone keep their share of all epochs.
        input_size: Side of the input in pixels.
        trainable: What learns, as in the table `[train]`.
        seed: Seed of everything random.
    """
    train = experiment.train
    shorter = head.epochs / train.epochs
    return dataclasses.replace(
        train,
        head_units=head.head_units or (0,),
        sex_units=head.sex_units,
        sex_joins=head.sex_joins,
        dropout=head.dropout,
        activation=head.activation,
        pooling=head.pooling,
        loss=head.loss,
        optimizer=head.optimizer,
        learning_rate=head.learning_rate,
        weight_decay=head.weight_decay,
        epochs=head.epochs,
        warmup_epochs=train.warmup_epochs * shorter,
        head_epochs=int(train.head_epochs * shorter),
        init="none",
        input_size=input_size,
        trainable=trainable,
        seed=seed,
    )


def train_end_to_end(
    config: TrainConfig,
    experiment: Experiment,
    *,
    data: str | Path,
    features: Features,
    learnt: np.ndarray,
    judged: np.ndarray,
) -> Callable[[np.ndarray], np.ndarray]:
    """Train a network on some radiographs of the training split.

    It begins with the tower that the experiment names and with a new head, also where `init` has a head to take over,
    which would favour the one head that is like it.

    Args:
        config: How, as `configure` says.
        experiment: Gives the tower and the augmentation.
        data: The record folder.
        features: Tells ids and ages of the radiographs.
        learnt: Numbers of the radiographs to learn from.
        judged: Numbers of those that each epoch is validated on, for whoever watches.

    Returns:
        A function from numbers of radiographs to their bone age in months, float32 `(radiographs,)`.

    Raises:
        Diverged: If a loss, or later an answer, is no finite number.
    """
    keras.backend.clear_session()
    ages, steps = features.bone_age_months[learnt], len(learnt) // config.batch_size
    tower = build_tower(experiment).get_weights()
    model = build_to_train(config, mean_months=float(ages.mean()), std_months=float(ages.std()))
    assign_weights(model.get_layer(config.network), tower)
    trained = fuse(model)
    experiment = dataclasses.replace(experiment, train=config)
    strategy = tf.distribute.get_strategy()
    batches = training_batches(data, experiment, steps=steps, ids=features.ids[learnt])
    validation = distribute(validation_batches(data, config, split="train", ids=features.ids[judged]), strategy)
    iterator = iter(distribute(batches, strategy))
    for epochs in begin_phases(trained, strategy, config=config, steps=steps):
        with name_damage(data):
            fit(
                trained,
                strategy,
                config=config,
                batches=iterator,
                validation=validation,
                steps=steps,
                epochs=epochs,
                callbacks=[keras.callbacks.TerminateOnNaN()],
            )
        if trained.stop_training:
            raise Diverged("diverged: the loss is no finite number.")
    return lambda rows: _predict(trained, config, data=data, ids=features.ids[rows])


def _predict(model: keras.Model, config: TrainConfig, *, data: str | Path, ids: np.ndarray) -> np.ndarray:
    """Predict bone age in months, in the order of the ids."""

    @tf.function(reduce_retracing=True)
    def answer(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return model(inputs, training=False)[:, 0]

    found: dict[str, float] = {}
    with name_damage(data):
        for batch in read_records(
            data, split="train", input_size=config.input_size, batch_size=config.batch_size, ids=ids
        ):
            inputs, _ = to_example(batch, config)
            found.update(zip((id.decode() for id in batch["id"].numpy()), answer(inputs).numpy(), strict=True))
    return check_finite(np.array([found[id] for id in ids], np.float32))
