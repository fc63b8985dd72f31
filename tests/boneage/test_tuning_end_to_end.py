"""The second stage of a search: the best heads trained with their tower."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from boneage.config import AugmentConfig, ConfigError, Experiment, TrainConfig, TuneConfig
from boneage.end_to_end import configure, retrain, train_end_to_end
from boneage.features import read_features
from boneage.heads import Diverged, reference_heads
from boneage.models import build_network
from boneage.tuning import tune
from boneage.tuning_report import lay_out

TUNE = TuneConfig(
    num_layers=(0, 1),
    units=(4, 8),
    sex_widths=(4,),
    sex_places=("before", "after"),
    poolings=("average", "both"),
    optimizers=("sgd",),
    trial_epochs=1,
    trial_batch_size=8,
    best_k=2,
    fine_epochs=1,
)
TRAIN = TrainConfig(input_size=32, init="none", batch_size=8, epochs=4, head_epochs=2, learning_rate=2e-3, seed=7)
EXPERIMENT = Experiment("tiny", TRAIN, AugmentConfig(), TUNE)


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
def records(prepared, tmp_path_factory):
    """Records that only the training split is left of."""
    folder = tmp_path_factory.mktemp("end_to_end") / "records"
    shutil.copytree(prepared.folder, folder)
    for split in ("validation", "test"):
        for shard in folder.glob(f"{split}-*"):
            shard.unlink()
    return folder


@pytest.fixture(scope="module")
def features(_small, records):
    return read_features(EXPERIMENT, data=records, folder=records.parent / "features")


@pytest.fixture(scope="module")
def finished(_small, records):
    """A search that truly trains, tracked in MLflow."""
    uri, told = f"sqlite:///{records.parent / 'store' / 'mlflow.db'}", []
    options = {"num_trials": 5, "tuner": "random", "tracking_uri": uri, "progress": told.append}
    return tune(EXPERIMENT, data=records, out=records.parent / "finished", **options), uri, told


@pytest.fixture
def trained(monkeypatch):
    """Stands for training, of heads alone and end to end: the networks that were trained, as their settings."""
    networks = []

    def predict(head, features, *, rows):
        return features.bone_age_months[rows, 0] + np.float32(100 * head.learning_rate)

    def train(config, experiment, *, features, **_):
        networks.append(config)
        return lambda rows: features.bone_age_months[rows, 0] + np.float32(len(networks))

    monkeypatch.setattr("boneage.trials.train_head", lambda head, features, **_: head)
    monkeypatch.setattr("boneage.trials.predict_head", predict)
    monkeypatch.setattr("boneage.trials.train_end_to_end", train)
    return networks


def search(records, name, *, experiment=EXPERIMENT, **options):
    settings = {"num_trials": 5, "tuner": "random", "tracking_uri": "none"} | options
    return tune(experiment, data=records, out=records.parent / name, **settings)


def change(**changes) -> Experiment:
    return dataclasses.replace(EXPERIMENT, tune=dataclasses.replace(TUNE, **changes))


def test_trains_the_references_and_the_best_heads_end_to_end(finished):
    result, _, told = finished
    table = result.trials
    assert table["kind"].tolist() == ["16bit", "network", *["search"] * 3, *["end_to_end"] * 4]
    again = table[table["kind"] == "end_to_end"]
    best = [each["number"] for each in result.summary["best"]]
    assert again["number"].tolist() == [1, 2, *sorted(best)]
    assert (again["optimizer"] == "adamw").all() and (again["learning_rate"] == 2e-3).all()
    assert (again["input_size"] == 32).all() and (again["trainable"] == "all").all()
    assert (table["trainable"][:5] == "head").all()
    assert again["val_mae_months"].between(1, 300).all()
    assert len(told) == 9


def test_tells_whether_the_order_carries_over_and_what_the_best_is_worth(finished):
    result, _, _ = finished
    told = json.loads((result.folder / "tune.json").read_text())["end_to_end"]
    (correlation,) = told["rank_correlation"]
    assert (correlation["num_heads"], correlation["input_size"], correlation["trainable"]) == (4, 32, "all")
    assert -1 <= correlation["correlation"] <= 1
    by_number = result.trials.set_index(["kind", "number"])["val_mae_months"]
    numbers = [1, 2, *(each["number"] for each in told["best"])]
    first = [by_number[("16bit", "network", "search")[min(number, 3) - 1], number] for number in numbers]
    ranks = [np.argsort(np.argsort(maes)) for maes in (first, [by_number["end_to_end", each] for each in numbers])]
    assert correlation["correlation"] == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-3)
    against = told["best_against"]["16bit"]
    assert against["num_images"] == result.summary["num_compared"]
    assert against["mae_months"] == pytest.approx(told["best"][0]["compared_mae_months"], abs=1e-3)
    assert [each["number"] for each in told["references"]] in ([1, 2], [2, 1])
    table = lay_out(result.summary)
    assert table.row_count == 8
    assert "Rank correlation of the two stages over 4 heads, 32 px, the whole network learning: " in table.caption
    assert "Best end to end against 16bit when compared" in table.caption


def test_tracks_each_of_them_below_the_search(finished):
    import mlflow

    result, uri, _ = finished
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("boneage-tune").experiment_id])
    children = [run for run in runs if run.data.params.get("kind") == "end_to_end"]
    maes = result.trials.loc[result.trials["kind"] == "end_to_end", "val_mae_months"]
    assert sorted(run.data.metrics["val_mae"] for run in children) == sorted(maes)
    assert {run.data.params["input_size"] for run in children} == {"32"}


def test_a_killed_second_stage_goes_on_and_repeats_nothing(records, trained):
    def tell(line):
        if line.startswith("trial 2 (end_to_end)"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(records, "killed", progress=tell)
    assert len(trained) == 2
    result = search(records, "killed")
    assert len(trained) == 4
    assert (result.trials["kind"] == "end_to_end").sum() == 4
    # With more heads in the first stage, only those that are new among the best are trained.
    result = search(records, "killed", num_trials=30)
    numbers = set(result.trials.loc[result.trials["kind"] == "end_to_end", "number"])
    assert {each["number"] for each in result.summary["best"]} <= numbers
    assert len(trained) == len(numbers) > 4


def test_one_that_fails_is_recorded_and_the_others_go_on(records, trained, monkeypatch):
    def train(config, experiment, *, features, **_):
        trained.append(config)
        if len(trained) == 1:
            raise MemoryError
        if len(trained) == 3:
            raise Diverged("diverged: the loss is no finite number.")
        return lambda rows: features.bone_age_months[rows, 0] + np.float32(1)

    monkeypatch.setattr("boneage.trials.train_end_to_end", train)
    result = search(records, "failing")
    again = result.trials[result.trials["kind"] == "end_to_end"].sort_values("number")
    assert again["status"].tolist().count("failed") == 2
    assert set(again["message"]) == {"out of memory", "diverged: the loss is no finite number.", ""}
    told = result.summary["end_to_end"]
    # 16Bit's head is the one that ran out of memory.
    assert told["best_against"].keys() == {"network"}
    assert told["rank_correlation"] == [
        {"input_size": 32, "trainable": "all", "num_heads": 2, "correlation": None, "p_value": None}
    ]
    assert "not told by so few" in lay_out(result.summary).caption


def test_sizes_and_layers_are_combined(records, trained):
    result = search(records, "combined", experiment=change(input_sizes=(32, 48), trainables=("head", 1), best_k=1))
    settings = {(32, "head"), (32, 1), (48, "head"), (48, 1)}
    assert len(trained) == 3 * len(settings)
    assert {(config.input_size, config.trainable) for config in trained} == settings
    told = result.summary["end_to_end"]["rank_correlation"]
    assert {(each["input_size"], each["trainable"]) for each in told} == settings
    assert all(each["num_heads"] == 3 for each in told)
    with pytest.raises(ConfigError, match=r"`input_sizes` must be at least 32 for efficientnet_lite0\. Received: 16\."):
        search(records, "small", experiment=change(input_sizes=(64, 16)))


def test_heads_from_the_whole_order_are_trained_beside_the_best(records, trained):
    result = search(records, "spread", experiment=change(best_k=1, spread_k=3), num_trials=14)
    table = result.trials
    order = table[table["kind"] == "search"].sort_values("val_mae_months", kind="stable")["number"].tolist()
    again = table.loc[table["kind"] == "end_to_end", "number"].tolist()
    assert len(order) == 12 and sorted(again) == sorted([1, 2, order[0], order[1], order[6], order[11]])
    assert result.summary["end_to_end"]["rank_correlation"][0]["num_heads"] == 6
    assert [each["number"] for each in result.summary["best"]] == order[:1]


def test_heads_that_differ_in_their_optimizer_alone_are_trained_once(records, trained):
    alike = {"num_layers": (1,), "units": (4,), "dropouts": (0.0,), "activations": ("relu",), "poolings": ("max",)}
    experiment = change(**alike, sex_places=("before",), losses=("mae",), optimizers=("adam", "sgd"))
    result = search(records, "alike", experiment=experiment)
    assert len(trained) == 3
    (best,) = result.summary["end_to_end"]["best"]
    assert best["number"] == result.summary["best"][0]["number"]


def test_no_epochs_leave_it_out(records, trained):
    result = search(records, "first-only", experiment=change(fine_epochs=0))
    assert not trained
    assert result.summary["end_to_end"] is None
    assert lay_out(result.summary).row_count == 4


def test_a_head_is_trained_by_the_experiments_optimizer_and_with_its_own_layers():
    found = dataclasses.replace(
        reference_heads(TRAIN, TUNE)["network"],
        head_units=(),
        sex_units=3,
        sex_joins="after",
        pooling="both",
        activation="gelu",
        loss="huber",
        optimizer="sgd",
        learning_rate=0.5,
    )
    config = configure(retrain(found, EXPERIMENT), EXPERIMENT, input_size=64, trainable=1, seed=3)
    assert (config.optimizer, config.learning_rate, config.loss) == ("adamw", 2e-3, "huber")
    assert (config.epochs, config.head_epochs, config.warmup_epochs) == (1, 0, 0.25)
    assert (config.input_size, config.trainable, config.seed) == (64, 1, 3)
    names = [layer.name for layer in build_network(config, init="none").layers]
    assert "average_and_max" in names and "head_1" not in names
    assert names.index("sex") < names.index("image_and_sex") == len(names) - 3


@pytest.fixture
def division():
    return {"learnt": np.arange(24), "judged": np.arange(24, 28)}


def test_training_repeats_itself_by_its_seed_and_answers_by_id(records, features, division):
    config = dataclasses.replace(TRAIN, epochs=1, head_epochs=0, warmup_epochs=0.0)
    options = {"data": records, "features": features, **division}
    first, second = (train_end_to_end(config, EXPERIMENT, **options)(np.arange(24, 32)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    predict = train_end_to_end(config, EXPERIMENT, **options)
    np.testing.assert_allclose(predict(np.array([30, 25])), first[[6, 1]], rtol=1e-5)


def test_begins_with_the_tower_of_the_experiment_and_a_new_head(records, features, division, tmp_path, monkeypatch):
    head = reference_heads(TRAIN, TUNE)["network"]
    begun = build_network(TRAIN, init="none")
    begun.save_weights(tmp_path / "begun.weights.h5")
    train = dataclasses.replace(TRAIN, init=str(tmp_path / "begun.weights.h5"))
    experiment, models = dataclasses.replace(EXPERIMENT, train=train), []
    monkeypatch.setattr("boneage.end_to_end.fit", lambda model, *_, **__: models.append(model))
    # A file that fits one head alone gives its tower to all.
    for units in ((4,), head.head_units):
        again = retrain(dataclasses.replace(head, head_units=units), experiment)
        config = configure(again, experiment, input_size=32, trainable="all", seed=3)
        train_end_to_end(config, experiment, data=records, features=features, **division)
        for mine, theirs in zip(*(each.get_layer(TRAIN.network).weights for each in (models[-1], begun)), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        mine, theirs = (each.get_layer("sex").kernel for each in (models[-1], begun))
        assert not np.allclose(mine, theirs)


def test_one_that_diverges_says_so(records, features, division):
    config = dataclasses.replace(
        TRAIN, epochs=2, head_epochs=0, warmup_epochs=0.0, loss="mse", optimizer="sgd", learning_rate=1e20
    )
    with pytest.raises(Diverged, match="the loss is no finite number"):
        train_end_to_end(config, EXPERIMENT, data=records, features=features, **division)
