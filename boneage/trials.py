"""The trials of a search: on what each learns and is judged, how it is run, and what is kept of it."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import tensorflow as tf

from boneage.config import Experiment, TrainConfig
from boneage.heads import REFERENCES, SEARCHED, Diverged, Labels, choose, reference_heads, train_head
from boneage.oracles import OBJECTIVE, Listed, open_oracle
from boneage.relay import TuningFailed
from tfrecords.write import write_json

TRIALS_FOLDER = "trials"
IDLE_SECONDS = 1.0
# MAE in months, on what is learnt from and on what is judged by.
EPOCH_METRICS = ("mae", "val_mae")


def divide(ids: np.ndarray, *, seed: int, num_folds: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Divide radiographs in the order of a hash of their ids, whatever order they come in.

    Args:
        ids: Ids, shape `(radiographs,)`.
        seed: Seed of the division.
        num_folds: 1 judges by a tenth of all; more by that many folds of all that is not compared on.

    Returns:
        Whether each radiograph is of the tenth that judges no trial, bool `(radiographs,)`, and for each fold whether
        it is judged by.

    Raises:
        TuningFailed: If a part is empty.
    """
    order = np.argsort([hashlib.sha256(f"{seed}:{id}".encode()).hexdigest() for id in ids])
    tenth = max(1, round(len(ids) / 10))
    folds = [order[tenth : 2 * tenth]] if num_folds == 1 else np.array_split(order[tenth:], num_folds)
    if len(ids) < 3 or not all(map(len, folds)):
        raise TuningFailed(f"{len(ids)} radiographs are too few to divide; prepare more, or lower `num_folds`.")
    compared, *judged = (np.isin(np.arange(len(ids)), rows) for rows in (order[:tenth], *folds))
    return compared, judged


class Search:
    """Runs trials; what each brought is kept in a file of its own, so that none is run twice."""

    def __init__(
        self,
        experiment: Experiment,
        labels: Labels,
        *,
        tower: Sequence[np.ndarray],
        data: str | Path,
        folder: Path,
        seed: int,
        name: str,
    ):
        self.experiment, self.labels, self.tower, self.data = experiment, labels, tower, data
        self.folder, self.seed, self.name = folder, seed, name
        self.compared, self.folds = divide(labels.ids, seed=seed, num_folds=experiment.tune.num_folds)
        self.references = reference_heads(experiment, seed=seed)

    def list_oracles(self, num_trials: int, *, tuner: str) -> Iterator[keras_tuner.Oracle]:
        """Give what chooses the references, then what chooses the heads of the search."""
        done = {each["number"] for each in self.read_all()}
        missing = [{"reference": kind} for number, kind in enumerate(REFERENCES, start=1) if number not in done]
        if missing:
            yield Listed(missing)
        hyperparameters = keras_tuner.HyperParameters()
        choose(hyperparameters, self.experiment, seed=self.seed)
        yield open_oracle(
            tuner,
            folder=self.folder,
            hyperparameters=hyperparameters,
            num_trials=num_trials - len(self.references),
            max_epochs=self.experiment.tune.trial_epochs,
            seed=self.seed,
        )

    def work(self, oracle: Any) -> None:
        """Run the trials that an oracle hands out, until it has none left."""
        while (trial := oracle.create_trial(self.name)).status != "STOPPED":
            if trial.status == "IDLE":
                time.sleep(IDLE_SECONDS)
                continue
            brought = self._run(trial)
            if brought["status"] == "completed":
                oracle.update_trial(trial.trial_id, {OBJECTIVE: brought["val_mae_months"]})
                trial.status = "COMPLETED"
            else:
                trial.status, trial.message = "FAILED", brought["message"]
            oracle.end_trial(trial)

    def read(self, trial: Any) -> dict[str, Any]:
        """Read what a trial brought."""
        return json.loads(self._find_file(trial).read_text(encoding="utf-8"))

    def read_all(self) -> list[dict[str, Any]]:
        """Read what all trials brought, by their numbers."""
        paths = (self.folder / TRIALS_FOLDER).glob("*.json")
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]

    def _find_file(self, trial: Any) -> Path:
        reference = trial.hyperparameters.values.get("reference")
        number = REFERENCES.index(reference) if reference else len(REFERENCES) + int(trial.trial_id)
        return self.folder / TRIALS_FOLDER / f"{1 + number:05d}.json"

    def _run(self, trial: Any) -> dict[str, Any]:
        """Return what a trial brought, running it unless it was run before."""
        path = self._find_file(trial)
        if path.exists():
            return self.read(trial)
        kind = trial.hyperparameters.values.get("reference", "search")
        config = self.references.get(kind) or choose(trial.hyperparameters, self.experiment, seed=self.seed)
        brought = {
            "number": int(path.stem),
            "kind": kind,
            "worker": self.name,
            "settings": {name: getattr(config, name) for name in SEARCHED},
            **self._try(config),
        }
        path.parent.mkdir(exist_ok=True)
        write_json(path, brought)
        return brought

    def _try(self, config: TrainConfig) -> dict[str, Any]:
        """Train and judge, and tell how long it took and what came of it, be it that it failed."""
        began = time.perf_counter()
        try:
            brought = {"status": "completed", "message": "", **self._judge(config)}
        except (Diverged, MemoryError, tf.errors.ResourceExhaustedError) as error:
            message = str(error).splitlines()[0] if str(error) else "out of memory"
            nothing: dict[str, Any] = {"val_mae_months": None, "compared_months": None, "history": []}
            brought = {"status": "failed", "message": message, **nothing}
        return {"seconds": round(time.perf_counter() - began, 2), **brought}

    def _judge(self, config: TrainConfig) -> dict[str, Any]:
        """Train for each fold; return the MAE on all that is judged by, and what each epoch of each fold brought."""
        errors, compared, histories = [], [], []
        rest = np.flatnonzero(self.compared)
        for fold in self.folds:
            learnt, judged = np.flatnonzero(~fold & ~self.compared), np.flatnonzero(fold)
            history, predict = train_head(
                config,
                self.experiment,
                data=self.data,
                tower=self.tower,
                labels=self.labels,
                learnt=learnt,
                judged=judged,
            )
            # Asked once for both parts: each time, all records are read.
            months = predict(np.concatenate([judged, rest]))
            errors.append(np.abs(months[: len(judged)] - self.labels.bone_age_months[judged]))
            compared.append(months[len(judged) :])
            histories.append({name: [round(float(value), 4) for value in history[name]] for name in EPOCH_METRICS})
        return {
            "val_mae_months": round(float(np.concatenate(errors).mean()), 4),
            "compared_months": np.mean(compared, axis=0).round(3).tolist(),
            "history": histories,
        }
