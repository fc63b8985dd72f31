"""One head of a search: how it is trained, with its backbone."""

import dataclasses

import keras
import numpy as np
import pytest

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.configuration.tuning import TuneConfig
from boneage.models.build import build_network
from boneage.tfrecords.reader import read_records
from boneage.tuning.fit_trial import DivergedError, build_backbone, read_labels, train_head

TUNE = TuneConfig(trial_epochs=2)
TRAIN = TrainConfig(init="none", input_size=32, batch_size=8, epochs=4, head_epochs=2, learning_rate=2e-3, seed=7)
EXPERIMENT = Experiment("tiny", TRAIN, AugmentConfig(), TUNE)
BRIEF = dataclasses.replace(TRAIN, epochs=1, head_epochs=0, warmup_epochs=0.0)


def tiny_tower(name, *, input_size) -> keras.Model:
    """A backbone that is two convolutions."""
    image = keras.Input((input_size, input_size, 1), name="image")
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu", name="conv_1")(image)
    return keras.Model(image, keras.layers.Conv2D(6, 3, activation="relu", name="conv_2")(x), name=name)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.models.build._build_backbone", tiny_tower)
        yield


@pytest.fixture(scope="module")
def labels(prepared):
    return read_labels(prepared.folder)


@pytest.fixture
def options(prepared, labels):
    backbone = build_backbone(EXPERIMENT).get_weights()
    division = {"train_rows": np.arange(24), "validation_rows": np.arange(24, 28)}
    return {"data": prepared.folder, "backbone": backbone, "labels": labels, **division}


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
    begun, models = build_network(TRAIN), []
    begun.save_weights(tmp_path / "begun.weights.h5")
    train = dataclasses.replace(TRAIN, init=str(tmp_path / "begun.weights.h5"))
    experiment = dataclasses.replace(EXPERIMENT, train=train)
    monkeypatch.setattr("boneage.tuning.fit_trial.fit", lambda model, *_, **__: models.append(model))
    backbone = build_backbone(experiment).weights
    options["backbone"] = [np.array(weight) for weight in backbone]
    # A file that fits one head alone gives its backbone to all.
    for units in ((4,), TRAIN.hidden_units):
        train_head(dataclasses.replace(train, head_units=units, seed=3), experiment, **options)
        for mine, theirs in zip(models[-1].get_layer(TRAIN.network).weights, backbone, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        mine, theirs = (model.get_layer("sex").kernel for model in (models[-1], begun))
        assert not np.allclose(mine, theirs)


def test_one_that_diverges_says_so(options):
    hot = dataclasses.replace(BRIEF, epochs=2, loss="mse", optimizer="sgd", learning_rate=1e20)
    with pytest.raises(DivergedError, match="the loss is not finite"):
        train_head(hot, EXPERIMENT, **options)
