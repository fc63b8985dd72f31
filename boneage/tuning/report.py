"""The report of a search: a table of all trials, and a summary of the best heads and the reference heads."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.bundles.bundle import read_metadata
from boneage.evaluation.summarise import compare
from boneage.registry.resolve import resolve_bundle
from boneage.registry.settings import METADATA_FILE
from boneage.tuning.fit_trial import Labels
from boneage.tuning.search_space import REFERENCE_HEADS, SEARCHED_SETTINGS

CAUTION = (
    "The best head was selected by its validation MAE, which is therefore optimistic; the held-out part selected "
    "nothing. Each head was trained once."
)
LEAKAGE_WARNING = (
    "The backbone was trained on these records (data leakage): all MAE are too low; their order may still hold."
)


def trials_table(trials: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per trial, with every hyperparameter."""
    table = pd.DataFrame([{**trial, **trial["settings"]} for trial in trials])
    table["head_units"] = ["-".join(map(str, units)) for units in table["head_units"]]
    return table[["number", "kind", "status", "val_mae_months", "seconds", "worker", *SEARCHED_SETTINGS, "message"]]


def summarise_search(
    trials: Sequence[dict[str, Any]],
    labels: Labels,
    *,
    compared: np.ndarray,
    folds: Sequence[np.ndarray],
    state: dict[str, Any],
) -> dict[str, Any]:
    """Summarise a search with at least one completed trial.

    Args:
        trials: Results of the trials.
        labels: Labels of the training split.
        compared: Whether each radiograph is in the held-out part.
        folds: For each fold, whether each radiograph is in its validation set.
        state: Experiment, data digest, tuner and seed of the search.

    Returns:
        The content of `tune.json`; all MAE in months.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    completed.sort(key=lambda trial: trial["val_mae_months"])
    found = [trial for trial in completed if trial["kind"] == "search"]
    references = [trial for trial in trials if trial["kind"] in REFERENCE_HEADS and trial["status"] == "completed"]
    rows = np.flatnonzero(compared)

    def predictions(trial: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "id": labels.ids[rows],
                "group": labels.groups[rows],
                "sex": labels.sexes[rows],
                "bone_age_months": labels.bone_age_months[rows],
                "predicted_months": trial["compared_months"],
            }
        )

    def describe(trial: dict[str, Any]) -> dict[str, Any]:
        frame = predictions(trial)
        error = (frame["predicted_months"] - frame["bone_age_months"]).abs().mean()
        names = ("number", "kind", "val_mae_months", "seconds", "settings")
        return {**{name: trial[name] for name in names}, "compared_mae_months": round(float(error), 4)}

    config = state["experiment"]
    return {
        **{key: state[key] for key in ("experiment", "data_digest", "tower_sha256", "tuner", "seed")},
        "tower_saw_records": _has_leakage(config["train"]["init"], digest=state["data_digest"]),
        "num_trials": len(trials),
        "num_failed": len(trials) - len(completed),
        "num_learnt": int((~compared & ~folds[0]).sum()),
        "num_judged": int(sum(fold.sum() for fold in folds)),
        "num_compared": len(rows),
        "seconds": round(sum(trial["seconds"] for trial in trials), 1),
        "best": [describe(trial) for trial in found[: config["tune"]["best_k"]]],
        "references": [describe(trial) for trial in references],
        "best_against": {
            trial["kind"]: dataclasses.asdict(compare(predictions(found[0]), predictions(trial), seed=state["seed"]))
            for trial in references
        },
        "caution": CAUTION,
    }


def _has_leakage(init: str, *, digest: str) -> bool:
    """Return whether the backbone was trained on these records."""
    folder = resolve_bundle(init)
    if not (folder / METADATA_FILE).exists():
        return False
    return bool(read_metadata(folder).get("training_data", {}).get("digest") == digest)


def summary_table(summary: dict[str, Any]) -> Table:
    """Return the terminal table of a search: the best heads and the reference heads, in the order of validation."""
    caption = [
        f"MAE in months: validation on {summary['num_judged']:,} radiographs, held out {summary['num_compared']:,}.",
        *(
            f"Best minus {kind} on the held-out part: {_interval(comparison['difference_months'])}."
            for kind, comparison in summary["best_against"].items()
        ),
        f"{summary['num_failed']} of {summary['num_trials']} trials failed. {summary['caution']}",
    ]
    if summary["tower_saw_records"]:
        caption.append(LEAKAGE_WARNING)
    result = Table(title="Heads", caption="\n".join(caption), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("Trial", "Head", "Validation", "Held out", "Seconds"):
        result.add_column(heading, justify="left" if heading == "Head" else "right", no_wrap=heading != "Head")
    for trial in sorted([*summary["best"], *summary["references"]], key=lambda trial: trial["val_mae_months"]):
        name = str(trial["number"]) if trial["kind"] == "search" else trial["kind"]
        maes = (f"{trial[key]:.2f}" for key in ("val_mae_months", "compared_mae_months"))
        result.add_row(name, _describe(trial["settings"]), *maes, f"{trial['seconds']:.0f}")
    return result


def _describe(settings: dict[str, Any]) -> str:
    units = "-".join(str(width) for width in settings["head_units"] if width) or "none"
    trained = {"all": "all layers", "head": "only the head"}.get(
        settings["trainable"], f"the head and {settings['trainable']} layers"
    )
    words = [
        f"{units} {settings['activation']}",
        f"{settings['pooling']} pooling",
        f"sex {settings['sex_units']} {settings['sex_joins']}",
        f"dropout {settings['dropout']:g}",
        settings["loss"],
        f"{settings['optimizer']} {settings['learning_rate']:.2g}",
        f"decay {settings['weight_decay']:.2g}",
        f"{settings['epochs']} epochs at {settings['input_size']} px, training {trained}",
    ]
    return ", ".join(words)


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.2f} [{estimate['low']:+.2f}, {estimate['high']:+.2f}]"
