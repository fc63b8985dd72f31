"""The trials of a search: on what each learns and is judged, how it is run, and what is kept of it."""

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import tensorflow as tf

from boneage.config import Experiment
from boneage.end_to_end import configure, list_settings, retrain, train_end_to_end
from boneage.features import Features
from boneage.heads import REFERENCES, Diverged, Head, choose, predict_head, reference_heads, train_head
from boneage.oracles import OBJECTIVE, Listed, open_oracle
from boneage.relay import TuningFailed
from tfrecords.write import write_json

TRIALS_FOLDER = "trials"
IDLE_SECONDS = 1.0
# Trains on some radiographs, is judged by others, and returns what answers for any in months.
Training = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


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
        self, experiment: Experiment, features: Features, *, data: str | Path, folder: Path, seed: int, name: str
    ):
        self.experiment, self.features, self.data = experiment, features, data
        self.folder, self.seed, self.name = folder, seed, name
        self.compared, self.folds = divide(features.ids, seed=seed, num_folds=experiment.tune.num_folds)
        self.references = reference_heads(experiment.train, experiment.tune)

    def list_oracles(self, num_trials: int, *, tuner: str) -> Iterator[keras_tuner.Oracle]:
        """Give what chooses the references, the heads of the search, and those that are trained end to end."""
        done = {each["number"] for each in self.read_all()}
        missing = [{"reference": kind} for number, kind in enumerate(REFERENCES, start=1) if number not in done]
        if missing:
            yield Listed(missing)
        hyperparameters = keras_tuner.HyperParameters()
        choose(hyperparameters, self.experiment.tune)
        yield open_oracle(
            tuner,
            folder=self.folder,
            hyperparameters=hyperparameters,
            num_trials=num_trials - len(self.references),
            max_epochs=self.experiment.tune.trial_epochs,
            seed=self.seed,
        )
        if missing := list(self._list_end_to_end()):
            yield Listed(missing)

    def _list_end_to_end(self) -> Iterator[dict[str, Any]]:
        """List what is still to be trained end to end: the references, the best, and a spread, each head once.

        Heads of which only the optimizer and its settings differ are the same head there.
        """
        trials, tune = self.read_all(), self.experiment.tune
        found = [each for each in trials if each["kind"] == "search" and each["status"] == "completed"]
        found.sort(key=lambda each: each["val_mae_months"])
        if not found or not tune.fine_epochs:
            return
        numbers: dict[Head, int] = {}
        for number, head in enumerate(self.references.values(), start=1):
            numbers.setdefault(retrain(head, self.experiment), number)
        num_heads = len(numbers) + tune.best_k
        for each in found:
            numbers.setdefault(retrain(_read_head(each), self.experiment), each["number"])
        rest = list(numbers)[num_heads:]
        spread = np.linspace(0, len(rest) - 1, min(tune.spread_k, len(rest)))
        heads = [*list(numbers)[:num_heads], *(rest[round(place)] for place in spread)]
        again = [each for each in trials if each["kind"] == "end_to_end"]
        done = {(each["input_size"], each["trainable"], _read_head(each)) for each in again}
        for (input_size, trainable), head in itertools.product(list_settings(self.experiment), heads):
            if (input_size, trainable, head) not in done:
                yield {"end_to_end": numbers[head], "input_size": input_size, "trainable": trainable}

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
        """Read what all trials brought, those end to end last."""
        paths = (self.folder / TRIALS_FOLDER).glob("*.json")
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
        return sorted(found, key=lambda each: (each["kind"] == "end_to_end", each["number"]))

    def _name_file(self, number: int, *setting: str | int) -> Path:
        return self.folder / TRIALS_FOLDER / ("-".join([f"{number:05d}", *map(str, setting)]) + ".json")

    def _find_file(self, trial: Any) -> Path:
        values = trial.hyperparameters.values
        if "end_to_end" in values:
            return self._name_file(values["end_to_end"], values["input_size"], values["trainable"])
        if "reference" in values:
            return self._name_file(1 + REFERENCES.index(values["reference"]))
        return self._name_file(len(self.references) + 1 + int(trial.trial_id))

    def _run(self, trial: Any) -> dict[str, Any]:
        """Return what a trial brought, running it unless it was run before."""
        path, values = self._find_file(trial), trial.hyperparameters.values
        if path.exists():
            return self.read(trial)
        number, train = int(path.stem[:5]), self.experiment.train
        about: dict[str, Any] = {"number": number, "worker": self.name}
        if "end_to_end" in values:
            found = json.loads(self._name_file(number).read_text(encoding="utf-8"))
            head = retrain(_read_head(found), self.experiment)
            setting = {"input_size": values["input_size"], "trainable": values["trainable"]}
            brought = self._try(self._train_end_to_end(head, **setting))
            about |= {"kind": "end_to_end", **setting}
        else:
            kind = values.get("reference", "search")
            head = self.references.get(kind) or choose(trial.hyperparameters, self.experiment.tune)
            brought = self._try(self._train_head(head))
            about |= {"kind": kind, "input_size": train.input_size, "trainable": "head"}
        brought = {**about, "head": dataclasses.asdict(head), **brought}
        path.parent.mkdir(exist_ok=True)
        write_json(path, brought)
        return brought

    def _train_head(self, head: Head) -> Training:
        def train(learnt: np.ndarray, judged: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            model = train_head(
                head,
                self.features,
                rows=learnt,
                use_sex=self.experiment.train.use_sex,
                batch_size=self.experiment.tune.trial_batch_size,
                flip_share=self.experiment.augment.flip_share,
                seed=self.seed,
            )
            return lambda rows: predict_head(model, self.features, rows=rows)

        return train

    def _train_end_to_end(self, head: Head, *, input_size: int, trainable: str | int) -> Training:
        config = configure(head, self.experiment, input_size=input_size, trainable=trainable, seed=self.seed)

        def train(learnt: np.ndarray, judged: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            return train_end_to_end(
                config, self.experiment, data=self.data, features=self.features, learnt=learnt, judged=judged
            )

        return train

    def _try(self, train: Training) -> dict[str, Any]:
        """Train and judge, and tell how long it took and what came of it, be it that it failed."""
        began = time.perf_counter()
        try:
            brought = {"status": "completed", "message": "", **self._judge(train)}
        except (Diverged, MemoryError, tf.errors.ResourceExhaustedError) as error:
            message = str(error).splitlines()[0] if str(error) else "out of memory"
            brought = {"status": "failed", "message": message, "val_mae_months": None, "compared_months": None}
        return {"seconds": round(time.perf_counter() - began, 2), **brought}

    def _judge(self, train: Training) -> dict[str, Any]:
        """Train for each fold, and return the MAE on all that is judged by."""
        errors, compared = [], []
        for fold in self.folds:
            learnt, judged = np.flatnonzero(~fold & ~self.compared), np.flatnonzero(fold)
            predict = train(learnt, judged)
            errors.append(np.abs(predict(judged) - self.features.bone_age_months[judged, 0]))
            compared.append(predict(np.flatnonzero(self.compared)))
        return {
            "val_mae_months": round(float(np.concatenate(errors).mean()), 4),
            "compared_months": np.mean(compared, axis=0).round(3).tolist(),
        }


def _read_head(brought: dict[str, Any]) -> Head:
    return Head(**{**brought["head"], "head_units": tuple(brought["head"]["head_units"])})
