"""Training: records and an experiment become a run folder with a bundle."""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from boneage.batches import training_batches, validation_batches
from boneage.bundle import load_bundle
from boneage.config import Experiment, TrainConfig, load_experiment, to_json
from boneage.evaluation import summarise, write_evaluation
from boneage.models import build_model
from boneage.models.fused import fuse
from boneage.optimizer import build_optimizer
from boneage.plots import plot_history
from boneage.saving import copy_bundle, save_bundle
from boneage.tracking import Tracker, start_tracking
from tfrecords.errors import BoneAgeError
from tfrecords.info import RecordsError, read_info, split_info
from tfrecords.read import name_damage
from tfrecords.write import write_json, write_text

STATE_FILE = "state.json"
BUNDLE_FOLDER = "bundle"
KERAS_LOSSES = {
    "mae": "mean_absolute_error",
    "mse": "mean_squared_error",
    "huber": "huber",
    "log_cosh": "log_cosh",
}


class TrainingFailed(BoneAgeError):
    """A training run that cannot begin or go on."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a training run made.

    Args:
        folder: The run folder.
        bundle: The bundle folder inside it.
        validation_mae_months: MAE of the bundle on the validation split, in months.
        history: One dictionary an epoch: `epoch`, `loss`, `mae`, `val_mae`, `learning_rate`, `seconds`,
            `images_per_second`; MAE in months.
    """

    folder: Path
    bundle: Path
    validation_mae_months: float
    history: list[dict[str, float]]


def train(
    experiment: Experiment | str | Path,
    *,
    data: str | Path,
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    tracking_uri: str | None = None,
) -> TrainingResult:
    """Train a network on a record folder.

    Args:
        experiment: The experiment, or its TOML file.
        data: The record folder, with the splits `train` and `validation`.
        run: The run folder; `runs/<name of the experiment>` without it.
        overrides: `key=value` changes to the experiment's file.
        resume: Whether to go on where a killed run stopped.
        tracking_uri: MLflow's store; `sqlite:///mlruns/mlflow.db` without one, `"none"` tracks nothing.

    Returns:
        What was made.

    Raises:
        BoneAgeError: If the experiment or the records cannot be used, or the run folder is in use by another run.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    config = experiment.train
    info = read_info(data)
    for split in ("train", "validation"):
        described = split_info(info, split, folder=data)
        if described["num_labelled"] < described["num_records"]:
            raise RecordsError(f"{data}: split {split!r} has records without bone age; training needs every label.")
    folder = Path(run or Path("runs") / experiment.name)
    state = _open_run(folder, experiment, digest=info["digest"], resume=resume)

    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy(config.precision)
    try:
        with start_tracking(
            tracking_uri, experiment="boneage-train", run_name=experiment.name, run_id=state.get("tracking_run")
        ) as tracker:
            write_json(folder / STATE_FILE, state := {**state, "tracking_run": tracker.run_id})
            train_info = info["splits"]["train"]
            tracker.log_params(
                {
                    **{f"train.{key}": value for key, value in vars(config).items()},
                    **{f"augment.{key}": value for key, value in vars(experiment.augment).items()},
                    "data.digest": info["digest"],
                    "data.fingerprint": info["fingerprint"],
                    "data.num_train": train_info["num_records"],
                }
            )
            model = _build(config, train_info)
            trained = fuse(model)
            history = _fit(trained, experiment, data=data, folder=folder, state=state, tracker=tracker)
            model.set_weights(trained.get_weights())
            return _conclude(model, experiment, data=data, info=info, folder=folder, history=history, tracker=tracker)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _open_run(folder: Path, experiment: Experiment, *, digest: str, resume: bool) -> dict[str, Any]:
    """Make the run folder, or find where an interrupted run of the same experiment stopped."""
    wanted = {"experiment": json.loads(to_json(experiment)), "digest": digest}
    path = folder / STATE_FILE
    if path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
        if not resume:
            raise TrainingFailed(
                f"{folder}: holds a run; go on with it by --resume, or choose another folder by --run."
            )
        if {key: state[key] for key in wanted} != wanted:
            raise TrainingFailed(f"{folder}: holds a run of another experiment or other records; choose another --run.")
        return state
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "experiment.json", to_json(experiment))
    state = {**wanted, "history": []}
    write_json(path, state)
    return state


def _build(config: TrainConfig, described: dict[str, Any]) -> keras.Model:
    mean, std = (described["mean_months"], described["std_months"]) if config.standardize_target else (0.0, 1.0)
    return build_model(
        config.network,
        input_size=config.input_size,
        weights=config.weights,
        use_sex=config.use_sex,
        head_units=config.head_units or None,
        dropout=config.dropout,
        target_mean_months=mean,
        target_std_months=std or 1.0,
    )


def _compile(model: keras.Model, config: TrainConfig, *, steps: int) -> None:
    """Compile for training; the optimizer's variables are built, so that a checkpoint can be loaded into them."""
    optimizer = build_optimizer(
        config.learning_rate,
        steps=config.epochs * steps,
        warmup_steps=round(config.warmup_epochs * steps),
        weight_decay=config.weight_decay,
    )
    model.compile(
        optimizer,
        loss=KERAS_LOSSES[config.loss],
        metrics=[keras.metrics.MeanAbsoluteError(name="mae")],
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)


