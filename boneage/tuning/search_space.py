"""The search space: the heads that a search tries, and the reference heads that it is compared with."""

import dataclasses
from typing import Any

import keras_tuner

from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import Experiment
from boneage.configuration.networks import NETWORKS, SEX_UNITS, get_network
from boneage.configuration.training import TrainConfig

# The first trials of every search, with the numbers 1 and 2.
REFERENCE_HEADS = ("16bit", "network")
# The settings of the table `[train]` that can differ between trials.
SEARCHED_SETTINGS = (
    "head",
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


def sample_config(hp: keras_tuner.HyperParameters, experiment: Experiment, *, seed: int) -> TrainConfig:
    """Sample a head and its training from hyperparameters.

    Hyperband sets the epochs of a trial in `tuner/epochs`; every trial starts from the beginning, so that its learning
    rate decays to zero.

    Args:
        hp: KerasTuner's hyperparameters.
        experiment: The table `[tune]` is the search space, `[train]` contains all other settings.
        seed: Seed of initial weights, order and dropout, the same for all heads to reduce random differences.
    """
    tune, train = experiment.tune, experiment.train
    num_layers, units = (_choose_one(hp, name, getattr(tune, name)) for name in ("num_layers", "units"))
    # KerasTuner needs values of the same type.
    trainable = _choose_one(hp, "trainable", tuple(map(str, tune.trainables or (train.trainable,))))
    return trial_config(
        experiment,
        head=_choose_one(hp, "head", tune.heads),
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
    return float(hp.Float(name, low, high, sampling="log") if low < high else hp.Fixed(name, low))


def trial_config(experiment: Experiment, *, epochs: int, seed: int, **changes: Any) -> TrainConfig:
    """Return the settings of a trial: those of the experiment with some changes.

    Args:
        experiment: The experiment; warm-up and head epochs keep their fraction of all epochs.
        epochs: Number of epochs of the trial.
        seed: Seed of all random numbers.
        **changes: Other changes of the table `[train]`.
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
    """Return the reference heads of every search: the head of 16Bit's network and the default of the network.

    Both are trained with the settings of the table `[train]`, for as many epochs as the longest trial.
    """
    epochs = experiment.tune.trial_epochs
    theirs = {
        "head": "regression",
        "head_units": NETWORKS["inceptionv3"].head_units,
        "sex_units": SEX_UNITS,
        "sex_joins": "before",
        "activation": "relu",
        "pooling": "average",
    }
    own = {"head_units": experiment.train.hidden_units or (0,)}
    configs = [trial_config(experiment, epochs=epochs, seed=seed, **changes) for changes in (theirs, own)]
    return dict(zip(REFERENCE_HEADS, configs, strict=True))


def check_sizes(experiment: Experiment) -> None:
    """Check that the network supports every input size of the search space.

    Raises:
        ConfigError: If an input size is too small.
    """
    network = experiment.train.network
    smallest = get_network(network).min_input_size
    if small := [size for size in experiment.tune.input_sizes if size < smallest]:
        raise ConfigError(f"`input_sizes` must be at least {smallest} for {network}. Received: {small[0]}.")
