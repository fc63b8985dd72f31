import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from boneage.bundles.bundle import load_bundle
from boneage.bundles.save import load_network
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.registry.store import open_store
from boneage.tfrecords.info import RecordsError
from boneage.training.augmentation import DRAWS
from boneage.training.datasets import training_batches, validation_batches
from boneage.training.train import TrainingError, train
from boneage.training.validation import list_used_radiographs

EXPERIMENT = Experiment(
    "tiny",
    TrainConfig(init="none", input_size=32, dropout=0.2, epochs=2, batch_size=8, warmup_epochs=0.5, seed=5),
    AugmentConfig(blur_px=0.5, noise_share=0.02),
)


def tiny_model(name, *, input_size, dropout, target_mean_months, target_std_months, **_) -> keras.Model:
    """A network that trains in a second; the real ones are fitted in test_models."""
    layers = keras.layers
    image, male = keras.Input((input_size, input_size, 1), name="image"), keras.Input((1,), name="male")
    x = layers.Conv2D(8, 5, strides=4, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    backbone = keras.Model(image, x, name=name)
    x = layers.Concatenate(name="join")([layers.GlobalAveragePooling2D(name="pool")(backbone(image)), male])
    x = layers.Dense(1, dtype="float32", name="standardized")(layers.Dropout(dropout, name="dropout")(x))
    months = layers.Rescaling(target_std_months, target_mean_months, dtype="float32", name="months")(x)
    return keras.Model({"image": image, "male": male}, months, name=name)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.models.build.build_model", tiny_model)
        yield


@pytest.fixture(scope="module")
def finished(_small, prepared, tmp_path_factory):
    """An uninterrupted run, tracked in MLflow."""
    folder = tmp_path_factory.mktemp("training")
    uri = f"sqlite:///{folder / 'store' / 'mlflow.db'}"
    return train(EXPERIMENT, data=prepared.folder, run=folder / "run", tracking_uri=uri), uri


def test_writes_a_bundle_that_predicts_months(finished, prepared):
    result, _ = finished
    frame = load_bundle(result.bundle).predict_records(prepared.folder, split="validation")
    mae_months = (frame["predicted_months"] - frame["bone_age_months"]).abs().mean()
    assert mae_months == pytest.approx(result.validation_error, abs=1e-4)
    assert mae_months == pytest.approx(result.history["val_mae"].min(), abs=1e-3)
    assert frame["predicted_months"].between(1, 300).all()


def test_train_sets_the_interval_by_radiographs_that_chose_no_epoch(_small, divided_records, tmp_path):
    made = divided_records(42)
    result = train(EXPERIMENT, data=made.folder, run=tmp_path / "run", tracking_uri="none")
    metadata = load_bundle(result.bundle).metadata
    assert metadata["interval"]["num_groups"] == 21 and metadata["interval"] == result.interval
    used = list_used_radiographs(made.folder, task="age", init="none")
    frame = load_bundle(result.bundle).predict_records(made.folder, split="validation").set_index("id")
    errors = (frame["predicted_months"] - frame["bone_age_months"]).abs()
    assert errors[used.choosing].mean() == pytest.approx(result.history["val_mae"].min(), abs=1e-3)
    written = json.loads((result.folder / "evaluation-validation" / "evaluation.json").read_text())
    assert [(seen["use"], seen["num_images"]) for seen in written["overlap"]] == [("selection", 21), ("interval", 21)]


def test_train_on_one_validation_record_ends_without_an_interval(_small, divided_records, tmp_path):
    result = train(EXPERIMENT, data=divided_records(1).folder, run=tmp_path / "run", tracking_uri="none")
    assert result.interval is None
    assert not load_bundle(result.bundle).metadata.get("interval")


def test_leaves_history_plots_and_evaluation(finished):
    result, _ = finished
    assert list(result.history["epoch"]) == [1, 2]
    assert (result.history["images_per_second"] > 0).all()
    assert result.history["input_stall_share"].between(0, 1).all()
    names = {path.name for path in result.folder.iterdir()}
    assert {"experiment.json", "history.png", "evaluation-validation", "bundle"} <= names
    assert json.loads((result.folder / "experiment.json").read_text())["train"]["seed"] == 5


def test_tracks_parameters_mae_and_the_bundle(finished, prepared):
    import mlflow

    result, uri = finished
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("boneage-train").experiment_id])
    assert run.data.params["train.network"] == "efficientnet_lite0"
    assert run.data.params["data.digest"] == prepared.info["digest"]
    tracked = [metric.value for metric in client.get_metric_history(run.info.run_id, "val_mae")]
    assert tracked == pytest.approx(list(result.history["val_mae"]))
    assert run.data.metrics["best_val_mae"] == pytest.approx(result.validation_error)
    assert {"learning_rate", "images_per_second", "input_stall_share", "mae"} <= set(run.data.metrics)
    assert any(name.startswith("system/cpu") for name in run.data.metrics)
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"experiment.json", "evaluation-validation", "history.png"}
    evaluation = {item.path for item in client.list_artifacts(run.info.run_id, "evaluation-validation")}
    assert evaluation == {"evaluation-validation/evaluation.json", "evaluation-validation/evaluation.png"}
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.status, model.source_run_id) == ("READY", run.info.run_id)


