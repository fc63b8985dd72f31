"""What a search reports: every trial, the best few, and how the best compares with the references."""

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
from boneage.features import Features
from boneage.heads import Head
from tfrecords.schema import sex_from_male

CAUTION = (
    "The best head was chosen by its MAE on the judged part, which is optimistic for that; the compared part judged no "
    "trial. Heads were trained once each, on features of a frozen tower."
)
SAW = "The tower learnt from these very records, so that all MAE here are far too low; their order may hold."


def tabulate_trials(trials: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a trial, with every hyperparameter."""
    table = pd.DataFrame([{**trial, **trial["head"]} for trial in trials])
    table["head_units"] = ["-".join(map(str, trial["head"]["head_units"])) for trial in trials]
    heads = [field.name for field in dataclasses.fields(Head)]
    return table[["number", "kind", "status", "val_mae_months", "seconds", *heads, "message"]]


def summarise_search(
    trials: Sequence[dict[str, Any]],
    features: Features,
    *,
    compared: np.ndarray,
    folds: Sequence[np.ndarray],
    state: dict[str, Any],
) -> dict[str, Any]:
    """Summarise a search of which at least one trial was completed.

    Args:
        trials: What the trials brought.
        features: What the heads were trained on.
        compared: Whether each radiograph is of the part that judged no trial.
        folds: For each fold, whether each radiograph is judged by.
        state: What was searched, and how.

    Returns:
        What `tune.json` tells; all MAE in months.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    found = sorted((each for each in completed if each["kind"] == "search"), key=lambda each: each["val_mae_months"])
    references = {each["kind"]: each for each in completed if each["kind"] != "search"}
    rows = np.flatnonzero(compared)

    def predictions(trial: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "id": features.ids[rows],
                "sex": [sex_from_male(male) for male in features.male[rows, 0]],
                "bone_age_months": features.bone_age_months[rows, 0],
                "predicted_months": trial["compared_months"],
            }
        )

    def describe(trial: dict[str, Any]) -> dict[str, Any]:
        frame = predictions(trial)
        error = (frame["predicted_months"] - frame["bone_age_months"]).abs().mean()
        kept = {name: trial[name] for name in ("number", "kind", "val_mae_months", "seconds", "head")}
        return {**kept, "compared_mae_months": round(float(error), 4)}

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
        "references": [describe(trial) for trial in references.values()],
        "best_against": {
            kind: dataclasses.asdict(compare(predictions(found[0]), predictions(trial), seed=state["seed"]))
            for kind, trial in references.items()
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
            result.add_row(name, _describe(trial["head"]), *maes, f"{trial['seconds']:.0f}")
        result.add_section()
    return result


def _describe(head: dict[str, Any]) -> str:
    units = "-".join(map(str, head["head_units"])) or "none"
    words = [
        f"{units} {head['activation']}",
        f"{head['pooling']} pooling",
        f"sex {head['sex_units']} {head['sex_joins']}",
        f"dropout {head['dropout']:g}",
        head["loss"],
        f"{head['optimizer']} {head['learning_rate']:.2g}",
        f"decay {head['weight_decay']:.2g}",
        f"{head['epochs']} epochs",
    ]
    return ", ".join(words)


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.2f} [{estimate['low']:+.2f}, {estimate['high']:+.2f}]"
