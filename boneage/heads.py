"""Heads of a network: what a search may try, and how one is trained with its tower on some of the radiographs."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from boneage.batches import to_example, training_batches, validation_batches
from boneage.config import ConfigError, Experiment, TrainConfig
from boneage.distribution import distribute
from boneage.loop import fit
from boneage.models import build_network
from boneage.models.fused import assign_weights, fuse
from boneage.models.networks import NETWORKS, SEX_UNITS
from boneage.phases import begin_phases, build_to_train
from tfrecords.errors import BoneAgeError
from tfrecords.framing import read_frames
from tfrecords.info import read_info, split_info
from tfrecords.read import name_damage, read_records
from tfrecords.schema import decode

# The first trials of every search, numbered from 1.
REFERENCES = ("16bit", "network")
# What distinguishes one trial from another, of the table `[train]`.
SEARCHED = (
    "head_units",
    "sex_units",
    "sex_joins",
    "dropout",
    "activation",
    "pooling",
    "loss",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "input_size",
    "trainable",
    "epochs",
)


class Diverged(BoneAgeError):
    """A network whose answers are no numbers any more."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """What is known of the radiographs of a split.

    Args:
        ids: Ids, shape `(radiographs,)`.
        sexes: `"female"` or `"male"`, shape `(radiographs,)`.
        bone_age_months: float32 `(radiographs,)`.
    """

    ids: np.ndarray
    sexes: np.ndarray
    bone_age_months: np.ndarray


def choose(hp: keras_tuner.HyperParameters, experiment: Experiment, *, seed: int) -> TrainConfig:
    """Let the hyperparameters choose a head and how it is trained.

    Hyperband tells in `tuner/epochs` how long a trial may be; each begins anew, so that its learning rate can fall to
    zero.

    Args:
        hp: KerasTuner's hyperparameters.
        experiment: Its table `[tune]` says what may be tried, `[train]` all else.
        seed: Seed of first weights, order and dropout: alike for all heads, so that luck differs less.
    """
    tune, train = experiment.tune, experiment.train
    num_layers, units = (_choose_one(hp, name, getattr(tune, name)) for name in ("num_layers", "units"))
    # KerasTuner chooses among values of one kind.
    trainable = _choose_one(hp, "trainable", tuple(map(str, tune.trainables or (train.trainable,))))
    return configure(
        experiment,
        head_units=(units,) * num_layers or (0,),
        sex_units=_choose_one(hp, "sex_units", tune.sex_widths),
        sex_joins=_choose_one(hp, "sex_joins", tune.sex_places),
        dropout=_choose_one(hp, "dropout", tune.dropouts),
        activation=_choose_one(hp, "activation", tune.activations),
        pooling=_choose_one(hp, "pooling", tune.poolings),
        loss=_choose_one(hp, "loss", tune.losses),
        optimizer=_choose_one(hp, "optimizer", tune.optimizers),
        learning_rate=_choose_between(hp, "learning_rate", tune.learning_rates),
        weight_decay=_choose_between(hp, "weight_decay", tune.weight_decays),
        input_size=_choose_one(hp, "input_size", tune.input_sizes or (train.input_size,)),
        trainable=int(trainable) if trainable.isdigit() else trainable,
        epochs=hp.values.get("tuner/epochs", tune.trial_epochs),
        seed=seed,
    )


def _choose_one(hp: keras_tuner.HyperParameters, name: str, values: tuple[Any, ...]) -> Any:
    return hp.Choice(name, list(values)) if len(values) > 1 else hp.Fixed(name, values[0])


def _choose_between(hp: keras_tuner.HyperParameters, name: str, ends: tuple[float, float]) -> float:
    low, high = ends
    return hp.Float(name, low, high, sampling="log") if low < high else hp.Fixed(name, low)


def configure(experiment: Experiment, *, epochs: int, seed: int, **changes: Any) -> TrainConfig:
    """Say how a trial trains: as the experiment, with some changes.

    Args:
        experiment: The experiment; warm-up and epochs of the head alone keep their share of all epochs.
        epochs: Passes over the radiographs to learn from.
        seed: Seed of everything random.
        **changes: What else differs from its table `[train]`.
    """
    train = experiment.train
    share = epochs / train.epochs
    return dataclasses.replace(
        train,
        epochs=epochs,
        warmup_epochs=train.warmup_epochs * share,
        head_epochs=int(train.head_epochs * share),
        seed=seed,
        **changes,
    )


def reference_heads(experiment: Experiment, *, seed: int) -> dict[str, TrainConfig]:
    """Return what every search is measured against: 16Bit's head, and the network's own.

    Both are trained as the experiment's table `[train]` says, for as long as the longest trial.
    """
    epochs = experiment.tune.trial_epochs
    theirs = {
        "head_units": NETWORKS["inceptionv3"].head_units,
        "sex_units": SEX_UNITS,
        "sex_joins": "before",
        "activation": "relu",
        "pooling": "average",
    }
    own = {"head_units": experiment.train.hidden_units or (0,)}
    configs = [configure(experiment, epochs=epochs, seed=seed, **changes) for changes in (theirs, own)]
    return dict(zip(REFERENCES, configs, strict=True))


def check_sizes(experiment: Experiment) -> None:
    """Check that the network takes images of every size that may be tried.

    Raises:
        ConfigError: If it does not.
    """
    network = experiment.train.network
    smallest = NETWORKS[network].min_input_size
    if small := [size for size in experiment.tune.input_sizes if size < smallest]:
        raise ConfigError(f"`input_sizes` must be at least {smallest} for {network}. Received: {small[0]}.")


def read_labels(data: str | Path) -> Labels:
    """Read what is known of the radiographs of the training split.

    Args:
        data: The record folder.

    Raises:
        BoneAgeError: If a shard is damaged.
    """
    shards = split_info(read_info(data), "train", folder=data)["shards"]
    records = (decode(frame) for shard in shards for frame in read_frames(Path(data) / shard["file"]))
    ids, sexes, months = zip(*((each.id, each.sex, each.bone_age_months) for each in records), strict=True)
    return Labels(np.array(ids), np.array(sexes), np.array(months, np.float32))


def build_tower(experiment: Experiment) -> keras.Model:
    """Build the tower that every trial of a search begins with.

    A weights file fits only the network as it is trained, so all of it is built.
    """
    config = experiment.train
    keras.utils.set_random_seed(config.seed)
    model = build_network(config, init=config.init)
    return model.get_layer(config.network)


def hash_weights(tower: keras.Model) -> str:
    """Return the SHA-256 of the weights of a tower (16 hexadecimal digits)."""
    digest = hashlib.sha256(tower.name.encode())
    for weight in tower.get_weights():
        digest.update(str(weight.shape).encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


def train_head(
    config: TrainConfig,
    experiment: Experiment,
    *,
    data: str | Path,
    tower: Sequence[np.ndarray],
    labels: Labels,
    learnt: np.ndarray,
    judged: np.ndarray,
) -> tuple[dict[str, list[float]], Callable[[np.ndarray], np.ndarray]]:
    """Train a network on some radiographs of the training split.

    It begins with the tower of the search and with a new head, also where `init` has a head to take over,
    which would favour the one head that is like it.

    Args:
        config: How, as `configure` says.
        experiment: Gives the augmentation.
        data: The record folder.
        tower: Weights of the tower that `build_tower` built.
        labels: Tells ids and ages of the radiographs.
        learnt: Numbers of the radiographs to learn from.
        judged: Numbers of those that each epoch is validated on, for whoever watches.

    Returns:
        What `boneage.loop.fit` tells of each epoch, and a function from numbers of radiographs to their bone age in
        months, float32 `(radiographs,)`.

    Raises:
        Diverged: If a loss, or later an answer, is no finite number.
    """
    keras.backend.clear_session()
    ages, steps = labels.bone_age_months[learnt], len(learnt) // config.batch_size
    config = dataclasses.replace(config, init="none")
    model = build_to_train(config, mean_months=float(ages.mean()), std_months=float(ages.std()))
    assign_weights(model.get_layer(config.network), tower)
    trained = fuse(model)
    experiment = dataclasses.replace(experiment, train=config)
    strategy = tf.distribute.get_strategy()
    batches = training_batches(data, experiment, steps=steps, ids=labels.ids[learnt])
    validation = distribute(validation_batches(data, config, split="train", ids=labels.ids[judged]), strategy)
    iterator, history = iter(distribute(batches, strategy)), keras.callbacks.History()
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
                callbacks=[history, keras.callbacks.TerminateOnNaN()],
            )
        if trained.stop_training:
            raise Diverged("diverged: the loss is no finite number.")

    @tf.function(reduce_retracing=True)
    def answer(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return trained(inputs, training=False)[:, 0]

    return history.history, lambda rows: _predict(answer, config, data=data, ids=labels.ids[rows])


def _predict(answer: Callable, config: TrainConfig, *, data: str | Path, ids: np.ndarray) -> np.ndarray:
    """Predict bone age in months, in the order of the ids."""
    found: dict[str, float] = {}
    with name_damage(data):
        for batch in read_records(
            data, split="train", input_size=config.input_size, batch_size=config.batch_size, ids=ids
        ):
            inputs, _ = to_example(batch, config)
            found.update(zip((id.decode() for id in batch["id"].numpy()), answer(inputs).numpy(), strict=True))
    months = np.array([found[id] for id in ids], np.float32)
    if not np.isfinite(months).all():
        raise Diverged("diverged: the network answers no finite numbers.")
    return months