def test_tells_the_store_neither_where_it_was_trained_nor_single_predictions(finished, prepared):
    result, _ = finished
    for path in (file for file in (result.folder.parent / "store").rglob("*") if file.is_file()):
        content = path.read_bytes()
        assert str(prepared.folder).encode() not in content, path.name
        assert str(result.folder).encode() not in content, path.name
        assert path.name != "predictions.csv"


def test_a_killed_run_resumes_to_the_same_result(finished, prepared, tmp_path, monkeypatch):
    def killed(self, metrics, *, step=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boneage.tracking.tracker.Tracker.log_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            train(EXPERIMENT, data=prepared.folder, run=tmp_path / "run", tracking_uri="none")
    assert len(json.loads((tmp_path / "run" / "state.json").read_text())["history"]) == 1
    resumed = train(EXPERIMENT, data=prepared.folder, run=tmp_path / "run", tracking_uri="none", resume=True)
    whole, _ = finished
    for key in ("loss", "mae", "val_mae"):
        assert list(resumed.history[key]) == pytest.approx(list(whole.history[key]), rel=1e-5)
    one, other = (load_network(run.bundle).get_weights() for run in (resumed, whole))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_finished_epoch_is_started_again_with_the_corrected_command(
    prepared, tmp_path, monkeypatch, resume
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    options = {"data": prepared.folder, "run": tmp_path / "run", "tracking_uri": uri}
    for seed in (1, 1, 2):
        with monkeypatch.context() as patch:
            patch.setattr("boneage.training.train._fit", killed)
            with pytest.raises(KeyboardInterrupt):
                mistaken = dataclasses.replace(EXPERIMENT, train=dataclasses.replace(EXPERIMENT.train, seed=seed))
                train(mistaken, **options)
    corrected = dataclasses.replace(EXPERIMENT, train=dataclasses.replace(EXPERIMENT.train, seed=7, epochs=1))
    assert len(train(corrected, **options, resume=resume).history) == 1
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["train"]["seed"] == 7
    client = open_store(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'boneage-train'")
    runs = {run.data.params["train.seed"]: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert runs == {"1": "FAILED", "2": "FAILED", "7": "FINISHED"}
    with pytest.raises(TrainingError, match="already contains a run; continue it with --resume"):
        train(EXPERIMENT, **options)


def test_a_full_disk_is_one_line_that_says_how_to_go_on(prepared, tmp_path, monkeypatch):
    def fail(path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("boneage.training.run_folder._save", lambda model, path: fail(path))
    with pytest.raises(TrainingError, match=r"weights\.h5: No space left on device; .* with --resume") as caught:
        train(EXPERIMENT, data=prepared.folder, run=tmp_path / "run", tracking_uri="none")
    assert "\n" not in str(caught.value)


def test_a_run_with_a_phase_for_the_head_resumes_to_the_same_result(prepared, tmp_path, monkeypatch):
    """It is killed between the phases, and once more in the second."""
    config = dataclasses.replace(EXPERIMENT.train, epochs=3, head_epochs=1, trainable=1, layer_decay=0.5)
    experiment = dataclasses.replace(EXPERIMENT, train=config)
    whole = train(experiment, data=prepared.folder, run=tmp_path / "whole", tracking_uri="none")

    def killed(self, metrics, *, step=None):
        raise KeyboardInterrupt

    for resume in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr("boneage.tracking.tracker.Tracker.log_metrics", killed)
            with pytest.raises(KeyboardInterrupt):
                train(experiment, data=prepared.folder, run=tmp_path / "run", tracking_uri="none", resume=resume)
    resumed = train(experiment, data=prepared.folder, run=tmp_path / "run", tracking_uri="none", resume=True)
    for key in ("loss", "mae", "val_mae", "learning_rate"):
        assert list(resumed.history[key]) == pytest.approx(list(whole.history[key]), rel=1e-5)


def test_a_run_with_averages_clipping_and_accumulation_resumes_to_the_same_result(prepared, tmp_path, monkeypatch):
    config = dataclasses.replace(
        EXPERIMENT.train, schedule="one_cycle", clip_norm=1.0, ema_momentum=0.9, accumulate_steps=2
    )
    experiment = dataclasses.replace(EXPERIMENT, train=dataclasses.replace(config, epochs=3))
    whole = train(experiment, data=prepared.folder, run=tmp_path / "whole", tracking_uri="none")

    def killed(self, metrics, *, step=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boneage.tracking.tracker.Tracker.log_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, data=prepared.folder, run=tmp_path / "run", tracking_uri="none")
    resumed = train(experiment, data=prepared.folder, run=tmp_path / "run", tracking_uri="none", resume=True)
    for key in ("loss", "mae", "val_mae", "learning_rate"):
        assert list(resumed.history[key]) == pytest.approx(list(whole.history[key]), rel=1e-6)
    one, other = (load_network(run.bundle).get_weights() for run in (resumed, whole))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
    # The averaged weights are validated and saved.
    assert whole.history["val_mae"].min() == pytest.approx(whole.validation_error, abs=1e-3)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_mixed_precision_leaves_a_network_in_float32(prepared, tmp_path, precision):
    experiment = dataclasses.replace(
        EXPERIMENT, train=dataclasses.replace(EXPERIMENT.train, epochs=1, precision=precision)
    )
    made = train(experiment, data=prepared.folder, run=tmp_path / "run", tracking_uri="none")
    model = load_network(made.bundle)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert np.isfinite(made.history["loss"].iloc[0])


def test_refuses_a_run_folder_in_use_unless_told_to_resume(finished, prepared):
    result, _ = finished
    with pytest.raises(TrainingError, match="--resume"):
        train(EXPERIMENT, data=prepared.folder, run=result.folder, tracking_uri="none")


def test_refuses_to_resume_another_experiment(finished, prepared):
    result, _ = finished
    with pytest.raises(TrainingError, match="another experiment"):
        train(Experiment("other"), data=prepared.folder, run=result.folder, tracking_uri="none", resume=True)


def test_a_run_that_diverges_says_so(prepared, tmp_path):
    hot = dataclasses.replace(EXPERIMENT.train, learning_rate=1e30, epochs=1, warmup_epochs=0)
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        train(Experiment("hot", hot), data=prepared.folder, run=tmp_path / "run", tracking_uri="none")


def test_a_damaged_shard_is_one_line(finished, prepared, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(prepared.folder, folder)
    for name in ("train-00000-of-00001.tfrecord", "validation-00000-of-00001.tfrecord"):
        damaged = bytearray((folder / name).read_bytes())
        damaged[len(damaged) // 2] ^= 255
        (folder / name).write_bytes(damaged)
    with pytest.raises(RecordsError, match="--verify"):
        train(EXPERIMENT, data=folder, run=tmp_path / "run", tracking_uri="none")
    with pytest.raises(RecordsError, match="--verify"):
        load_bundle(finished[0].bundle).predict_records(folder, split="validation")


def test_names_missing_records(tmp_path):
    with pytest.raises(RecordsError, match="boneage prepare"):
        train(EXPERIMENT, data=tmp_path, run=tmp_path / "run", tracking_uri="none")


def test_train_out_of_memory_is_one_line(prepared, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("boneage.training.train.fit", fit)
    with pytest.raises(TrainingError, match=r"out of memory at batch_size=8 \(.*; try --set batch_size=4, or"):
        train(EXPERIMENT, data=prepared.folder, run=tmp_path / "run", tracking_uri="none")


def test_train_by_readers_needs_their_number(prepared, tmp_path):
    with pytest.raises(RecordsError, match="says not how many readers a bone age joins"):
        train(
            dataclasses.replace(EXPERIMENT, train=dataclasses.replace(EXPERIMENT.train, label_weights="readers")),
            data=prepared.folder,
            run=tmp_path / "run",
            tracking_uri="none",
        )


def test_training_batches_have_draws_and_validation_batches_none(prepared):
    inputs, _, weights, draws = next(iter(training_batches(prepared.folder, EXPERIMENT, steps=4, first_epoch=0)))
    assert inputs["image"].dtype == np.uint8 and inputs["image"].shape == (8, 32, 32, 1)
    assert weights.numpy().tolist() == [1.0] * EXPERIMENT.train.batch_size
    assert draws.shape == (8, len(DRAWS)) and len(np.unique(draws)) == draws.numpy().size
    still, again = (next(iter(validation_batches(prepared.folder, EXPERIMENT.train))) for _ in range(2))
    assert len(still) == 2
    np.testing.assert_array_equal(still[0]["image"], again[0]["image"])


def test_a_resumed_stream_of_batches_is_the_later_part_of_the_whole(prepared):
    whole = training_batches(prepared.folder, EXPERIMENT, steps=4, first_epoch=0).take(8)
    later = training_batches(prepared.folder, EXPERIMENT, steps=4, first_epoch=1).take(4)
    for expected, received in zip(list(whole)[4:], later, strict=True):
        for tensor, other in zip(tf.nest.flatten(expected), tf.nest.flatten(received), strict=True):
            np.testing.assert_array_equal(tensor, other)


def test_several_workers_have_the_batches_and_draws_of_one(prepared):
    whole = next(iter(training_batches(prepared.folder, EXPERIMENT, steps=4, first_epoch=1)))
    for worker in range(2):
        part = next(
            iter(training_batches(prepared.folder, EXPERIMENT, steps=4, first_epoch=1, worker=worker, num_workers=2))
        )
        for tensor, other in zip(tf.nest.flatten(whole), tf.nest.flatten(part), strict=True):
            np.testing.assert_array_equal(tensor[worker::2], other)
