"""What a search may try, and what it is compared with."""

import dataclasses

import keras_tuner
import pytest

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.configuration.tuning import TuneConfig
from boneage.models.build import build_network
from boneage.tuning.search_space import check_sizes, reference_heads, sample_config

TRAIN = TrainConfig(init="none", input_size=32, batch_size=8, epochs=4, head_epochs=2, learning_rate=2e-3, seed=7)
EXPERIMENT = Experiment("tiny", TRAIN, AugmentConfig(), TuneConfig(trial_epochs=2))


def test_the_references_are_16bits_head_and_the_networks_own():
    heads = reference_heads(dataclasses.replace(EXPERIMENT, train=dataclasses.replace(TRAIN, loss="huber")), seed=3)
    assert heads["16bit"].head_units == (1000, 1000)
    assert heads["network"].head_units == (256,)
    for head in heads.values():
        assert (head.sex_units, head.sex_joins, head.loss, head.seed) == (32, "before", "huber", 3)
        assert (head.epochs, head.head_epochs, head.warmup_epochs) == (2, 1, 0.5)


def test_a_head_is_chosen_among_what_the_experiment_allows():
    hp = keras_tuner.HyperParameters()
    hp.values["tuner/epochs"] = 1
    narrow = TuneConfig(
        heads=("distribution",),
        num_layers=(0,),
        sex_widths=(3,),
        sex_places=("after",),
        poolings=("both",),
        activations=("gelu",),
    )
    config = sample_config(hp, dataclasses.replace(EXPERIMENT, tune=narrow), seed=3)
    assert (config.sex_units, config.sex_joins, config.pooling, config.activation) == (3, "after", "both", "gelu")
    assert (config.head_units, config.epochs, config.warmup_epochs) == ((0,), 1, 0.25)
    assert config.loss in narrow.losses and config.optimizer in narrow.optimizers
    assert narrow.learning_rates[0] <= config.learning_rate <= narrow.learning_rates[1]
    assert config.head == "distribution"
    names = [layer.name for layer in build_network(config).layers]
    assert "average_and_max" in names and "head_1" not in names
    assert names.index("sex") < names.index("image_and_sex") == len(names) - 4


def test_sizes_below_the_networks_smallest_input_are_refused():
    too_small = dataclasses.replace(EXPERIMENT, tune=TuneConfig(input_sizes=(64, 16)))
    with pytest.raises(ConfigError, match=r"`input_sizes` must be at least 32 for efficientnet_lite0. Received: 16."):
        check_sizes(too_small)
