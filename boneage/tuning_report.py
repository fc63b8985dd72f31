"""What a search reports: every trial, and the best few beside the references."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from boneage.bundle import DEFAULT_BUNDLE, METADATA_FILE, read_metadata
from boneage.evaluation import compare
from boneage.heads import REFERENCES, SEARCHED, Labels

CAUTION = (
    "The best head was chosen by its MAE on the judged part, which is optimistic for that; the compared part judged no "
    "trial. Each was trained once."
)
SAW = "The tower learnt from these very records, so that all MAE here are far too low; their order may hold."


def tabulate_trials(trials: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a trial, with every hyperparameter."""
    table = pd.DataFrame([{**trial, **trial["settings"]} for trial in trials])
    table["head_units"] = ["-".join(map(str, units)) for units in table["head_units"]]
    return table[["number", "kind", "status", "val_mae_months", "seconds", "worker", *SEARCHED, "message"]]


def summarise_search(
    trials: Sequence[dict[str, Any]],
    labels: Labels,
    *,
    compared: np.ndarray,
    folds: Sequence[np.ndarray],
    state: dict[str, Any],
) -> dict[str, Any]:
    """Summarise a search of which at least one trial was completed.

    Args:
        trials: What the trials brought.
        labels: Tells of the radiographs.
        compared: Whether each radiograph is of the part that judged no trial.
        folds: For each fold, whether each radiograph is judged by.
        state: What was searched, and how.

    Returns:
        What `tune.json` tells; all MAE in months.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    completed.sort(key=lambda each: each["val_mae_months"])
    found = [each for each in completed if each["kind"] == "search"]
    references = [trial for trial in trials if trial["kind"] in REFERENCES and trial["status"] == "completed"]
    rows = np.flatnonzero(compared)

    def predictions(trial: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "id": labels.ids[rows],
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
        "tower_saw_records": _saw(config["train"]["init"], digest=state["data_digest"]),
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


def _saw(init: str, *, digest: str) -> bool:
    """Tell whether the tower learnt from these records."""
    folder = DEFAULT_BUNDLE if init == "default" else Path(init)
    if not (folder / METADATA_FILE).exists():
        return False
    return read_metadata(folder).get("training_data", {}).get("digest") == digest


def lay_out(summary: dict[str, Any]) -> Table:
    """Lay out a search for the terminal: the best few heads, then the references."""
    caption = [
        f"MAE in months: judged on {summary['num_judged']:,} radiographs, compared on {summary['num_compared']:,}.",
        *(
            f"Best against {kind} when compared: {_interval(each['difference_months'])}."
            for kind, each in summary["best_against"].items()
        ),
        f"{summary['num_failed']} of {summary['num_trials']} trials failed. {summary['caution']}",
    ]
    if summary["tower_saw_records"]:
        caption.append(SAW)
    result = Table(title="Heads", caption="\n".join(caption), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("Trial", "Head", "Judged", "Compared", "Seconds"):
        result.add_column(heading, justify="left" if heading == "Head" else "right")
    for section in (summary["best"], summary["references"]):
        for trial in section:
            name = str(trial["number"]) if trial["kind"] == "search" else trial["kind"]
            maes = (f"{trial[key]:.2f}" for key in ("val_mae_months", "compared_mae_months"))
            result.add_row(name, _describe(trial["settings"]), *maes, f"{trial['seconds']:.0f}")
        result.add_section()
    return result


def _describe(settings: dict[str, Any]) -> str:
    units = "-".join(str(width) for width in settings["head_units"] if width) or "none"
    learns = {"all": "the whole network", "head": "the head alone"}.get(
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
        f"{settings['epochs']} epochs at {settings['input_size']} px, {learns} learning",
    ]
    return ", ".join(words)


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.2f} [{estimate['low']:+.2f}, {estimate['high']:+.2f}]"
