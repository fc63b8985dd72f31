"""The run folder: what a training run keeps after each epoch, and how an interrupted run goes on."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import keras

from boneage.config import Experiment, TrainConfig, to_json
from boneage.tracking import Tracker
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_json, write_text

STATE_FILE, EXPERIMENT_FILE = "state.json", "experiment.json"
BEST_WEIGHTS_FILE = "best.weights.h5"


class TrainingFailed(BoneAgeError):
    """A training run that cannot begin or go on."""


def open_run(folder: Path, experiment: Experiment, *, digest: str, resume: bool) -> dict[str, Any]:
    """Make the run folder, or find where an interrupted run of the same experiment stopped.

    Args:
        folder: The run folder.
        experiment: What is trained.
        digest: Digest of the records.
        resume: Whether to go on with a run that is there.

    Returns:
        The state: `experiment`, `digest`, `history`, and what `RunKeeper` adds.

    Raises:
        TrainingFailed: If the folder holds a run of something else, or one that should not be gone on with.
    """
    path = folder / STATE_FILE
    if path.exists():
        if not resume:
            raise TrainingFailed(
                f"{folder}: holds a run; go on with it by --resume, or choose another folder by --run."
            )
        return join_run(folder, experiment, digest=digest)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / EXPERIMENT_FILE, to_json(experiment))
    state = {**_identity(experiment, digest), "history": []}
    write_json(path, state)
    return state


def join_run(folder: Path, experiment: Experiment, *, digest: str) -> dict[str, Any]:
    """Read the state of a run that this or another worker has opened.

    Raises:
        TrainingFailed: If the folder holds no run, or one of something else.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingFailed(
            f"{folder}: the chief's run is not here; give all workers a --run that they share."
        ) from None
    wanted = _identity(experiment, digest)
    if {key: state[key] for key in wanted} != wanted:
        raise TrainingFailed(f"{folder}: holds a run of another experiment or other records; choose another --run.")
    return state


def _identity(experiment: Experiment, digest: str) -> dict[str, Any]:
    return {"experiment": json.loads(to_json(experiment)), "digest": digest}


class RunKeeper(keras.callbacks.Callback):
    """After each epoch: history, best weights, checkpoint, tracking, early stop; the state file makes it count.

    Args:
        folder: The run folder.
        state: What `open_run` returned; it grows.
        config: How the network is trained.
        plain: The network as it is saved: the best weights are kept as its.
        num_images: Radiographs in an epoch.
        tracker: Where each epoch is reported to.
        worker: Number of this worker of `num_workers`; only worker 0 writes.
        num_workers: Number of workers.
    """

    def __init__(
        self,
        folder: Path,
        state: dict[str, Any],
        *,
        config: TrainConfig,
        plain: keras.Model,
        num_images: int,
        tracker: Tracker,
        worker: int = 0,
        num_workers: int = 1,
    ):
        super().__init__()
        self.folder, self.state, self.config, self.plain = folder, state, config, plain
        self.num_images, self.tracker, self.worker, self.num_workers = num_images, tracker, worker, num_workers

    def is_over(self) -> bool:
        """Tell whether validation has not become better for `patience_epochs`, the head's own not counted."""
        history, patience = self.state["history"], self.config.patience_epochs
        best = min(history, key=self._judge, default=None)
        return bool(best and patience and len(history) - max(best["epoch"], self.config.head_epochs) >= patience)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin to time the epoch; give dropout draws that depend on nothing but the seed, the epoch and the worker."""
        self.began = time.perf_counter()
        # Keras saves no state of its seed generators: without this a resumed run would drop other units.
        states = [variable for variable in self.model.variables if variable.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            state.assign([self.config.seed + index, epoch * self.num_workers + self.worker])

    def on_epoch_end(self, epoch, logs=None):
        """Keep what the epoch brought."""
        seconds, measure = time.perf_counter() - self.began, self.config.measure
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            measure: float(logs[measure]),
            f"val_{measure}": float(logs[f"val_{measure}"]),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "images_per_second": round(self.num_images / seconds, 1),
            "input_stall_share": round(float(logs["input_stall_share"]), 4),
        }
        if not math.isfinite(row["loss"] + self._judge(row)):
            raise TrainingFailed(
                f"{self.folder}: diverged in epoch {epoch + 1} (loss {row['loss']}, validation {measure} "
                f"{self._judge(row)}); start again with a lower `learning_rate`."
            )
        self.state["history"] = [*self.state["history"], row]
        if self.worker == 0:
            self._write(row)
        self.tracker.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch + 1)
        if self.is_over():
            self.model.stop_training = True

    def _judge(self, row: dict[str, float]) -> float:
        return row[f"val_{self.config.measure}"]

    def _write(self, row: dict[str, float]) -> None:
        if min(self.state["history"], key=self._judge) is row:
            self.plain.set_weights(self.model.get_weights())
            _save(self.plain, self.folder / BEST_WEIGHTS_FILE)
        checkpoint = f"latest-{row['epoch']:04d}.weights.h5"
        _save(self.model, self.folder / checkpoint)
        self.state["checkpoint"] = checkpoint
        write_json(self.folder / STATE_FILE, self.state)
        for old in self.folder.glob("latest-*.weights.h5"):
            if old.name != checkpoint:
                old.unlink()


def _save(model: keras.Model, path: Path) -> None:
    """Save weights, and those of the optimizer if there is one, so that a kill leaves the older file whole."""
    beside = path.with_name(f"part-{path.name}")
    model.save_weights(beside)
    os.replace(beside, path)
