"""The golden run: the numbers that every command gives on small data, to compare two states of the package.

    python tools/golden_run.py run --out before.json --data DATA
    python tools/golden_run.py compare before.json after.json --renamed OLD=NEW

A golden run works through the command line alone. It draws radiographs, prepares and verifies records, segments, trains
networks, evaluates, predicts, serves, calibrates, joins, exports and searches. It writes a JSON document of numbers and
digests. On one machine the same state of the package gives the same document, digit for digit. What may differ between
two runs is left out: versions, times, paths, UIDs, sentences. A run takes about six minutes of processor time.

`--boneage` names the console script of the state to run, with `python` of its environment beside it. Where commands and
options of that state have other names, give it a script that translates them.

`DATA` is a folder of real radiographs, optional:

- `radiographs/full/*.png`, with `radiographs/labels.csv` (`id,boneage,male`);
- `other_hospital/*.jpg`: hands without labels;
- `not_hands/*.jpg`: radiographs of other parts of the body.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from golden import prediction, preparation, training
from golden.describe import Document
from golden.differences import compare
from golden.program import GoldenRunError, Program

# In their order: later ones work on what earlier ones left.
STEPS: tuple[Callable[[Program], Document], ...] = (
    preparation.draw_radiographs,
    preparation.prepare_hands,
    preparation.prepare_frames,
    preparation.prepare_by_unet,
    preparation.prepare_dicom,
    preparation.verify_records,
    preparation.segment_hands,
    training.train_unet,
    training.train_age,
    training.resume_training,
    training.train_frozen,
    training.train_sex,
    training.evaluate_age,
    prediction.predict_drawn,
    prediction.predict_dicom,
    prediction.predict_without_reports,
    prediction.serve_readings,
    training.calibrate_bundle,
    training.join_bundles,
    training.export_bundle,
    training.search_heads,
    prediction.prepare_and_predict_real,
)


def run_steps(program: Program) -> tuple[Document, list[str]]:
    """Run all steps.

    Returns:
        What each found by its name, and one line for each that failed.
    """
    found, failed = {}, []
    for step in STEPS:
        began = time.perf_counter()
        try:
            found[step.__name__] = step(program)
        except (GoldenRunError, OSError, KeyError, ValueError, httpx.HTTPError) as error:
            failed.append(f"{step.__name__}: {type(error).__name__}: {error}")
        sys.stderr.write(f"{step.__name__}: {time.perf_counter() - began:.0f} s\n")
    return found, failed


def main() -> int:
    """Read the arguments; run, or compare and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run every command and write the numbers")
    run.add_argument("--out", type=Path, required=True, help="JSON file to write")
    run.add_argument(
        "--boneage",
        type=Path,
        default=Path(sys.executable).with_name("boneage"),
        metavar="PROGRAM",
        help="console script to run (default: that of this environment)",
    )
    run.add_argument("--data", type=Path, metavar="FOLDER", help="folder of real radiographs")
    run.add_argument("--keep", type=Path, metavar="FOLDER", help="new folder for what the commands write")
    comparison = commands.add_parser("compare", help="print the differences; exit status 1 if there are any")
    comparison.add_argument("before", type=Path)
    comparison.add_argument("after", type=Path)
    comparison.add_argument("--renamed", action="append", default=[], metavar="OLD=NEW", help="new name of a key")
    comparison.add_argument("--tolerance", type=float, default=0.0, help="relative difference of numbers to ignore")
    options = parser.parse_args()
    if options.command == "compare":
        renamed = dict(pair.split("=", 1) for pair in options.renamed)
        try:
            lines = compare(options.before, options.after, renamed=renamed, tolerance=options.tolerance)
        except (GoldenRunError, OSError, ValueError) as error:
            parser.error(str(error))
        sys.stdout.write("".join(f"{line}\n" for line in lines) or "no difference\n")
        return 1 if lines else 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "golden"
        folder.mkdir(parents=True)
        data = None if options.data is None else options.data.resolve()
        found, failed = run_steps(Program(options.boneage.absolute(), folder.absolute(), data))
    document = {"steps": found, "failed": failed}
    options.out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stderr.write("".join(f"failed: {line}\n" for line in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
