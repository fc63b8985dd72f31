"""Make of a run the bundle that ships with the package: the network as ONNX and its weights, in half precision.

python experiments/ship.py runs/default/bundle --data records/crops --out boneage/models/default

Its answers to the validation split are compared with those of the run's own bundle; its metadata tell its MAE.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.bundle import METADATA_FILE, ONNX_FILE, WEIGHTS_FILE, load_bundle
from boneage.evaluation import summarise
from boneage.intervals import measure_intervals
from boneage.metrics import Evaluation
from boneage.saving import CARD_FILE, complete_bundle, copy_bundle, load_network, write_weights
from boneage.sex import SexEvaluation, summarise_sex
from preprocessing.shipping import halve_weights

# Months, or share: a twentieth of what the networks err.
MAX_DIFFERENCE = 0.5


def main() -> None:
    """Read the arguments, ship the bundle, and tell what it reaches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the records that it was trained on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    whole = load_bundle(options.bundle)
    beside = options.out.with_name(options.out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    shutil.copyfile(options.bundle / ONNX_FILE, beside / ONNX_FILE)
    halve_weights(beside / ONNX_FILE)
    write_weights(load_network(options.bundle), beside / WEIGHTS_FILE)
    if (options.out / CARD_FILE).exists():
        shutil.copyfile(options.out / CARD_FILE, beside / CARD_FILE)
    answer = "male_share" if whole.metadata["task"] == "sex" else "predicted_months"
    shipped = load_bundle(complete_bundle(beside, options.out, whole.metadata))
    before, after = (each.predict_records(options.data, split="validation") for each in (whole, shipped))
    difference = (before[answer] - after[answer]).abs().max()
    if difference > MAX_DIFFERENCE:
        sys.exit(f"half precision changes an answer by {difference:.3f}: not shipped.")
    evaluation, measured = measure(after, task=whole.metadata["task"])
    copy_bundle(options.out, options.out, **measured)
    sys.stdout.write(json.dumps(dataclasses.asdict(evaluation), indent=2) + "\n")
    sys.stdout.write(f"largest change by half precision: {difference:.4f}; see {options.out / METADATA_FILE}\n")


def measure(answers: pd.DataFrame, *, task: str) -> tuple[Evaluation | SexEvaluation, dict[str, Any]]:
    """Evaluate what a bundle answers to the validation split; return it, and what of it the metadata tell."""
    if task == "sex":
        sexes = summarise_sex(answers)
        return sexes, {"validation_error": round(sexes.error, 4)}
    ages = summarise(answers)
    return ages, {"validation_error": round(ages.error, 4), "interval": measure_intervals(answers)}


if __name__ == "__main__":
    main()
