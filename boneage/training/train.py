"""Training: from records and an experiment to a run folder with a bundle."""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from boneage.base.files import check_output
from boneage.base.garbage import free_memory
from boneage.base.locks import lock_folder
from boneage.bundles.bundle import load_bundle, read_metadata
from boneage.bundles.export_check import check_exportable
from boneage.bundles.save import copy_bundle, save_bundle
from boneage.cohorts.significance import add_determination
from boneage.configuration.experiment import Experiment, load_experiment, to_json
from boneage.evaluation.conformal import Interval, fit_conformal_intervals
from boneage.evaluation.evaluate import evaluate_predictions, find_seen_records
from boneage.evaluation.plots import plot_history, save_figure
from boneage.models.fused_batch_norm import fuse_batch_norm, to_float32
from boneage.models.head import SCALED_AGE_LAYER
from boneage.registry.settings import TRAINING_EXPERIMENT, resolve_uri
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tfrecords.reader import translate_shard_errors
from boneage.tracking.tracker import Tracker, list_params, start_tracking
from boneage.training.chronological_age import read_target
from boneage.training.datasets import training_batches, validation_batches
from boneage.training.distribution import (
    build_strategy,
    check_divisible,
    distribute,
    explain_lost_worker,
    is_chief,
    num_workers,
    resolve_precision,
    wait_for_workers,
    worker_index,
)
from boneage.training.fit_loop import fit
from boneage.training.initialise import find_inherited_licence, pin_init
from boneage.training.memory import explain_out_of_memory
from boneage.training.run_folder import (
    BEST_WEIGHTS_FILE,
    EXPERIMENT_FILE,
    RunCallback,
    TrainingError,
    explain_disk_errors,
    join_run,
    open_run,
)
from boneage.training.schedule import build_for_training, prepare_phases
from boneage.training.validation import UsedRadiographs, list_used_radiographs

__all__ = ["TrainingError", "TrainingResult", "train"]

