"""Search for the head of a network: many heads on the features of its frozen tower, each trained in seconds.

A head is judged by a part of the training split; the validation split is never read. A second part judges no trial: on
it the best head is compared with 16Bit's, because the best of many looks better than it is where it was chosen.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pandas as pd
import tensorflow as tf

from boneage.config import ConfigError, Experiment, load_experiment, to_json
from boneage.features import Features, read_features
from boneage.heads import Diverged, Head, choose, predict_head, reference_heads, train_head
from boneage.oracles import OBJECTIVE, TUNERS, open_oracle
from boneage.tracking import TUNING_EXPERIMENT, Tracker, list_params, start_tracking
from boneage.tuning_report import summarise_search, tabulate_trials
from tfrecords.errors import BoneAgeError, check_choice
from tfrecords.info import RecordsError, read_info, split_info
from tfrecords.write import write_json, write_text

STATE_FILE, TRIALS_FOLDER = "search.json", "trials"
FEATURES_FOLDER = "features"
Divided = tuple[np.ndarray, list[np.ndarray]]


class TuningFailed(BoneAgeError):
    """A search that cannot begin, go on, or tell anything."""


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Args:
        folder: Where it is kept.
        trials: One row a trial: `number`, `kind` ("16bit", "network" or "search"), `status` ("completed" or
            "failed"), `val_mae_months`, `seconds`, what the head is, and `message`.
        summary: What `tune.json` holds.
    """

    folder: Path
    trials: pd.DataFrame
    summary: dict[str, Any]


