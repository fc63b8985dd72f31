"""One head of a search: how it is trained, with its tower."""

import dataclasses

import keras
import keras_tuner
import numpy as np
import pytest

from boneage.config import AugmentConfig, Experiment, TrainConfig, TuneConfig
from boneage.heads import Diverged, build_tower, choose, read_labels, reference_heads, train_head
from boneage.models import build_network
from tfrecords.read import read_records

TUNE = TuneConfig(trial_epochs=2)
TRAIN = TrainConfig(input_size=32, init="none", batch_size=8, epochs=4, head_epochs=2, learning_rate=2e-3, seed=7)
EXPERIMENT = Experiment("tiny", TRAIN, AugmentConfig(), TUNE)
BRIEF = dataclasses.replace(TRAIN, epochs=1, head_epochs=0, warmup_epochs=0.0)


def tiny_tower(name, *, input_size) -> keras.Model:
    """A tower that is two convolutions."""
    image = keras.Input((input_size, input_size, 1), name="image")
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu", name="conv_1")(image)
    return keras.Model(image, keras.layers.Conv2D(6, 3, activation="relu", name="conv_2")(x), name=name)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.models.build._build_tower", tiny_tower)
        yield


@pytest.fixture(scope="module")
def labels(prepared):
    return read_labels(prepared.folder)


@pytest.fixture
def options(prepared, labels):
    tower = build_tower(EXPERIMENT).get_weights()
    division = {"learnt": np.arange(24), "judged": np.arange(24, 28)}
    return {"data": prepared.folder, "tower": tower, "labels": labels, **division}


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
        num_layers=(0,), sex_widths=(3,), sex_places=("after",), poolings=("both",), activations=("gelu",)
    )
    config = choose(hp, dataclasses.replace(EXPERIMENT, tune=narrow), seed=3)
    assert (config.sex_units, config.sex_joins, config.pooling, config.activation) == (3, "after", "both", "gelu")
    assert (config.head_units, config.epochs, config.warmup_epochs) == ((0,), 1, 0.25)
    assert config.loss in narrow.losses and config.optimizer in narrow.optimizers
    assert narrow.learning_rates[0] <= config.learning_rate <= narrow.learning_rates[1]
    names = [layer.name for layer in build_network(config, init="none").layers]
    assert "average_and_max" in names and "head_1" not in names
    assert names.index("sex") < names.index("image_and_sex") == len(names) - 3


def test_labels_are_those_of_the_records(prepared, labels):
    found = {}
    for batch in read_records(prepared.folder, split="train", input_size=32, batch_size=8):
        found |= dict(zip(batch["id"].numpy().astype(str), batch["bone_age_months"].numpy()[:, 0], strict=True))
    assert dict(zip(labels.ids, labels.bone_age_months, strict=True)) == pytest.approx(found)
    assert set(labels.sexes) == {"female", "male"}


def test_training_repeats_itself_by_its_seed_and_answers_by_id(options):
    first, second = (train_head(BRIEF, EXPERIMENT, **options)[1](np.arange(24, 32)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    history, predict = train_head(BRIEF, EXPERIMENT, **options)
    error = np.abs(predict(np.arange(24, 28)) - options["labels"].bone_age_months[24:28]).mean()
    assert history["val_mae"] == [pytest.approx(error, rel=1e-4)]
    np.testing.assert_allclose(predict(np.array([30, 25])), first[[6, 1]], rtol=1e-5)


def test_begins_with_the_tower_of_the_experiment_and_a_new_head(options, tmp_path, monkeypatch):
    begun, models = build_network(TRAIN, init="none"), []
    begun.save_weights(tmp_path / "begun.weights.h5")
    train = dataclasses.replace(TRAIN, init=str(tmp_path / "begun.weights.h5"))
    experiment = dataclasses.replace(EXPERIMENT, train=train)
    monkeypatch.setattr("boneage.heads.fit", lambda model, *_, **__: models.append(model))
    tower = build_tower(experiment).weights
    options["tower"] = [np.array(weight) for weight in tower]
    # A file that fits one head alone gives its tower to all.
    for units in ((4,), TRAIN.hidden_units):
        train_head(dataclasses.replace(train, head_units=units, seed=3), experiment, **options)
        for mine, theirs in zip(models[-1].get_layer(TRAIN.network).weights, tower, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        mine, theirs = (each.get_layer("sex").kernel for each in (models[-1], begun))
        assert not np.allclose(mine, theirs)


def test_one_that_diverges_says_so(options):
    hot = dataclasses.replace(BRIEF, epochs=2, loss="mse", optimizer="sgd", learning_rate=1e20)
    with pytest.raises(Diverged, match="the loss is no finite number"):
        train_head(hot, EXPERIMENT, **options)
