"""Training: records and an experiment become a run folder with a bundle."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from boneage.batches import training_batches, validation_batches
from boneage.bundle import load_bundle, read_metadata
from boneage.config import Experiment, load_experiment, to_json
from boneage.distribution import (
    build_strategy,
    check_divisible,
    distribute,
    is_chief,
    name_lost_worker,
    num_workers,
    wait_for_workers,
    worker_index,
)
from boneage.evaluation import conclude
from boneage.intervals import measure_intervals
from boneage.loop import fit
from boneage.models.fused import fuse, in_float32
from boneage.phases import begin_phases, build_to_train
from boneage.plots import plot_history
from boneage.run_folder import BEST_WEIGHTS_FILE, EXPERIMENT_FILE, RunKeeper, TrainingFailed, join_run, open_run
from boneage.saving import copy_bundle, save_bundle
from boneage.tracking import TRAINING_EXPERIMENT, Tracker, list_params, start_tracking
from tfrecords.info import RecordsError, read_info, split_info
from tfrecords.read import name_damage

__all__ = ["TrainingFailed", "TrainingResult", "train"]

BUNDLE_FOLDER = "bundle"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a training run made.

    Args:
        folder: The run folder.
        bundle: The bundle folder inside it.
        validation_error: MAE of the bundle on the validation split in months; the share of wrong answers if its task is
            the sex.
        history: One dictionary an epoch: `epoch`, `loss`, `mae`, `val_mae` (months; `error_share` and
            `val_error_share` for the sex), `learning_rate`, `seconds`, `images_per_second`, `input_stall_share`.
    """

    folder: Path
    bundle: Path
    validation_error: float
    history: list[dict[str, float]]


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
        experiment: The experiment, or its TOML file.
        data: The record folder, with the splits `train` and `validation`.
        run: The run folder; `runs/<name of the experiment>` without it. Several workers must share it.
        overrides: `key=value` changes to the experiment's file.
        resume: Whether to go on where a killed run stopped.
        tracking_uri: MLflow's store; `sqlite:///mlruns/mlflow.db` without one, `"none"` tracks nothing.
        distribution: What computes: `"none"`, `"mirrored"`, `"multiworker"` or `"auto"`, see
            `boneage.distribution.build_strategy`. The losses do not depend on it.

    Returns:
        What was made; the same for all workers.

    Raises:
        BoneAgeError: If the experiment or the records cannot be used, the run folder is in use by another run, or
            another worker was lost.
        ValueError: If `distribution` is unknown.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    info = read_info(data)
    for split in ("train", "validation"):
        described = split_info(info, split, folder=data)
        if experiment.train.task == "age" and described["num_labelled"] < described["num_records"]:
            raise RecordsError(f"{data}: split {split!r} has records without bone age; training needs every label.")
    folder = Path(run or Path("runs") / experiment.name)
    strategy = build_strategy(distribution)
    check_divisible(strategy, experiment.train)
    with name_lost_worker(strategy):
        chief = is_chief(strategy)
        if chief:
            state = open_run(folder, experiment, digest=info["digest"], resume=resume)
        wait_for_workers(strategy)
        if not chief:
            state = join_run(folder, experiment, digest=info["digest"])
        with start_tracking(
            tracking_uri if chief else "none",
            folder=folder,
            experiment=TRAINING_EXPERIMENT,
            run_name=experiment.name,
            system=True,
        ) as tracker:
            _log_params(tracker, experiment, info=info)
            tracker.log_artifacts(folder / EXPERIMENT_FILE)
            model = _fit(strategy, experiment, data=data, info=info, folder=folder, state=state, tracker=tracker)
            history = state["history"]
            if chief:
                model.load_weights(folder / BEST_WEIGHTS_FILE)
                result = _conclude(
                    model, experiment, data=data, info=info, folder=folder, history=history, tracker=tracker
                )
            wait_for_workers(strategy)
            if not chief:
                bundle = folder / BUNDLE_FOLDER
                result = TrainingResult(folder, bundle, read_metadata(bundle)["validation_error"], history)
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
    folder: Path,
    state: dict[str, Any],
    tracker: Tracker,
) -> keras.Model:
    """Train from where the state says, to which the history is added; returns the network as it is saved."""
    config, described = experiment.train, info["splits"]["train"]
    steps, begun = described["num_records"] // config.batch_size, len(state["history"])
    model = build_to_train(config, mean_months=described["mean_months"], std_months=described["std_months"])
    with strategy.scope():
        trained = fuse(model)
    if config.precision != "float32":
        model = in_float32(model)
    worker: dict[str, Any] = {"worker": worker_index(strategy), "num_workers": num_workers(strategy)}
    num_images = steps * config.batch_size
    keeper = RunKeeper(folder, state, config=config, plain=model, num_images=num_images, tracker=tracker, **worker)
    batches = distribute(training_batches(data, experiment, steps=steps, first_epoch=begun, **worker), strategy)
    validation = distribute(validation_batches(data, config), strategy)
    iterator = iter(batches)
    for epochs in begin_phases(trained, strategy, config=config, steps=steps, begun=begun):
        if begun > epochs.start:
            with strategy.scope():
                trained.load_weights(folder / state["checkpoint"])
        left = range(max(begun, epochs.start), epochs.stop)
        if left and not keeper.is_over():
            with name_damage(data):
                fit(
                    trained,
                    strategy,
                    config=config,
                    batches=iterator,
                    validation=validation,
                    steps=steps,
                    epochs=left,
                    callbacks=[keeper],
                )
    return model


def _read_target(model: keras.Model) -> dict[str, float]:
    """Return by what the network turns its standardised answer into months; a bundle's head brings its own."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    mean, std = (float(layers[-1].offset), float(layers[-1].scale)) if layers else (0.0, 1.0)
    return {"mean_months": mean, "std_months": std}


def _conclude(
    model: keras.Model,
    experiment: Experiment,
    *,
    data: str | Path,
    info: dict[str, Any],
    folder: Path,
    history: list[dict[str, float]],
    tracker: Tracker,
) -> TrainingResult:
    """Evaluate the best weights, write the bundle and the plots, and report them."""
    train_info = info["splits"]["train"]
    metadata = {
        "task": experiment.train.task,
        "network": experiment.train.network,
        "input_size": experiment.train.input_size,
        "use_sex": experiment.train.use_sex,
        "views": experiment.train.views,
        "preprocessing": info["preprocessing"],
        "fingerprint": info["fingerprint"],
        "target": _read_target(model),
        "training_data": {"digest": info["digest"], "source": info["source"], "num_records": train_info["num_records"]},
        "experiment": json.loads(to_json(experiment)),
    }
    bundle = save_bundle(folder / BUNDLE_FOLDER, model, metadata)
    predicted = load_bundle(bundle).predict_records(data, split="validation")
    out = folder / "evaluation-validation"
    evaluation = conclude(predicted, task=experiment.train.task, data=data, split="validation", out=out)
    measured: dict[str, Any] = {"validation_error": round(evaluation.error, 4)}
    if experiment.train.task == "age":
        measured["interval"] = measure_intervals(predicted)
    copy_bundle(bundle, bundle, **measured)
    plot_history(history, folder / "history.png")
    tracker.log_metrics({f"best_val_{experiment.train.measure}": evaluation.error})
    # Not the predictions: the ids in them may be names of files, and those of people.
    for path in (*sorted(out.glob("evaluation.*")), folder / "history.png"):
        tracker.log_artifacts(path)
    if experiment.train.task == "age":
        tracker.log_model(bundle)
    else:
        tracker.log_artifacts(bundle)
    return TrainingResult(folder, bundle, evaluation.error, history)
