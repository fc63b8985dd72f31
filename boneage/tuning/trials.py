"""The trials of a search: the split of the radiographs, cross-validation, and the result file of each trial."""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from boneage.base.files import write_json
from boneage.base.json_files import DamagedFileError, read_own_json
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.training.memory import OUT_OF_MEMORY, divide
from boneage.tuning.chief import TuningError
from boneage.tuning.fit_trial import DivergedError, Labels, TrialTimeoutError, train_head
from boneage.tuning.oracles import OBJECTIVE, FixedOracle, open_oracle
from boneage.tuning.search_space import REFERENCE_HEADS, SEARCHED_SETTINGS, reference_heads, sample_config

TRIALS_FOLDER = "trials"
IDLE_SECONDS = 1.0
# MAE in months on the training and the validation radiographs.
EPOCH_METRICS = ("mae", "val_mae")


_RESULT_FIELDS = {
    "number": int,
    "kind": str,
    "worker": str,
    "status": str,
    "message": str,
    "settings": dict,
    "seconds": float,
    "history": list,
}


def split_folds(groups: np.ndarray, *, seed: int, num_folds: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Split radiographs by a hash of their patients, independent of their order; no patient is on two sides.

    Args:
        groups: The patient of each radiograph, shape `(radiographs,)`.
        seed: Seed of the split.
        num_folds: Number of validation folds; 1 holds out a tenth of the patients for validation instead.

    Returns:
        Whether each radiograph is in the held-out tenth that selects no trial, bool `(radiographs,)`, and, for each
        fold, whether it is in its validation set.

    Raises:
        TuningError: If a fold is empty.
    """
    patients = np.array(sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()))
    tenth = max(1, round(len(patients) / 10))
    folds = [patients[tenth : 2 * tenth]] if num_folds == 1 else np.array_split(patients[tenth:], num_folds)
    if len(patients) < 3 or not all(map(len, folds)):
        raise TuningError(
            f"{len(groups)} radiographs of {len(patients)} patients are too few for {num_folds} folds; prepare more or "
            "lower `num_folds`."
        )
    compared, *validation = (np.isin(groups, members) for members in (patients[:tenth], *folds))
    return compared, validation


class Search:
    """Runs trials, each with its own result file, so that no trial runs twice.

    Args:
        experiment: The experiment.
        labels: Labels of the training split.
        backbone: Weights of the backbone from `boneage.tuning.fit_trial.build_backbone`.
        data: The record folder.
        folder: Folder of the search.
        seed: Seed of the split and of the trials.
        name: Name of this process, written to its results.
    """

    def __init__(
        self,
        experiment: Experiment,
        labels: Labels,
        *,
        backbone: Sequence[np.ndarray],
        data: str | Path,
        folder: Path,
        seed: int,
        name: str,
    ):
        self.experiment, self.labels, self.backbone, self.data = experiment, labels, backbone, data
        self.folder, self.seed, self.name = folder, seed, name
        self.compared, self.folds = split_folds(labels.groups, seed=seed, num_folds=experiment.tune.num_folds)
        self.references = reference_heads(experiment, seed=seed)

    def list_oracles(self, num_trials: int, *, tuner: str) -> Iterator[keras_tuner.Oracle]:
        """Yield the oracle of the reference heads, then the oracle of the search."""
        done = {trial["number"] for trial in self.read_all()}
        missing = [{"reference": kind} for number, kind in enumerate(REFERENCE_HEADS, start=1) if number not in done]
        if missing:
            yield FixedOracle(missing)
        hyperparameters = keras_tuner.HyperParameters()
        sample_config(hyperparameters, self.experiment, seed=self.seed)
        yield open_oracle(
            tuner,
            folder=self.folder,
            hyperparameters=hyperparameters,
            num_trials=num_trials - len(self.references),
            max_epochs=self.experiment.tune.trial_epochs,
            seed=self.seed,
        )

    def run_trials(self, oracle: Any) -> None:
        """Run the trials of an oracle until none are left."""
        while (trial := oracle.create_trial(self.name)).status != "STOPPED":
            if trial.status == "IDLE":
                time.sleep(IDLE_SECONDS)
                continue
            result = self._run(trial)
            if result["status"] == "completed":
                oracle.update_trial(trial.trial_id, {OBJECTIVE: result["val_mae_months"]})
                trial.status = "COMPLETED"
            else:
                trial.status, trial.message = "FAILED", result["message"]
            oracle.end_trial(trial)

    def read(self, trial: Any) -> dict[str, Any]:
        """Read the result of a trial."""
        return _read_result(self._find_file(trial))

    def read_all(self) -> list[dict[str, Any]]:
        """Read the results of all trials, in the order of their numbers."""
        paths = (self.folder / TRIALS_FOLDER).glob("*.json")
        return [_read_result(path) for path in sorted(paths)]

    def _find_file(self, trial: Any) -> Path:
        reference = trial.hyperparameters.values.get("reference")
        number = REFERENCE_HEADS.index(reference) if reference else len(REFERENCE_HEADS) + int(trial.trial_id)
        return self.folder / TRIALS_FOLDER / f"{1 + number:05d}.json"

    def _run(self, trial: Any) -> dict[str, Any]:
        """Return the result of a trial, which is run if it has no result file."""
        path = self._find_file(trial)
        if path.exists():
            return self.read(trial)
        kind = trial.hyperparameters.values.get("reference", "search")
        config = self.references.get(kind) or sample_config(trial.hyperparameters, self.experiment, seed=self.seed)
        result = {
            "number": int(path.stem),
            "kind": kind,
            "worker": self.name,
            "settings": {name: getattr(config, name) for name in SEARCHED_SETTINGS},
            **self._run_config(config),
        }
        path.parent.mkdir(exist_ok=True)
        write_json(path, result)
        return result

    def _run_config(self, config: TrainConfig) -> dict[str, Any]:
        """Run a trial; returns its result with time and status, also if it fails."""
        began = time.perf_counter()
        ends_at = began + (self.experiment.tune.trial_seconds or math.inf)
        try:
            result = {"status": "completed", **self._run_within_memory(config, ends_at=ends_at)}
        except (DivergedError, TrialTimeoutError, *OUT_OF_MEMORY) as error:
            message = str(error).splitlines()[0] if str(error) else "out of memory"
            nothing: dict[str, Any] = {"val_mae_months": None, "compared_months": None, "history": []}
            result = {"status": "failed", "message": message, **nothing}
        return {"seconds": round(time.perf_counter() - began, 2), **result}

    def _run_within_memory(self, config: TrainConfig, *, ends_at: float) -> dict[str, Any]:
        """Run a trial, a second time with half as many radiographs at once if the memory does not suffice."""
        try:
            return {"message": "", **self._cross_validate(config, ends_at=ends_at)}
        except OUT_OF_MEMORY:
            divided = divide(config)
            if divided is None:
                raise
        # Here, since the error holds what fills the memory.
        message = f"out of memory at first; trained with accumulate_steps={divided.accumulate_steps}"
        return {"message": message, **self._cross_validate(divided, ends_at=ends_at)}

    def _cross_validate(self, config: TrainConfig, *, ends_at: float) -> dict[str, Any]:
        """Train for each fold; return the MAE on all validation radiographs and the metrics of each epoch."""
        errors, compared, histories = [], [], []
        rest = np.flatnonzero(self.compared)
        for fold in self.folds:
            train_rows, validation_rows = np.flatnonzero(~fold & ~self.compared), np.flatnonzero(fold)
            history, predict = train_head(
                config,
                self.experiment,
                data=self.data,
                backbone=self.backbone,
                labels=self.labels,
                train_rows=train_rows,
                validation_rows=validation_rows,
                ends_at=ends_at,
            )
            # One prediction of both: each prediction reads all records.
            months = predict(np.concatenate([validation_rows, rest]))
            errors.append(np.abs(months[: len(validation_rows)] - self.labels.bone_age_months[validation_rows]))
            compared.append(months[len(validation_rows) :])
            histories.append({name: [round(float(value), 4) for value in history[name]] for name in EPOCH_METRICS})
        return {
            "val_mae_months": round(float(np.concatenate(errors).mean()), 4),
            "compared_months": np.mean(compared, axis=0).round(3).tolist(),
            "history": histories,
        }


def _read_result(path: Path) -> dict[str, Any]:
    """Read the result file of a trial.

    Raises:
        DamagedFileError: If it is damaged.
    """
    fix = "remove it to run this trial again"
    result = read_own_json(path, fields=_RESULT_FIELDS, fix=fix)
    is_number = isinstance(result.get("val_mae_months"), float) and isinstance(result.get("compared_months"), list)
    if result["status"] == "completed" and not is_number:
        raise DamagedFileError(f"{path}: damaged (a completed trial without its error); {fix}.")
    return result
