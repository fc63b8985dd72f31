import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.configuration.tuning import TuneConfig
from boneage.tuning.fit_trial import DivergedError, TrialTimeoutError
from boneage.tuning.report import summary_table
from boneage.tuning.trials import split_folds
from boneage.tuning.tune import TuningError, tune

# Three things to choose: more would cost the Gaussian process seconds a trial.
TUNE = TuneConfig(
    num_layers=(0, 1),
    units=(4, 8),
    sex_widths=(4,),
    sex_places=("before",),
    dropouts=(0.0,),
    activations=("relu",),
    poolings=("average",),
    losses=("mae",),
    optimizers=("adamw",),
    weight_decays=(0.01, 0.01),
    trial_epochs=9,
)
# What a training that is only stood for tells of its epochs.
HISTORY = {"mae": [3.0, 2.0], "val_mae": [4.0, 3.5]}
EXPERIMENT = Experiment("tiny", TrainConfig(input_size=32, init="none", batch_size=8), AugmentConfig(), TUNE)


def tiny_tower(name, *, input_size) -> keras.Model:
    """A backbone that is one convolution."""
    image = keras.Input((input_size, input_size, 1), name="image")
    features = keras.layers.Conv2D(6, 5, strides=4, activation="relu", name="conv")(image)
    return keras.Model(image, features, name=name)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.models.build._build_backbone", tiny_tower)
        yield


