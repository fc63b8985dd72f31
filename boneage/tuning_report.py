"""What a search reports: every trial, the best few beside the references, and whether their order carries over."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import PermutationMethod, pearsonr, rankdata

from boneage.bundle import DEFAULT_BUNDLE, METADATA_FILE, read_metadata
from boneage.evaluation import compare
from boneage.features import Features
from boneage.heads import REFERENCES, Head
from tfrecords.schema import sex_from_male

CAUTION = (
    "The best head was chosen by its MAE on the judged part, which is optimistic for that; the compared part judged no "
    "trial. Each was trained once."
)
SAW = "The tower learnt from these very records, so that all MAE here are far too low; their order may hold."


def tabulate_trials(trials: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a trial, with every hyperparameter."""
    table = pd.DataFrame([{**trial, **trial["head"]} for trial in trials])
    table["head_units"] = ["-".join(map(str, trial["head"]["head_units"])) for trial in trials]
    heads = [field.name for field in dataclasses.fields(Head)]
    brought = ["number", "kind", "status", "val_mae_months", "seconds", "worker", "input_size", "trainable"]
    return table[[*brought, *heads, "message"]]


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
        What `tune.json` tells; all MAE in months. `end_to_end` tells the same of the heads that were trained with the
        tower, and how the two stages agree; it is None where none was.
    """
    completed = [trial for trial in trials if trial["status"] == "completed"]
    completed.sort(key=lambda each: each["val_mae_months"])
    found = [each for each in completed if each["kind"] == "search"]
    references = {each["number"]: each for each in completed if each["kind"] in REFERENCES}
    again = [each for each in completed if each["kind"] == "end_to_end"]
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
        names = ("number", "kind", "val_mae_months", "seconds", "input_size", "trainable", "head")
        return {**{name: trial[name] for name in names}, "compared_mae_months": round(float(error), 4)}

    def compare_with(best: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Compare the best with each reference, by the name of the reference."""
        kinds = dict(enumerate(REFERENCES, start=1))
        return {
            kinds[each["number"]]: dataclasses.asdict(compare(predictions(best), predictions(each), seed=state["seed"]))
            for each in others
        }

    def summarise_again() -> dict[str, Any] | None:
        best = next((each for each in again if each["number"] > len(REFERENCES)), None)
        if best is None:
            return None
        like_best = [each for each in again if _setting(each) == _setting(best)]
        return {
            "best": [describe(each) for each in again if each["number"] > len(REFERENCES)],
            "references": [describe(each) for each in again if each["number"] <= len(REFERENCES)],
            "best_against": compare_with(best, [each for each in like_best if each["number"] <= len(REFERENCES)]),
            "rank_correlation": _correlate([*references.values(), *found], again),
        }

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
        "references": [describe(trial) for _, trial in sorted(references.items())],
        "best_against": compare_with(found[0], [trial for _, trial in sorted(references.items())]),
        "end_to_end": summarise_again(),
        "caution": CAUTION,
    }


def _setting(trial: dict[str, Any]) -> tuple[int, str | int]:
    return trial["input_size"], trial["trainable"]


def _correlate(first: Sequence[dict[str, Any]], again: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tell for each setting of the second stage how far its order of the heads is that of the first.

    Returns:
        `input_size`, `trainable`, `num_heads`, and Spearman's `correlation` of the MAE with its `p_value`, which comes
        from permutations and is two-sided; both are None for less than three heads.
    """
    maes = {trial["number"]: trial["val_mae_months"] for trial in first}
    result = []
    for setting in dict.fromkeys(map(_setting, again)):
        both = [each for each in again if _setting(each) == setting and each["number"] in maes]
        ranks = [rankdata([maes[each["number"]] for each in both]), rankdata([each["val_mae_months"] for each in both])]
        # Spearman's correlation is Pearson's of the ranks.
        told = pearsonr(*ranks, method=PermutationMethod(rng=0)) if len(both) > 2 else None
        result.append(
            {
                "input_size": setting[0],
                "trainable": setting[1],
                "num_heads": len(both),
                "correlation": told and round(float(told.statistic), 4),
                "p_value": told and round(float(told.pvalue), 4),
            }
        )
    return result


def _saw(init: str, *, digest: str) -> bool:
    """Tell whether the tower learnt from these records."""
    folder = DEFAULT_BUNDLE if init == "default" else Path(init)
    if not (folder / METADATA_FILE).exists():
        return False
    return read_metadata(folder).get("training_data", {}).get("digest") == digest


def lay_out(summary: dict[str, Any]) -> Table:
    """Lay out a search for the terminal: the best few heads, then the references, on the frozen tower and with it."""
    again = summary["end_to_end"]
    caption = [
        f"MAE in months: judged on {summary['num_judged']:,} radiographs, compared on {summary['num_compared']:,}.",
        *_tell_intervals("Best", summary["best_against"]),
        *(_tell_intervals("Best end to end", again["best_against"]) if again else ()),
        *(_tell_correlation(each) for each in (again["rank_correlation"] if again else ())),
        f"{summary['num_failed']} of {summary['num_trials']} trials failed. {summary['caution']}",
    ]
    if summary["tower_saw_records"]:
        caption.append(SAW)
    result = Table(title="Heads", caption="\n".join(caption), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("Trial", "Head", "Judged", "Compared", "Seconds"):
        result.add_column(heading, justify="left" if heading == "Head" else "right")
    for section in (summary["best"], summary["references"], *((again["best"], again["references"]) if again else ())):
        for trial in section:
            name = dict(enumerate(REFERENCES, start=1)).get(trial["number"], str(trial["number"]))
            maes = (f"{trial[key]:.2f}" for key in ("val_mae_months", "compared_mae_months"))
            result.add_row(name, _describe(trial), *maes, f"{trial['seconds']:.0f}")
        result.add_section()
    return result


def _tell_intervals(name: str, against: dict[str, Any]) -> list[str]:
    return [
        f"{name} against {kind} when compared: {_interval(each['difference_months'])}."
        for kind, each in against.items()
    ]


def _tell_correlation(told: dict[str, Any]) -> str:
    stages = f"Rank correlation of the two stages over {told['num_heads']} heads, {_describe_setting(told)}"
    if told["correlation"] is None:
        return f"{stages}: not told by so few."
    return f"{stages}: {told['correlation']:+.2f} (p = {told['p_value']:.2g})."


def _describe_setting(trial: dict[str, Any]) -> str:
    learns = {"all": "the whole network", "head": "the head alone"}.get(
        trial["trainable"], f"the head and {trial['trainable']} layers"
    )
    return f"{trial['input_size']} px, {learns} learning"


def _describe(trial: dict[str, Any]) -> str:
    head = trial["head"]
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
    if trial["kind"] == "end_to_end":
        words.append(f"end to end at {_describe_setting(trial)}")
    return ", ".join(words)


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.2f} [{estimate['low']:+.2f}, {estimate['high']:+.2f}]"
