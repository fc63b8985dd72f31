"""Compare a fine-tuning in folds with the bundle that it began from; no network reads what it learnt from.

python experiments/compare_folds.py runs/ours-1 runs/ours-2 --data records/ours-1 records/ours-2 --out comparison.json

Run folder and record folder of a fold stand at the same place; every validation split is read by both.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import pandas as pd

from boneage.bundle import DEFAULT_BUNDLE, load_bundle
from boneage.evaluation import compare, summarise
from boneage.training import BUNDLE_FOLDER
from tfrecords.write import write_json


def main() -> None:
    """Read the arguments, predict every fold twice, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="what the runs began from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if len(options.runs) != len(options.data):
        parser.error(f"{len(options.runs)} runs, but {len(options.data)} record folders: give one for each.")
    frames: dict[str, list[pd.DataFrame]] = {"before": [], "after": []}
    for run, data in zip(options.runs, options.data, strict=True):
        for name, bundle in (("before", options.bundle), ("after", run / BUNDLE_FOLDER)):
            frames[name].append(load_bundle(bundle).predict_records(data, split="validation"))
    before, after = (pd.concat(frames[name], ignore_index=True) for name in ("before", "after"))
    comparison = dataclasses.asdict(compare(after, before))
    bias = {
        f"bias_{name}_months": summarise(each).overall.bias_months.value
        for name, each in zip(frames, (before, after), strict=True)
    }
    write_json(options.out, {"num_folds": len(options.runs), **comparison, **bias})
    sys.stdout.write(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
