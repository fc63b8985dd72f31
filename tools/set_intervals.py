"""Set the prediction intervals of a packaged bundle anew, and report their coverage; the network stays as it is.

    python tools/set_intervals.py boneage/bundles/default --data records/crops --out coverage.json

The intervals are set by the radiographs of the validation split that chose no epoch. Their coverage is cross-validated
by patient, ten times with other folds: each radiograph lies in an interval that its patient had no part in.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from ship import select_held_back

from boneage.base.files import write_json
from boneage.bundles.bundle import load_bundle
from boneage.bundles.save import copy_bundle
from boneage.evaluation.conformal import age_band, cross_validate, fit_conformal_intervals
from boneage.evaluation.metrics import AGE_BANDS_YEARS
from boneage.tfrecords.schema import SEXES

NUM_REPEATS = 10
ABOUT = (
    "How often the 90% interval of the packaged model holds the label, on the radiographs of the validation split that "
    "pass the gate and chose no epoch. Cross-validated by patient, ten times with other folds: `python "
    "tools/set_intervals.py boneage/bundles/default --data RECORDS --out "
    "experiments/figures/reliability-coverage.json`."
)


def main() -> None:
    """Read the arguments, set the intervals, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="records with the preprocessing of the bundle")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the coverage")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    predictions = bundle.predict_records(options.data, split="validation")
    frame = select_held_back(predictions, bundle=bundle, data=options.data)
    interval = fit_conformal_intervals(frame)
    if interval is None:
        sys.exit(f"{options.data}: too few patients in the validation split.")
    write_json(options.out, report(frame))
    copy_bundle(options.bundle, options.bundle, interval=interval)


def report(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the cross-validated coverage by sex, by band of labelled and by band of predicted age."""
    repeats = pd.concat([cross_validate(frame, seed=seed) for seed in range(NUM_REPEATS)])
    covered = repeats["bone_age_months"].between(repeats["low_months"], repeats["high_months"])
    columns = {
        f"{sex}, by {kind} age": (sex, repeats[months].map(age_band))
        for kind, months in (("labelled", "bone_age_months"), ("predicted", "predicted_months"))
        for sex in SEXES
    }
    rows = []
    for band in (*AGE_BANDS_YEARS, "all"):
        row = {"Age": band if band == "all" else f"{band} years"}
        for name, (sex, bands) in columns.items():
            members = (repeats["sex"] == sex) & ((bands == band) | (band == "all"))
            number = int(members.sum()) // NUM_REPEATS
            row[name] = f"{covered[members].mean():.1%} of {number:,}" if number else "-"
        rows.append(row)
    return {"title": "Prediction intervals", "about": ABOUT, "rows": rows}


if __name__ == "__main__":
    main()
