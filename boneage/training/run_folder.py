"""The run folder: state, checkpoint and best weights after each epoch, and resuming from them."""

import contextlib
import json
import math
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_atomic, write_json, write_text
from boneage.base.json_files import DamagedFileError, read_own_json
from boneage.configuration.experiment import Experiment, to_json
from boneage.configuration.training import TrainConfig
from boneage.tracking.tracker import Tracker
from boneage.training.optimizer import averaged_weights

STATE_FILE, EXPERIMENT_FILE = "state.json", "experiment.json"
BEST_WEIGHTS_FILE = "best.weights.h5"
_STATE_FIELDS = {"experiment": dict, "digest": str, "history": list, "tracking_key": str}
_CHECKPOINT = re.compile(r"latest-\d+\.weights\.h5")


class TrainingError(BoneAgeError):
    """A training run cannot start, continue or resume."""


def open_run(folder: Path, experiment: Experiment, *, digest: str, resume: bool) -> dict[str, Any]:
    """Create the run folder, or read the state of an interrupted run of the same experiment.

    A run without a finished epoch is started again, also with other settings or records.

    Args:
        folder: The run folder.
        experiment: The experiment.
        digest: Digest of the records.
        resume: Whether to continue an existing run.

    Returns:
        The state: `experiment`, `digest`, `history`, `tracking_key` (of the run in the outbox), and the entries of
        `RunCallback`.

    Raises:
        TrainingError: If the folder contains a finished epoch and `resume` is false, or one of another experiment or
            of other records.
        DamagedFileError: If the state is damaged.
    """
    path, identity = folder / STATE_FILE, _identity(experiment, digest)
    earlier = _read_state(folder) if path.exists() else {"history": []}
    if earlier["history"]:
        if not resume:
            raise TrainingError(
                f"{folder}: already contains a run; continue it with --resume or choose another folder with --run."
            )
        return join_run(folder, experiment, digest=digest)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / EXPERIMENT_FILE, to_json(experiment))
    # With other settings it is another run to MLflow, which keeps the settings of each.
    is_same = earlier.items() >= identity.items()
    key = earlier.get("tracking_key") if is_same else None
    state = {**identity, "history": [], "tracking_key": key or uuid.uuid4().hex}
    write_json(path, state)
    return state


def join_run(folder: Path, experiment: Experiment, *, digest: str) -> dict[str, Any]:
    """Read the state of a run that the chief has opened.

    Raises:
        TrainingError: If the folder contains no run, or a run of another experiment or of other records.
        DamagedFileError: If its state is damaged.
    """
    try:
        state = _read_state(folder)
    except FileNotFoundError:
        raise TrainingError(
            f"{folder}: no run of the chief found; all workers need the same shared --run folder."
        ) from None
    wanted = _identity(experiment, digest)
    if {key: state[key] for key in wanted} != wanted:
        raise TrainingError(
            f"{folder}: contains a run of another experiment or of other records; choose another folder with --run."
        )
    return state


def _read_state(folder: Path) -> dict[str, Any]:
    path, fix = folder / STATE_FILE, "restore it, or start again in another folder with --run"
    state = read_own_json(path, fields=_STATE_FIELDS, fix=fix)
    for row in state["history"]:
        if not isinstance(row, dict) or not all(isinstance(value, int | float) for value in row.values()):
            raise DamagedFileError(f"{path}: damaged (`history` has an epoch that is no object of numbers); {fix}.")
        if missing := {"epoch", "loss"} - row.keys():
            raise DamagedFileError(f"{path}: damaged (`history` has an epoch without `{min(missing)}`); {fix}.")
    checkpoint = state.get("checkpoint", "")
    if state["history"] and (not isinstance(checkpoint, str) or not _CHECKPOINT.fullmatch(checkpoint)):
        raise DamagedFileError(f"{path}: damaged (`checkpoint` names no file of weights); {fix}.")
    return state


def _identity(experiment: Experiment, digest: str) -> dict[str, Any]:
    return {"experiment": json.loads(to_json(experiment)), "digest": digest}


class RunCallback(keras.callbacks.Callback):
    """Writes history, best weights, checkpoint and tracking entries after each epoch, and stops early.

    An epoch counts as finished once the state file is written.

    Args:
        folder: The run folder.
        state: The state from `open_run`; updated in place.
        config: How the network is trained.
        plain: The network in the form that is saved; receives the best weights.
        num_images: Number of radiographs in an epoch.
        tracker: Receives the metrics of each epoch.
        worker: Index of this worker; only worker 0 writes.
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

    def should_stop(self) -> bool:
        """Return whether the validation metric has not improved for `patience_epochs` after the head's epochs."""
        history, patience = self.state["history"], self.config.patience_epochs
        best = min(history, key=self._validation_metric, default=None)
        return bool(best and patience and len(history) - max(best["epoch"], self.config.head_epochs) >= patience)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the timer, and seed dropout from the seed, the epoch and the worker alone."""
        self.began = time.perf_counter()
        # Keras does not save the state of its seed generators: a resumed run would drop other units.
        states = [variable for variable in self.model.variables if variable.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            state.assign([self.config.seed + index, epoch * self.num_workers + self.worker])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the results of the epoch."""
        seconds, metric = time.perf_counter() - self.began, self.config.metric
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            metric: float(logs[metric]),
            f"val_{metric}": float(logs[f"val_{metric}"]),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "images_per_second": round(self.num_images / seconds, 1),
            "input_stall_share": round(float(logs["input_stall_share"]), 4),
        }
        if not math.isfinite(row["loss"] + self._validation_metric(row)):
            raise TrainingError(
                f"{self.folder}: training diverged in epoch {epoch + 1} (loss {row['loss']}, validation {metric} "
                f"{self._validation_metric(row)}); restart with a lower `learning_rate`."
            )
        self.state["history"] = [*self.state["history"], row]
        if self.worker == 0:
            self._write(row)
        self.tracker.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch + 1)
        if self.should_stop():
            self.model.stop_training = True

    def _validation_metric(self, row: dict[str, float]) -> float:
        return row[f"val_{self.config.metric}"]

    def _write(self, row: dict[str, float]) -> None:
        if min(self.state["history"], key=self._validation_metric) is row:
            with averaged_weights(self.model):
                self.plain.set_weights(self.model.get_weights())
            _save(self.plain, self.folder / BEST_WEIGHTS_FILE)
        checkpoint = f"latest-{row['epoch']:04d}.weights.h5"
        _save(self.model, self.folder / checkpoint)
        self.state["checkpoint"] = checkpoint
        write_json(self.folder / STATE_FILE, self.state)
        for old in self.folder.glob("latest-*.weights.h5"):
            if old.name != checkpoint:
                old.unlink()


@contextlib.contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """Convert an error of the disk to one that says how to go on.

    Raises:
        TrainingError: If a file cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder}: {error.strerror or error}; fix this and run the same command again, with "
            "--resume once an epoch has finished."
        ) from error


def _save(model: keras.Model, path: Path) -> None:
    """Save the weights of a model, and of its optimizer if it is compiled, atomically."""
    with write_atomic(path) as temporary:
        model.save_weights(temporary)