class _RunKeeper(keras.callbacks.Callback):
    """After each epoch: history, best weights, checkpoint, tracking, early stop; the state file makes it count."""

    def __init__(self, folder: Path, state: dict[str, Any], *, config: TrainConfig, num_images: int, tracker: Tracker):
        super().__init__()
        self.folder, self.state, self.config, self.num_images, self.tracker = folder, state, config, num_images, tracker

    def is_over(self) -> bool:
        """Tell whether the validation MAE has not become better for `patience_epochs`."""
        history, patience = self.state["history"], self.config.patience_epochs
        best = min(history, key=lambda row: row["val_mae"], default=None)
        return bool(best and patience and len(history) - best["epoch"] >= patience)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin to time the epoch; give dropout draws that depend on nothing but the seed and the epoch."""
        self.began = time.perf_counter()
        # Keras saves no state of its seed generators: without this a resumed run would drop other units.
        states = [variable for variable in self.model.variables if variable.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            state.assign([self.config.seed + index, epoch])

    def on_epoch_end(self, epoch, logs=None):
        """Keep what the epoch brought."""
        seconds = time.perf_counter() - self.began
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "mae": float(logs["mae"]),
            "val_mae": float(logs["val_mae"]),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "images_per_second": round(self.num_images / seconds, 1),
        }
        if not math.isfinite(row["loss"] + row["val_mae"]):
            raise TrainingFailed(
                f"{self.folder}: diverged in epoch {epoch + 1} (loss {row['loss']}, validation MAE {row['val_mae']}); "
                "start again with a lower `learning_rate`."
            )
        history = [*self.state["history"], row]
        if min(history, key=lambda row: row["val_mae"]) is row:
            self._save("best.weights.h5")
        checkpoint = self._save(f"latest-{epoch + 1:04d}.weights.h5")
        self.state |= {"history": history, "checkpoint": checkpoint}
        write_json(self.folder / STATE_FILE, self.state)
        for old in self.folder.glob("latest-*.weights.h5"):
            if old.name != checkpoint:
                old.unlink()
        self.tracker.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch + 1)
        if self.is_over():
            self.model.stop_training = True

    def _save(self, name: str) -> str:
        beside = self.folder / f"part-{name}"
        self.model.save_weights(beside)
        os.replace(beside, self.folder / name)
        return name


def _fit(
    model: keras.Model,
    experiment: Experiment,
    *,
    data: str | Path,
    folder: Path,
    state: dict[str, Any],
    tracker: Tracker,
) -> list[dict[str, float]]:
    """Train from where the state says; leaves the best weights in the model and returns the history."""
    config = experiment.train
    steps = split_info(read_info(data), "train", folder=data)["num_records"] // config.batch_size
    keeper = _RunKeeper(folder, state, config=config, num_images=steps * config.batch_size, tracker=tracker)
    _compile(model, config, steps=steps)
    first_epoch = len(state["history"])
    if first_epoch:
        model.load_weights(folder / state["checkpoint"])
    if first_epoch < config.epochs and not keeper.is_over():
        with name_damage(data):
            model.fit(
                training_batches(data, experiment, steps=steps, first_epoch=first_epoch),
                validation_data=validation_batches(data, config),
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=config.epochs,
                callbacks=[keeper],
                shuffle=False,  # the batches are already shuffled
                # One line an epoch where nobody watches.
                verbose=1 if sys.stdout.isatty() else 2,
            )
    model.load_weights(folder / "best.weights.h5")
    return keeper.state["history"]


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
        "network": experiment.train.network,
        "input_size": experiment.train.input_size,
        "use_sex": experiment.train.use_sex,
        "views": experiment.train.views,
        "preprocessing": info["preprocessing"],
        "fingerprint": info["fingerprint"],
        "target": {"mean_months": train_info["mean_months"], "std_months": train_info["std_months"]},
        "training_data": {"digest": info["digest"], "source": info["source"], "num_records": train_info["num_records"]},
        "experiment": json.loads(to_json(experiment)),
    }
    bundle = save_bundle(folder / BUNDLE_FOLDER, model, metadata)
    frame = load_bundle(bundle).predict_records(data, split="validation")
    evaluation = summarise(frame, dataset=f"validation split of records {info['digest']}")
    mae_months = evaluation.overall.mae_months.value
    copy_bundle(bundle, bundle, validation_mae_months=round(mae_months, 4))
    write_evaluation(folder / "evaluation-validation", frame, evaluation)
    plot_history(history, folder / "history.png")
    tracker.log_metrics({"best_val_mae": mae_months})
    for path in (folder / "evaluation-validation", folder / "history.png", bundle):
        tracker.log_artifacts(path)
    return TrainingResult(folder, bundle, mae_months, history)
