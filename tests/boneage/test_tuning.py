import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import boneage.trials
from boneage.config import AugmentConfig, Experiment, TrainConfig, TuneConfig
from boneage.features import read_features
from boneage.heads import Diverged, predict_head, reference_heads, train_head
from boneage.trials import divide
from boneage.tuning import TuningFailed, tune
from boneage.tuning_report import lay_out

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
    trial_batch_size=8,
    fine_epochs=0,
)
EXPERIMENT = Experiment(
    "tiny", TrainConfig(input_size=32, init="none", batch_size=8), AugmentConfig(flip_share=0.5), TUNE
)


def tiny_tower(name, *, input_size) -> keras.Model:
    """A tower that is one convolution."""
    image = keras.Input((input_size, input_size, 1), name="image")
    features = keras.layers.Conv2D(6, 5, strides=4, activation="relu", name="conv")(image)
    return keras.Model(image, features, name=name)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.models.build._build_tower", tiny_tower)
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which the features are computed once for all tests."""
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def features(_small, prepared, workplace):
    return read_features(EXPERIMENT, data=prepared.folder, folder=workplace / "features")


@pytest.fixture
def trained(monkeypatch):
    """Stands for training: the heads that were trained, each of which answers as its learning rate says."""
    heads = []

    def train(head, features, **_):
        heads.append(head)
        return head

    def predict(head, features, *, rows):
        return features.bone_age_months[rows, 0] + np.float32(100 * head.learning_rate)

    monkeypatch.setattr("boneage.trials.train_head", train)
    monkeypatch.setattr("boneage.trials.predict_head", predict)
    return heads


@pytest.fixture(scope="module")
def finished(_small, prepared, workplace):
    """A search that truly trains, tracked in MLflow."""
    small = dataclasses.replace(EXPERIMENT, tune=dataclasses.replace(TUNE, trial_epochs=1))
    uri = f"sqlite:///{workplace / 'store' / 'mlflow.db'}"
    told = []
    options = {"num_trials": 3, "tuner": "random", "tracking_uri": uri, "progress": told.append}
    return tune(small, data=prepared.folder, out=workplace / "finished", **options), uri, told


def test_reports_every_trial_and_what_the_best_is_worth(finished, prepared):
    result, _, told = finished
    assert result.trials["kind"].tolist() == ["16bit", "network", "search"]
    assert (result.folder / "trials.csv").read_text().count("\n") == 4
    summary = json.loads((result.folder / "tune.json").read_text())
    assert summary == json.loads(json.dumps(result.summary))
    assert summary["data_digest"] == prepared.info["digest"]
    assert {each["kind"] for each in summary["references"]} == {"16bit", "network"}
    assert summary["num_learnt"] + summary["num_judged"] + summary["num_compared"] == 32
    against = summary["best_against"]["16bit"]
    assert against["num_images"] == summary["num_compared"]
    assert against["mae_months"] == pytest.approx(summary["best"][0]["compared_mae_months"], abs=1e-3)
    assert lay_out(summary).row_count == 3
    assert len(told) == 3


def test_tracks_each_trial_below_the_search(finished):
    import mlflow

    result, uri, _ = finished
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("boneage-tune").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.metrics["val_mae"] for run in children) == sorted(result.trials["val_mae_months"])
    assert {run.data.params["kind"] for run in children} == {"16bit", "network", "search"}
    assert parent.data.metrics["val_mae_months"] == result.summary["best"][0]["val_mae_months"]


def test_the_references_are_16bits_head_and_the_networks_own():
    heads = reference_heads(TrainConfig(loss="huber"), TUNE)
    assert heads["16bit"].head_units == (1000, 1000)
    assert heads["network"].head_units == (256,)
    assert all((head.sex_units, head.sex_joins, head.loss) == (32, "before", "huber") for head in heads.values())


@pytest.mark.parametrize("tuner", ["hyperband", "bayesian", "random", "grid"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_killed_search_goes_on_and_repeats_nothing(tuner, prepared, workplace, trained, monkeypatch):
    monkeypatch.setattr("boneage.oracles.NUM_INITIAL_TRIALS", 4)
    options = {"data": prepared.folder, "num_trials": 10, "tuner": tuner, "tracking_uri": "none"}
    whole = tune(EXPERIMENT, out=workplace / f"whole-{tuner}", **options)
    expected = list(trained)
    assert len(expected) == len(whole.trials) == 10
    trained.clear()

    def killed(*_, **__):
        raise KeyboardInterrupt

    def tell(line):
        if line.startswith("trial 6"):
            raise KeyboardInterrupt

    out = workplace / f"killed-{tuner}"
    # Once when a trial was kept but the oracle did not know of it, once before a trial was kept.
    with pytest.raises(KeyboardInterrupt):
        tune(EXPERIMENT, out=out, progress=tell, **options)
    assert trained == expected[:6]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("boneage.trials.predict_head", killed)
        tune(EXPERIMENT, out=out, **options)
    assert trained.pop() == expected[6]
    resumed = tune(EXPERIMENT, out=out, **options)
    assert trained == expected
    assert resumed.trials["val_mae_months"].tolist() == whole.trials["val_mae_months"].tolist()
    # A finished search trains nothing when it is asked for again, and goes on when asked for more.
    tune(EXPERIMENT, out=out, **options)
    assert len(trained) == 10
    tune(EXPERIMENT, out=out, **{**options, "num_trials": 11})
    assert len(trained) == 11


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(prepared, workplace, trained, monkeypatch):
    real = boneage.trials.predict_head

    def predict(head, features, *, rows):
        if len(trained) == 4:
            raise Diverged("diverged: the head answers no finite numbers.")
        if len(trained) == 5:
            raise MemoryError
        return real(head, features, rows=rows)

    monkeypatch.setattr("boneage.trials.predict_head", predict)
    options = {"num_trials": 7, "tuner": "random", "tracking_uri": "none"}
    result = tune(EXPERIMENT, data=prepared.folder, out=workplace / "failing", **options)
    assert result.trials["status"].tolist() == ["completed"] * 3 + ["failed"] * 2 + ["completed"] * 2
    assert result.trials["message"].tolist()[3:5] == ["diverged: the head answers no finite numbers.", "out of memory"]
    assert result.summary["num_failed"] == 2


def test_a_search_of_which_nothing_comes_says_so(prepared, workplace, trained, monkeypatch):
    def diverge(*_, **__):
        raise Diverged("diverged: no numbers.")

    monkeypatch.setattr("boneage.trials.predict_head", diverge)
    options = {"num_trials": 6, "tuner": "hyperband", "tracking_uri": "none"}
    with pytest.raises(TuningFailed, match="no head of the search could be trained; the last says: diverged"):
        tune(EXPERIMENT, data=prepared.folder, out=workplace / "hopeless", **options)
    assert len(trained) == 6


def test_never_reads_the_validation_split_and_computes_features_once(prepared, tmp_path, trained, monkeypatch):
    records = tmp_path / "records"
    shutil.copytree(prepared.folder, records)
    for split in ("validation", "test"):
        for shard in records.glob(f"{split}-*"):
            shard.unlink()
    options = {"data": records, "num_trials": 3, "tuner": "random", "tracking_uri": "none"}
    tune(EXPERIMENT, out=tmp_path / "first", **options)

    def read(*_, **__):
        raise AssertionError("the features were kept")

    monkeypatch.setattr("boneage.features.read_records", read)
    tune(EXPERIMENT, out=tmp_path / "second", **options)
    assert len(list((tmp_path / "features").iterdir())) == 1
    with pytest.raises(AssertionError):
        tune(dataclasses.replace(EXPERIMENT, augment=AugmentConfig(flip_share=0)), out=tmp_path / "third", **options)


def test_features_are_of_both_views_and_a_damaged_file_is_made_anew(features, prepared, workplace, tmp_path):
    assert features.average.shape == features.max.shape == (2, 32, 6)
    assert features.average.dtype == np.float16
    assert np.abs(features.max[0] - features.max[1]).max() > 0.01
    (kept,) = (workplace / "features").iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / kept.name).write_bytes(damaged)
    again = read_features(EXPERIMENT, data=prepared.folder, folder=tmp_path)
    np.testing.assert_allclose(again.average, features.average, atol=2e-3)
    assert again.ids.tolist() == features.ids.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "both", "sex_joins": "after", "optimizer": "sgd", "learning_rate": 1e-3, "head_units": (4,)},
        {"pooling": "max", "optimizer": "adam", "dropout": 0.2, "loss": "log_cosh", "head_units": ()},
    ],
)
def test_trains_any_head_and_repeats_it_by_its_seed(changes, features):
    head = dataclasses.replace(reference_heads(EXPERIMENT.train, TUNE)["network"], epochs=1, **changes)
    options = {"rows": np.arange(24), "use_sex": True, "batch_size": 8, "flip_share": 0.5, "seed": 3}
    first, second = (
        predict_head(train_head(head, features, **options), features, rows=np.arange(24, 32)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_head_that_diverges_says_so(features):
    head = reference_heads(EXPERIMENT.train, TUNE)["network"]
    hot = dataclasses.replace(head, optimizer="sgd", loss="mse", learning_rate=1e20, epochs=2)
    model = train_head(hot, features, rows=np.arange(32), use_sex=False, batch_size=8, flip_share=0.0, seed=0)
    with pytest.raises(Diverged):
        predict_head(model, features, rows=np.arange(32))


@pytest.mark.parametrize("num_folds", [1, 3])
def test_divides_by_id_alone(num_folds):
    ids = np.array([str(number) for number in range(1000)])
    compared, folds = divide(ids, seed=1, num_folds=num_folds)
    assert compared.sum() == 100
    judged = np.sum(folds, axis=0)
    assert set(judged + compared) == ({0, 1} if num_folds == 1 else {1})
    backwards, _ = divide(ids[::-1], seed=1, num_folds=num_folds)
    np.testing.assert_array_equal(backwards[::-1], compared)
    with pytest.raises(TuningFailed, match="too few to divide"):
        divide(ids[:2], seed=1, num_folds=num_folds)


def test_refuses_the_folder_of_another_search(prepared, workplace, trained):
    options = {"data": prepared.folder, "out": workplace / "taken", "num_trials": 3, "tracking_uri": "none"}
    tune(EXPERIMENT, tuner="random", **options)
    with pytest.raises(TuningFailed, match="a search with another tuner"):
        tune(EXPERIMENT, tuner="grid", **options)
    with pytest.raises(ValueError, match="Did you mean 'bayesian'"):
        tune(EXPERIMENT, tuner="bayes", **options)
