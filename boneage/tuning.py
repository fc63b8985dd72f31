"""Search for the head of a network, each trained with its tower.

Heads on the features of a frozen tower train in seconds, but their order says nothing of the order with the tower, as
experiments/README.md tells. Trials are judged by a part of the training split; the validation split is never read. A
second part judges no trial: on it the best head is compared with 16Bit's, because the best of many looks better than it
is where it was chosen.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.config import ConfigError, Experiment, load_experiment, to_json
from boneage.heads import build_tower, check_sizes, hash_weights, read_labels
from boneage.oracles import TUNERS
from boneage.relay import ALONE, CHIEF, Relay, TuningFailed, ask_chief, read_name, serve
from boneage.tracking import TUNING_EXPERIMENT, Tracker, list_params, start_tracking
from boneage.trials import EPOCH_METRICS, Search
from boneage.tuning_report import summarise_search, tabulate_trials
from tfrecords.errors import check_choice
from tfrecords.info import RecordsError, read_info, split_info
from tfrecords.write import write_json, write_text

__all__ = ["TuningFailed", "TuningResult", "tune"]

STATE_FILE = "search.json"


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Args:
        folder: Where it is kept.
        trials: One row a trial: `number`, `kind` ("16bit", "network" or "search"), `status` ("completed" or "failed"),
            `val_mae_months`, `seconds`, `worker`, what the head is and how it was trained, and `message`.
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
) -> TuningResult | None:
    """Search for the head that reads bone age best, each trained with its tower as `boneage.train` would.

    The first two trials are 16Bit's head and the network's own. A search that was killed goes on where it was when it
    is called again; so does a finished one with more trials.

    Under KerasTuner's environment variables, see `boneage.relay`, several processes share one search: the same call in
    each of them, with a folder that they share. A worker that was killed goes on when it is called again; where it was
    the chief, all are.

    Args:
        experiment: The experiment, or its TOML file, with its table `[tune]`.
        data: The record folder; only its split `train` is read.
        out: Folder of the search.
        num_trials: Number of trials, the two references among them.
        tuner: `"hyperband"`, `"bayesian"`, `"random"` or `"grid"`.
        seed: Seed of the division, the search, and each head.
        overrides: `key=value` changes to the experiment's file.
        tracking_uri: MLflow's store as in `boneage.train`; `"none"` tracks nothing.
        progress: Told one line after each trial.

    Returns:
        What was found; None for a worker, whose chief tells.

    Raises:
        BoneAgeError: If the experiment, the records or the tower cannot be used, the folder holds another search, no
            trial came to an end, or the chief is gone.
        ValueError: If `num_trials` or `tuner` is out of range.
    """
    check_choice("tuner", tuner, TUNERS)
    if num_trials < 3:
        raise ValueError(f"`num_trials` must be at least 3, two of them references. Received: {num_trials}.")
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    if experiment.train.task != "age":
        raise ConfigError(f"a search is for the task 'age'. Received: {experiment.train.task!r}.")
    check_sizes(experiment)
    info, out, name = read_info(data), Path(out), read_name()
    described = split_info(info, "train", folder=data)
    if described["num_labelled"] < described["num_records"]:
        raise RecordsError(f"{data}: split 'train' has records without bone age; a search needs every label.")

    def open_search() -> tuple[Search, dict[str, Any]]:
        tower = build_tower(experiment)
        state = _open(out, experiment, digest=info["digest"], tower=hash_weights(tower), tuner=tuner, seed=seed)
        about = {"tower": tower.get_weights(), "data": data, "folder": out, "seed": seed, "name": name}
        return Search(experiment, read_labels(data), **about), state

    if name not in (ALONE, CHIEF):
        with ask_chief() as oracle:
            # The answer, which the chief repeats, means that the folder is there.
            oracle.create_trial(name)
            if not (out / STATE_FILE).exists():
                raise TuningFailed(f"{out}: the chief's search is not here; give all workers an --out that they share.")
            open_search()[0].work(oracle)
        return None
    search, state = open_search()
    with start_tracking(tracking_uri, folder=out, experiment=TUNING_EXPERIMENT, run_name=experiment.name) as tracker:
        tracker.log_params(
            {"tuner": tuner, "seed": seed, "data.digest": info["digest"], **list_params("tune", experiment.tune)}
        )
        relay = Relay(
            search.list_oracles(num_trials, tuner=tuner),
            on_end=lambda trial: _report(search.read(trial), tracker=tracker, progress=progress),
        )
        if name == CHIEF:
            serve(relay)
        else:
            search.work(relay)
        trials = search.read_all()
        table = tabulate_trials(trials)
        write_text(out / "trials.csv", table.to_csv(index=False))
        tried = [each for each in trials if each["kind"] == "search"]
        if not any(each["status"] == "completed" for each in tried):
            raise TuningFailed(f"{out}: no head of the search could be trained; the last says: {tried[-1]['message']}")
        summary = summarise_search(trials, search.labels, compared=search.compared, folds=search.folds, state=state)
        write_json(out / "tune.json", summary)
        best = summary["best"][0]
        tracker.log_metrics({name: best[name] for name in ("val_mae_months", "compared_mae_months")})
        for file in ("trials.csv", "tune.json"):
            tracker.log_artifacts(out / file)
    return TuningResult(out, table, summary)


def _report(brought: dict[str, Any], *, tracker: Tracker, progress: Callable[[str], None] | None) -> None:
    """Tell what a trial brought, to MLflow as a run of its own."""
    mae, seconds = brought["val_mae_months"], brought["seconds"]
    title = f"trial {brought['number']} ({brought['kind']})"
    with tracker.start_child(title) as child:
        child.log_params({name: brought[name] for name in ("kind", "worker", "status")} | brought["settings"])
        for name in EPOCH_METRICS:
            folds = [fold[name] for fold in brought["history"]]
            for epoch, values in enumerate(zip(*folds, strict=True), start=1):
                child.log_metrics({name: statistics.fmean(values)}, step=epoch)
        child.log_metrics({"seconds": seconds, **({} if mae is None else {"val_mae_months": mae})})
    if progress:
        progress(f"{title}: {brought['message'] if mae is None else f'{mae:.2f} months'}, {seconds:.0f} s")


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