@pytest.fixture(scope="module")
def workplace(prepared, tmp_path_factory):
    """A folder beside records that only the training split is left of."""
    folder = tmp_path_factory.mktemp("tuning")
    shutil.copytree(prepared.folder, folder / "records")
    for split in ("validation", "test"):
        for shard in (folder / "records").glob(f"{split}-*"):
            shard.unlink()
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Stands for training: what was trained; the network answers as its learning rate says."""
    configs = []

    def train(config, experiment, *, labels, **_):
        configs.append(config)
        return HISTORY, lambda rows: labels.bone_age_months[rows] + np.float32(100 * config.learning_rate)

    monkeypatch.setattr("boneage.tuning.trials.train_head", train)
    return configs


def search(workplace, name, *, experiment=EXPERIMENT, **options):
    settings = {"num_trials": 5, "tuner": "random", "tracking_uri": "none"} | options
    return tune(experiment, data=workplace / "records", out=workplace / name, **settings)


def change(**changes) -> Experiment:
    return dataclasses.replace(EXPERIMENT, tune=dataclasses.replace(TUNE, **changes))


@pytest.fixture(scope="module")
def finished(_small, workplace):
    """A search that truly trains, tracked in MLflow."""
    uri, told = f"sqlite:///{workplace / 'store' / 'mlflow.db'}", []
    options = {"num_trials": 4, "tracking_uri": uri, "progress": told.append}
    return search(workplace, "finished", experiment=change(trial_epochs=1), **options), uri, told


def test_reports_every_trial_and_what_the_best_is_worth(finished, prepared):
    result, _, told = finished
    assert result.trials["kind"].tolist() == ["16bit", "network", "search", "search"]
    assert result.trials["val_mae_months"].between(1, 300).all()
    assert (result.folder / "trials.csv").read_text().count("\n") == 5
    summary = json.loads((result.folder / "tune.json").read_text())
    assert summary == json.loads(json.dumps(result.summary))
    assert summary["data_digest"] == prepared.info["digest"]
    assert {reference["kind"] for reference in summary["references"]} == {"16bit", "network"}
    assert summary["num_learnt"] + summary["num_judged"] + summary["num_compared"] == 32
    against = summary["best_against"]["16bit"]
    assert against["num_images"] == summary["num_compared"]
    assert against["mae_months"] == pytest.approx(summary["best"][0]["compared_mae_months"], abs=1e-3)
    table = summary_table(summary)
    assert table.row_count == 4
    assert "Best minus 16bit on the held-out part: " in table.caption
    assert len(told) == 4


def test_tracks_each_trial_below_the_search(finished):
    import mlflow

    result, uri, _ = finished
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("boneage-tune").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    maes = sorted(result.trials["val_mae_months"])
    assert sorted(run.data.metrics["val_mae_months"] for run in children) == maes
    # Of one epoch, whose validation is by the same radiographs.
    assert sorted(run.data.metrics["val_mae"] for run in children) == pytest.approx(maes, abs=1e-3)
    assert all(run.data.metrics["mae"] > 1 for run in children)
    assert {run.data.params["kind"] for run in children} == {"16bit", "network", "search"}
    assert {run.data.params["input_size"] for run in children} == {"32"}
    assert parent.data.metrics["val_mae_months"] == result.summary["best"][0]["val_mae_months"]


@pytest.mark.parametrize("tuner", ["hyperband", "bayesian", "random", "grid"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_killed_search_goes_on_and_repeats_nothing(tuner, workplace, trained, monkeypatch):
    monkeypatch.setattr("boneage.tuning.oracles.NUM_INITIAL_TRIALS", 4)
    options = {"num_trials": 10, "tuner": tuner}
    whole = search(workplace, f"whole-{tuner}", **options)
    expected = list(trained)
    assert len(expected) == len(whole.trials) == 10
    trained.clear()

    def killed(*_, **__):
        raise KeyboardInterrupt

    def tell(line):
        if line.startswith("trial 6"):
            raise KeyboardInterrupt

    name = f"killed-{tuner}"
    # Once when a trial was kept but the oracle did not know of it, once before a trial was kept.
    with pytest.raises(KeyboardInterrupt):
        search(workplace, name, progress=tell, **options)
    assert trained == expected[:6]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("boneage.tuning.trials.train_head", killed)
        search(workplace, name, **options)
    resumed = search(workplace, name, **options)
    assert trained == expected
    assert resumed.trials["val_mae_months"].tolist() == whole.trials["val_mae_months"].tolist()
    # A finished search trains nothing when it is asked for again, and goes on when asked for more.
    search(workplace, name, **options)
    assert len(trained) == 10
    search(workplace, name, **{**options, "num_trials": 11})
    assert len(trained) == 11


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(workplace, trained, monkeypatch):
    def train(config, experiment, *, labels, **_):
        trained.append(config)
        if len(trained) <= 2 or len(trained) == 4:
            raise MemoryError
        if len(trained) == 6:
            raise DivergedError("training diverged: the loss is not finite.")
        if len(trained) == 7:
            raise TrialTimeoutError("exceeded its time limit, `trial_seconds`.")
        return HISTORY, lambda rows: labels.bone_age_months[rows] + np.float32(1)

    monkeypatch.setattr("boneage.tuning.trials.train_head", train)
    result = search(workplace, "failing", num_trials=6)
    assert result.trials["status"].tolist() == ["failed", "completed", "completed", "failed", "failed", "completed"]
    assert result.trials["message"].tolist() == [
        "out of memory",
        "",
        "out of memory at first; trained with accumulate_steps=2",
        "training diverged: the loss is not finite.",
        "exceeded its time limit, `trial_seconds`.",
        "",
    ]
    assert [config.accumulate_steps for config in trained] == [1, 2, 1, 1, 2, 1, 1, 1]
    assert result.summary["num_failed"] == 3
    # 16Bit's head is the one that ran out of memory.
    assert result.summary["best_against"].keys() == {"network"}


def test_a_search_of_which_nothing_comes_says_so(workplace, trained, monkeypatch):
    def diverge(config, *_, **__):
        trained.append(config)
        raise DivergedError("diverged: no numbers.")

    monkeypatch.setattr("boneage.tuning.trials.train_head", diverge)
    with pytest.raises(TuningError, match="every trial failed; last error: diverged"):
        search(workplace, "hopeless", num_trials=6, tuner="hyperband")
    assert len(trained) == 6


def test_sizes_and_layers_may_be_searched_too(workplace, trained):
    result = search(workplace, "sizes", experiment=change(input_sizes=(32, 48), trainables=("head", 1)), num_trials=30)
    tried = {(config.input_size, config.trainable) for config in trained[2:]}
    assert tried == {(32, "head"), (32, 1), (48, "head"), (48, 1)}
    assert {*zip(result.trials["input_size"], result.trials["trainable"], strict=True)} == tried | {(32, "all")}
    assert "training the head and 1 layers" in str([*summary_table(result.summary).columns[1].cells])
    with pytest.raises(ConfigError, match=r"`input_sizes` must be at least 32 for efficientnet_lite0\. Received: 16\."):
        search(workplace, "small", experiment=change(input_sizes=(64, 16)))


def test_each_fold_is_judged_by_what_learnt_from_the_others(workplace, monkeypatch):
    parts = []

    def train(config, experiment, *, labels, train_rows, validation_rows, **_):
        parts.append((set(train_rows), set(validation_rows)))
        return HISTORY, lambda rows: labels.bone_age_months[rows] + np.float32(2)

    monkeypatch.setattr("boneage.tuning.trials.train_head", train)
    result = search(workplace, "folds", experiment=change(num_folds=3), num_trials=3)
    assert len(parts) == 3 * 3
    assert all(not learnt & judged for learnt, judged in parts)
    assert sum(len(judged) for _, judged in parts[:3]) == result.summary["num_judged"]
    assert result.trials["val_mae_months"].tolist() == [2.0] * 3


@pytest.mark.parametrize("num_folds", [1, 3])
def test_divides_by_id_alone(num_folds):
    ids = np.array([str(number) for number in range(1000)])
    compared, folds = split_folds(ids, seed=1, num_folds=num_folds)
    assert compared.sum() == 100
    judged = np.sum(folds, axis=0)
    assert set(judged + compared) == ({0, 1} if num_folds == 1 else {1})
    backwards, _ = split_folds(ids[::-1], seed=1, num_folds=num_folds)
    np.testing.assert_array_equal(backwards[::-1], compared)
    with pytest.raises(TuningError, match="too few for"):
        split_folds(ids[:2], seed=1, num_folds=num_folds)


def test_split_folds_leaves_no_patient_on_two_sides():
    groups = np.array([f"group:{number // 4}" for number in range(200)])
    compared, folds = split_folds(groups, seed=1, num_folds=3)
    for part in (compared, *folds):
        assert part.sum() % 4 == 0 and len(set(groups[part])) == part.sum() / 4
    with pytest.raises(TuningError, match="200 radiographs of 2 patients are too few for 3 folds"):
        split_folds(np.repeat(["a", "b"], 100), seed=1, num_folds=3)


def test_refuses_the_folder_of_another_search(workplace, trained):
    search(workplace, "taken", num_trials=3)
    with pytest.raises(TuningError, match="a search with a different tuner"):
        search(workplace, "taken", num_trials=3, tuner="grid")
    with pytest.raises(ValueError, match="Did you mean 'bayesian'"):
        search(workplace, "taken", tuner="bayes")


def test_a_search_without_a_finished_trial_is_started_again_with_the_corrected_command(workplace, trained, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boneage.tuning.trials.train_head", killed)
        with pytest.raises(KeyboardInterrupt):
            search(workplace, "corrected", seed=3)
    assert search(workplace, "corrected", seed=4).summary["seed"] == 4
    with pytest.raises(TuningError, match="a different seed"):
        search(workplace, "corrected", seed=3)


def test_a_kill_after_a_trial_is_reported_reports_it_once(workplace, trained, monkeypatch):
    uri = f"sqlite:///{workplace / 'store' / 'mlflow.db'}"
    with monkeypatch.context() as patch:
        patch.setattr("boneage.tuning.oracles._Random.end_trial", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            search(workplace, "reported", tracking_uri=uri)
    search(workplace, "reported", tracking_uri=uri)
    entries = [json.loads(line) for line in (workplace / "reported" / "tracking.jsonl").read_text().splitlines()]
    names = [entry["name"] for entry in entries if entry["kind"] == "begin" and entry["parent"]]
    assert len(names) == len(set(names)) == 5