BUNDLE_FOLDER = "bundle"


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a training run.

    Args:
        folder: The run folder.
        bundle: The bundle folder inside it.
        validation_error: MAE of the bundle on the validation split in months; the error rate for sex classification.
        history: One row per epoch: `epoch`, `loss`, `mae`, `val_mae` (months; `error_share` and
            `val_error_share` for the sex), `learning_rate`, `seconds`, `images_per_second`, `input_stall_share`. The
            validation values are those of the half that chooses the epoch.
        interval: The prediction intervals, set by the other half, see
            `boneage.evaluation.conformal.fit_conformal_intervals`; None where it has too few patients.
    """

    folder: Path
    bundle: Path
    validation_error: float
    history: pd.DataFrame
    interval: Interval | None

    def plot(self) -> Figure:
        """Draw training and validation error by epoch.

        Returns:
            The figure; save it by `figure.savefig("history.png")`.
        """
        return plot_history(self.history)


def train(
    experiment: Experiment | str | Path,
    *,
    data: str | Path,
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    tracking_uri: str | None = None,
    distribution: str = "auto",
) -> TrainingResult:
    """Train a network on a record folder.

    Args:
        experiment: The experiment, its TOML file, or the name of a packaged recipe.
        data: The record folder, with the splits `train` and `validation`.
        run: The run folder (default: `runs/<name of the experiment>`). Several workers need the same shared folder.
        overrides: `key=value` overrides of the experiment's settings.
        resume: Whether to continue an interrupted run. A run that has not finished an epoch needs no `resume`.
        tracking_uri: MLflow tracking URI (default: `$MLFLOW_TRACKING_URI`, else `sqlite:///mlruns/mlflow.db`); `"none"`
            turns tracking off.
        distribution: `"none"`, `"mirrored"`, `"multiworker"` or `"auto"`, see
            `boneage.training.distribution.build_strategy`. It does not change the losses.

    Returns:
        The result, the same for all workers.

    Raises:
        BoneAgeError: If the experiment or the records are invalid, the run folder contains another run or is in use by
            another process, another worker is lost, or the memory does not suffice for a batch.
        ValueError: If `distribution` or the scheme of `tracking_uri` is unknown.
    """
    tracking_uri = resolve_uri(tracking_uri)
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    experiment = pin_init(experiment)
    info = read_info(data)
    for split in ("train", "validation"):
        described = split_info(info, split, folder=data)
        if experiment.train.task == "age" and described["num_labelled"] < described["num_records"]:
            raise RecordsError(f"{data}: split {split!r} has records without bone age; training needs every label.")
    if experiment.train.label_weights == "readers" and "mean_label_weight" not in info["splits"]["train"]:
        raise RecordsError(
            f"{data}: says not how many readers a bone age joins, which `label_weights` needs; prepare it from a table "
            "with num_readers, such as `boneage agree --consensus` writes, or set label_weights=equal."
        )
    target = read_target(data, experiment.train)
    folder = Path(run or Path("runs") / experiment.name)
    check_output(folder, is_folder=True)
    strategy = build_strategy(distribution)
    check_divisible(strategy, experiment.train)
    check_exportable(experiment.train)
    chief = is_chief(strategy)
    with contextlib.ExitStack() as stack:
        stack.enter_context(explain_disk_errors(folder))
        stack.enter_context(explain_lost_worker(strategy))
        stack.enter_context(explain_out_of_memory(experiment.train, num_replicas=strategy.num_replicas_in_sync))
        if chief:
            stack.enter_context(lock_folder(folder))
            state = open_run(folder, experiment, digest=info["digest"], resume=resume)
        wait_for_workers(strategy)
        if not chief:
            state = join_run(folder, experiment, digest=info["digest"])
        with start_tracking(
            tracking_uri if chief else "none",
            folder=folder,
            experiment=TRAINING_EXPERIMENT,
            run_name=experiment.name,
            key=state.get("tracking_key"),
            system=True,
        ) as tracker:
            _log_params(tracker, experiment, info=info)
            tracker.log_artifacts(folder / EXPERIMENT_FILE)
            used = list_used_radiographs(data, task=experiment.train.task, init=str(experiment.train.init))
            model = _fit(
                strategy,
                experiment,
                data=data,
                info=info,
                target=target,
                used=used,
                folder=folder,
                state=state,
                tracker=tracker,
            )
            history = pd.DataFrame(state["history"])
            free_memory()  # of the graphs and batches of the training
            if chief:
                model.load_weights(folder / BEST_WEIGHTS_FILE)
                result = _finish_run(
                    model,
                    experiment,
                    data=data,
                    info=info,
                    used=used,
                    folder=folder,
                    history=history,
                    tracker=tracker,
                )
            wait_for_workers(strategy)
            if not chief:
                bundle = folder / BUNDLE_FOLDER
                metadata = read_metadata(bundle)
                result = TrainingResult(folder, bundle, metadata["validation_error"], history, metadata.get("interval"))
    return result


def _log_params(tracker: Tracker, experiment: Experiment, *, info: dict[str, Any]) -> None:
    tracker.log_params(
        {
            **list_params("train", experiment.train),
            **list_params("augment", experiment.augment),
            "data.digest": info["digest"],
            "data.fingerprint": info["fingerprint"],
            "data.num_train": info["splits"]["train"]["num_records"],
        }
    )


def _fit(
    strategy: tf.distribute.Strategy,
    experiment: Experiment,
    *,
    data: str | Path,
    info: dict[str, Any],
    target: dict[str, float],
    used: UsedRadiographs,
    folder: Path,
    state: dict[str, Any],
    tracker: Tracker,
) -> keras.Model:
    """Train from the epoch of the state and update its history; returns the network in the form that is saved."""
    config, described = resolve_precision(experiment.train, strategy), info["splits"]["train"]
    steps, first_epoch = described["num_records"] // config.batch_size, len(state["history"])
    model = build_for_training(config, **target)
    with strategy.scope():
        trained = fuse_batch_norm(model)
    if config.precision != "float32":
        model = to_float32(model)
    worker: dict[str, Any] = {"worker": worker_index(strategy), "num_workers": num_workers(strategy)}
    num_images = steps * config.batch_size
    run_callback = RunCallback(
        folder, state, config=config, plain=model, num_images=num_images, tracker=tracker, **worker
    )
    batches = distribute(training_batches(data, experiment, steps=steps, first_epoch=first_epoch, **worker), strategy)
    validation = distribute(validation_batches(data, config, ids=used.choosing), strategy)
    iterator = iter(batches)
    for epochs in prepare_phases(trained, strategy, config=config, steps=steps, first_epoch=first_epoch):
        if first_epoch > epochs.start:
            with strategy.scope():
                trained.load_weights(folder / state["checkpoint"])
        left = range(max(first_epoch, epochs.start), epochs.stop)
        if left and not run_callback.should_stop():
            with translate_shard_errors(data):
                fit(
                    trained,
                    strategy,
                    config=config,
                    ranges=experiment.augment,
                    mean_months=described["mean_months"],
                    std_months=described["std_months"],
                    batches=iterator,
                    validation=validation,
                    steps=steps,
                    epochs=left,
                    callbacks=[run_callback],
                )
    return model


def _read_target(model: keras.Model) -> dict[str, float]:
    """Return mean and standard deviation of the target; an initialised head keeps those of its bundle."""
    layers = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling) and layer.name != SCALED_AGE_LAYER
    ]
    mean, std = (float(layers[-1].offset), float(layers[-1].scale)) if layers else (0.0, 1.0)
    return {"mean_months": mean, "std_months": std}


def _finish_run(
    model: keras.Model,
    experiment: Experiment,
    *,
    data: str | Path,
    info: dict[str, Any],
    used: UsedRadiographs,
    folder: Path,
    history: pd.DataFrame,
    tracker: Tracker,
) -> TrainingResult:
    """Evaluate the best weights, write the bundle and the plots, and track them."""
    train_info = info["splits"]["train"]
    metadata: dict[str, Any] = {
        "task": experiment.train.task,
        "network": experiment.train.network,
        "input_size": experiment.train.input_size,
        "use_sex": experiment.train.use_sex,
        "chronological_age": experiment.train.chronological_age,
        "tta": experiment.train.tta,
        "preprocessing": info["preprocessing"],
        "fingerprint": info["fingerprint"],
        "target": _read_target(model),
        "training_data": {"digest": info["digest"], "source": info["source"], "num_records": train_info["num_records"]},
        "experiment": json.loads(to_json(experiment)),
        "seen_data": used.entries,
    }
    if licence := find_inherited_licence(experiment.train.init):
        metadata["licence"] = licence
    bundle = save_bundle(folder / BUNDLE_FOLDER, model, metadata, seen=used.hashes)
    loaded = load_bundle(bundle)
    predicted = loaded.predict_records(data, split="validation")
    out = folder / "evaluation-validation"
    evaluation = evaluate_predictions(
        add_determination(predicted) if experiment.train.task == "age" else predicted,
        task=experiment.train.task,
        data=data,
        split="validation",
        out=out,
        overlap=find_seen_records(loaded, data=data, split="validation"),
    )
    measured: dict[str, Any] = {"validation_error": round(evaluation.error, 4)}
    if used.held_back:
        measured["interval"] = fit_conformal_intervals(predicted[predicted["id"].isin(used.held_back)])
        if loaded.chronological_age == "input":
            without = loaded.predict_records(data, split="validation", with_age=False)
            measured["interval_without_age"] = fit_conformal_intervals(without[without["id"].isin(used.held_back)])
    copy_bundle(bundle, bundle, **measured)
    save_figure(plot_history(history), folder / "history.png")
    tracker.log_metrics({f"best_val_{experiment.train.metric}": evaluation.error})
    # Without the predictions: their ids can be file names that contain patient names.
    for path in (*sorted(out.glob("evaluation.*")), folder / "history.png"):
        tracker.log_artifacts(path)
    if experiment.train.task == "age":
        tracker.log_model(bundle)
    else:
        tracker.log_artifacts(bundle)
    return TrainingResult(folder, bundle, evaluation.error, history, measured.get("interval"))