def tune(
    experiment: Experiment | str | Path,
    *,
    data: str | Path,
    out: str | Path,
    num_trials: int = 60,
    tuner: str = "hyperband",
    seed: int = 0,
    overrides: Sequence[str] = (),
    tracking_uri: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> TuningResult:
    """Search for the head that reads bone age best from a frozen tower.

    The first two trials are 16Bit's head and the network's own. A search that was killed goes on where it was when it
    is called again; so does a finished one with more trials.

    Args:
        experiment: The experiment, or its TOML file, with its table `[tune]`.
        data: The record folder; only its split `train` is read.
        out: Folder of the search. What the tower sees is kept in `features` beside it.
        num_trials: Number of trials, the two references among them.
        tuner: `"hyperband"`, `"bayesian"`, `"random"` or `"grid"`.
        seed: Seed of the division, the search, and each head.
        overrides: `key=value` changes to the experiment's file.
        tracking_uri: MLflow's store as in `boneage.train`; `"none"` tracks nothing.
        progress: Told one line after each trial.

    Raises:
        BoneAgeError: If the experiment, the records or the tower cannot be used, the folder holds another search, or no
            trial came to an end.
        ValueError: If `num_trials` or `tuner` is out of range.
    """
    check_choice("tuner", tuner, TUNERS)
    if num_trials < 3:
        raise ValueError(f"`num_trials` must be at least 3, two of them references. Received: {num_trials}.")
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    if experiment.train.task != "age":
        raise ConfigError(f"a search is for the task 'age'. Received: {experiment.train.task!r}.")
    info, out = read_info(data), Path(out)
    described = split_info(info, "train", folder=data)
    if described["num_labelled"] < described["num_records"]:
        raise RecordsError(f"{data}: split 'train' has records without bone age; a search needs every label.")
    features = read_features(experiment, data=data, folder=out.parent / FEATURES_FOLDER)
    state = _open(out, experiment, digest=info["digest"], tower=features.tower_sha256, tuner=tuner, seed=seed)
    with start_tracking(tracking_uri, folder=out, experiment=TUNING_EXPERIMENT, run_name=experiment.name) as tracker:
        tracker.log_params(
            {"tuner": tuner, "seed": seed, "data.digest": info["digest"], **list_params("tune", experiment.tune)}
        )
        search = _Search(experiment, features, folder=out, seed=seed, tracker=tracker, progress=progress)
        trials = search.run(num_trials, tuner=tuner)
        table = tabulate_trials(trials)
        write_text(out / "trials.csv", table.to_csv(index=False))
        if not any(each["kind"] == "search" and each["status"] == "completed" for each in trials):
            raise TuningFailed(f"{out}: no head of the search could be trained; the last says: {trials[-1]['message']}")
        summary = summarise_search(trials, features, compared=search.compared, folds=search.folds, state=state)
        write_json(out / "tune.json", summary)
        best = summary["best"][0]
        tracker.log_metrics({name: best[name] for name in ("val_mae_months", "compared_mae_months")})
        for name in ("trials.csv", "tune.json"):
            tracker.log_artifacts(out / name)
    return TuningResult(out, table, summary)


def divide(ids: np.ndarray, *, seed: int, num_folds: int) -> Divided:
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


class _Search:
    """Runs trials; what each brought is kept in a file of its own, so that none is run twice."""

    def __init__(
        self,
        experiment: Experiment,
        features: Features,
        *,
        folder: Path,
        seed: int,
        tracker: Tracker,
        progress: Callable[[str], None] | None,
    ):
        self.experiment, self.features, self.folder, self.seed = experiment, features, folder, seed
        self.tracker, self.progress = tracker, progress
        self.compared, self.folds = divide(features.ids, seed=seed, num_folds=experiment.tune.num_folds)

    def run(self, num_trials: int, *, tuner: str) -> list[dict[str, Any]]:
        """Run the references and what the oracle asks for; returns what all trials brought."""
        config = self.experiment.tune
        references = reference_heads(self.experiment.train, config)
        trials = [self._try(head, number=n, kind=kind) for n, (kind, head) in enumerate(references.items(), start=1)]
        hyperparameters = keras_tuner.HyperParameters()
        choose(hyperparameters, config)
        oracle = open_oracle(
            tuner,
            folder=self.folder,
            hyperparameters=hyperparameters,
            num_trials=num_trials - len(references),
            max_epochs=config.trial_epochs,
            seed=self.seed,
        )
        while (trial := oracle.create_trial("boneage")).status == "RUNNING":
            number = len(references) + 1 + int(trial.trial_id)
            brought = self._try(choose(trial.hyperparameters, config), number=number, kind="search")
            if brought["status"] == "completed":
                oracle.update_trial(trial.trial_id, {OBJECTIVE: brought["val_mae_months"]})
                trial.status = "COMPLETED"
            else:
                trial.status, trial.message = "FAILED", brought["message"]
            oracle.end_trial(trial)
            # Without it the state still tells that the trial goes on.
            oracle.save()
        kept = (self.folder / TRIALS_FOLDER).glob("*.json")
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(kept)]
        return trials + [each for each in found if each["kind"] == "search"]

    def _try(self, head: Head, *, number: int, kind: str) -> dict[str, Any]:
        """Return what a trial brought, running it unless it was run before."""
        path = self.folder / TRIALS_FOLDER / f"{number:05d}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        began = time.perf_counter()
        with self.tracker.start_child(f"trial {number} ({kind})") as tracker:
            tracker.log_params({"kind": kind, **list_params("head", head)})
            try:
                brought = {"status": "completed", "message": "", **self._judge(head)}
                tracker.log_metrics({"val_mae": brought["val_mae_months"]})
            except (Diverged, MemoryError, tf.errors.ResourceExhaustedError) as error:
                message = str(error).splitlines()[0] if str(error) else "out of memory"
                brought = {"status": "failed", "message": message, "val_mae_months": None, "compared_months": None}
            tracker.log_params({"status": brought["status"]})
        seconds = round(time.perf_counter() - began, 2)
        brought = {"number": number, "kind": kind, "seconds": seconds, "head": dataclasses.asdict(head), **brought}
        path.parent.mkdir(exist_ok=True)
        write_json(path, brought)
        if self.progress:
            mae = brought["val_mae_months"]
            outcome = brought["message"] if mae is None else f"{mae:.2f} months"
            self.progress(f"trial {number} ({kind}): {outcome}, {seconds:.0f} s")
        return brought

    def _judge(self, head: Head) -> dict[str, Any]:
        """Train a head for each fold, and return its MAE on all that it is judged by."""
        errors, compared = [], []
        for judged in self.folds:
            model = train_head(
                head,
                self.features,
                rows=np.flatnonzero(~judged & ~self.compared),
                use_sex=self.experiment.train.use_sex,
                batch_size=self.experiment.tune.trial_batch_size,
                flip_share=self.experiment.augment.flip_share,
                seed=self.seed,
            )
            rows = np.flatnonzero(judged)
            months = predict_head(model, self.features, rows=rows)
            errors.append(np.abs(months - self.features.bone_age_months[rows, 0]))
            compared.append(predict_head(model, self.features, rows=np.flatnonzero(self.compared)))
        return {
            "val_mae_months": round(float(np.concatenate(errors).mean()), 4),
            "compared_months": np.mean(compared, axis=0).round(3).tolist(),
        }


def _open(folder: Path, experiment: Experiment, *, digest: str, tower: str, tuner: str, seed: int) -> dict[str, Any]:
    """Make the folder of a search, or take up the one that is there."""
    identity = {
        "experiment": {**json.loads(to_json(experiment)), "tune": dataclasses.asdict(experiment.tune)},
        "data_digest": digest,
        "tower_sha256": tower,
        "tuner": tuner,
        "seed": seed,
    }
    identity = json.loads(json.dumps(identity))
    path = folder / STATE_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, identity)
        return identity
    state = json.loads(path.read_text(encoding="utf-8"))
    if different := [key for key in identity if state.get(key) != identity[key]]:
        raise TuningFailed(
            f"{folder}: holds a search with another {different[0].replace('_', ' ')}; choose another --out."
        )
    return state
