"""Compare cross-validated fine-tuning with the bundle that it started from, on held-out radiographs.

python tools/compare_folds.py runs/ours-1 runs/ours-2 --data records/ours-1 records/ours-2 --out comparison.json

Give run folders and record folders in the same order. Both bundles predict the validation split of every fold.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import pandas as pd

from boneage.base.files import write_json
from boneage.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from boneage.evaluation.summarise import compare, summarise
from boneage.training.train import BUNDLE_FOLDER


def main() -> None:
    """Read the arguments, predict every fold twice, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="bundle that the runs started from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if len(options.runs) != len(options.data):
        parser.error(
            f"{len(options.runs)} runs, but {len(options.data)} record folders: give one record folder per run."
        )
    frames: dict[str, list[pd.DataFrame]] = {"before": [], "after": []}
    for number, (run, data) in enumerate(zip(options.runs, options.data, strict=True)):
        for name, bundle in (("before", options.bundle), ("after", run / BUNDLE_FOLDER)):
            frame = load_bundle(bundle).predict_records(data, split="validation")
            # Each record folder numbers its patients, and no patient is in two folds.
            frames[name].append(frame.assign(group=[f"{number} {group}" for group in frame["group"]]))
    before, after = (pd.concat(frames[name], ignore_index=True) for name in ("before", "after"))
    comparison = dataclasses.asdict(compare(after, before))
    bias = {
        f"bias_{name}_months": summarise(frame).overall.bias_months.value
        for name, frame in zip(frames, (before, after), strict=True)
    }
    write_json(options.out, {"num_folds": len(options.runs), **comparison, **bias})
    sys.stdout.write(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
