"""Search for the head of a network; each head is trained with its backbone.

Heads on the features of a frozen backbone train in seconds, but their ranking does not carry over to training with the
backbone. Trials are evaluated on radiographs of the training split; the validation split is never read. A held-out part
selects no trial: on it the best head is compared with the reference heads without selection bias. The recorded searches
are in experiments/history/heads.md.
"""

import dataclasses
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.base.errors import check_choice
from boneage.base.files import write_json, write_text
from boneage.base.json_files import read_own_json
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import Experiment, load_experiment, to_json
from boneage.registry.settings import TUNING_EXPERIMENT, resolve_uri
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tracking.tracker import Tracker, list_params, start_tracking
from boneage.training.initialise import pin_init
from boneage.tuning.chief import ALONE, CHIEF, OracleChain, TuningError, connect_to_chief, process_name, serve_oracles
from boneage.tuning.fit_trial import build_backbone, hash_weights, read_labels
from boneage.tuning.oracles import ORACLE_FOLDER, TUNERS
from boneage.tuning.report import summarise_search, trials_table
from boneage.tuning.search_space import check_sizes
from boneage.tuning.trials import EPOCH_METRICS, TRIALS_FOLDER, Search

__all__ = ["TuningError", "TuningResult", "tune"]

STATE_FILE = "search.json"


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """Result of a search.

    Args:
        folder: The folder of the search.
        trials: One row per trial: `number`, `kind` ("16bit", "network", "search"), `status` ("completed", "failed"),
            `val_mae_months`, `seconds`, `worker`, the settings of the head and its training, and `message`.
        summary: The content of `tune.json`.
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
    """Search for the best head for bone age; each head is trained with its backbone, as by `boneage.train`.

    The first two trials are the reference heads: that of 16Bit's network and the default of the network. The same call
    resumes an interrupted search, and extends a finished one to more trials.

    With KerasTuner's environment variables, see `boneage.tuning.chief`, several processes work on one search: make the
    same call in each of them, with a shared folder. Restart a worker that was interrupted; if it was the chief, restart
    all.

    Args:
        experiment: The experiment, its TOML file or the name of a packaged recipe.
        data: The record folder; only its split `train` is read.
        out: Folder of the search.
        num_trials: Number of trials, including the two reference heads.
        tuner: `"hyperband"`, `"bayesian"`, `"random"` or `"grid"`.
        seed: Seed of the split, the search and the heads.
        overrides: `key=value` overrides of the experiment's settings.
        tracking_uri: MLflow tracking URI, see `boneage.train`; `"none"` turns tracking off.
        progress: Called with one line of text after each trial.

    Returns:
        The result; None for a worker, as only the chief has it.

    Raises:
        BoneAgeError: If the experiment, the records or the backbone are invalid, the folder contains another search
            or is in use by another process, every trial failed, or the chief is unreachable.
        ValueError: If `num_trials` is out of range, or `tuner` or the scheme of `tracking_uri` is unknown.
    """
    check_choice("tuner", tuner, TUNERS)
    tracking_uri = resolve_uri(tracking_uri)
    if num_trials < 3:
        raise ValueError(f"`num_trials` must be at least 3, including two reference heads. Received: {num_trials}.")
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, overrides=overrides)
    experiment = pin_init(experiment)
    if experiment.train.task != "age":
        raise ConfigError(f"`task` must be 'age' for a search. Received: {experiment.train.task!r}.")
    if experiment.train.chronological_age != "none":
        raise ConfigError(
            "`chronological_age` must be 'none' for a search; set it for the training of the head that is found. "
            f"Received: {experiment.train.chronological_age!r}."
        )
    check_sizes(experiment)
    info, out, name = read_info(data), Path(out), process_name()
    described = split_info(info, "train", folder=data)
    if described["num_labelled"] < described["num_records"]:
        raise RecordsError(f"{data}: split 'train' has records without bone age; a search needs every label.")

    def open_search() -> tuple[Search, dict[str, Any]]:
        backbone = build_backbone(experiment)
        state = _open(out, experiment, digest=info["digest"], backbone=hash_weights(backbone), tuner=tuner, seed=seed)
        about = {"backbone": backbone.get_weights(), "data": data, "folder": out, "seed": seed, "name": name}
        return Search(experiment, read_labels(data), **about), state

    if name not in (ALONE, CHIEF):
        with connect_to_chief() as oracle:
            # Once the chief responds, its folder exists; it hands out the same trial again.
            oracle.create_trial(name)
            if not (out / STATE_FILE).exists():
                raise TuningError(
                    f"{out}: no search of the chief found; all workers need the same shared --out folder."
                )
            open_search()[0].run_trials(oracle)
        return None
    try:
        with lock_folder(out):
            search, state = open_search()
            with start_tracking(
                tracking_uri, folder=out, experiment=TUNING_EXPERIMENT, run_name=experiment.name
            ) as tracker:
                tracker.log_params(
                    {
                        "tuner": tuner,
                        "seed": seed,
                        "data.digest": info["digest"],
                        **list_params("tune", experiment.tune),
                    }
                )
                chain = OracleChain(
                    search.list_oracles(num_trials, tuner=tuner),
                    on_end=lambda trial: _report(search.read(trial), tracker=tracker, progress=progress),
                )
                if name == CHIEF:
                    serve_oracles(chain)
                else:
                    search.run_trials(chain)
                return _finish_search(search, state=state, folder=out, tracker=tracker)
    except OSError as error:
        raise TuningError(
            f"{error.filename or out}: {error.strerror or error}; fix this and run the same command again: finished "
            "trials are kept."
        ) from error


def _finish_search(search: Search, *, state: dict[str, Any], folder: Path, tracker: Tracker) -> TuningResult:
    """Write the table and the summary of a search."""
    trials = search.read_all()
    table = trials_table(trials)
    write_text(folder / "trials.csv", format_frame(table))
    tried = [trial for trial in trials if trial["kind"] == "search"]
    if not any(trial["status"] == "completed" for trial in tried):
        raise TuningError(f"{folder}: every trial failed; last error: {tried[-1]['message']}")
    summary = summarise_search(trials, search.labels, compared=search.compared, folds=search.folds, state=state)
    write_json(folder / "tune.json", summary)
    best = summary["best"][0]
    tracker.log_metrics({name: best[name] for name in ("val_mae_months", "compared_mae_months")})
    for file in ("trials.csv", "tune.json"):
        tracker.log_artifacts(folder / file)
    return TuningResult(folder, table, summary)


def _report(result: dict[str, Any], *, tracker: Tracker, progress: Callable[[str], None] | None) -> None:
    """Report the result of a trial, to MLflow as a child run."""
    mae, seconds = result["val_mae_months"], result["seconds"]
    title = f"trial {result['number']} ({result['kind']})"
    with tracker.start_child(title) as child:
        child.log_params({name: result[name] for name in ("kind", "worker", "status")} | result["settings"])
        for name in EPOCH_METRICS:
            folds = [fold[name] for fold in result["history"]]
            for epoch, values in enumerate(zip(*folds, strict=True), start=1):
                child.log_metrics({name: statistics.fmean(values)}, step=epoch)
        child.log_metrics({"seconds": seconds, **({} if mae is None else {"val_mae_months": mae})})
    if progress:
        progress(f"{title}: {result['message'] if mae is None else f'{mae:.2f} months'}, {seconds:.0f} s")


def _open(folder: Path, experiment: Experiment, *, digest: str, backbone: str, tuner: str, seed: int) -> dict[str, Any]:
    """Create the folder of a search, or read the state of the existing search.

    A search without a finished trial is started again, also with other settings or records.
    """
    described = {
        "experiment": {**json.loads(to_json(experiment)), "tune": dataclasses.asdict(experiment.tune)},
        "data_digest": digest,
        "tower_sha256": backbone,
        "tuner": tuner,
        "seed": seed,
    }
    identity: dict[str, Any] = json.loads(json.dumps(described))
    path = folder / STATE_FILE
    state: dict[str, Any] = (
        read_own_json(path, fields={}, fix="restore it, or choose another folder with --out") if path.exists() else {}
    )
    different = [key for key in identity if state.get(key) != identity[key]]
    if not different:
        return state
    if any((folder / TRIALS_FOLDER).glob("*.json")):
        raise TuningError(
            f"{folder}: contains a search with a different {different[0].replace('_', ' ')}; "
            "choose another folder with --out."
        )
    path.unlink(missing_ok=True)
    if (folder / ORACLE_FOLDER).exists():
        shutil.rmtree(folder / ORACLE_FOLDER)
    write_json(path, identity)
    return identity
