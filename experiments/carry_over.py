"""Carry a shipped bundle over to a hand stage that cuts crops nearly as before, without training it again.

python experiments/carry_over.py boneage/models/default --data records/crops

Its networks stay as they are. They are measured on the validation split of the new records; where they err hardly more
than on the crops that they learnt from, the bundle's metadata take over the new fingerprint and tell the new measures.
`training_data` goes on to tell the records that they learnt from, `carried_over_to` those that they were measured on,
`error_as_trained` what they erred by on the former: however often a bundle is carried over, it is held to that.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from ship import measure

from boneage.bundle import load_bundle, read_metadata
from boneage.reader import preprocessing_of
from boneage.saving import copy_bundle
from tfrecords.read import read_info

# Months, or share of the sexes told wrong: a hundredth or so of what the networks err.
MAX_WORSE = {"age": 0.1, "sex": 0.005}


def main() -> None:
    """Read the arguments, carry the bundle over, and tell what it reaches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="records of the new hand stage")
    options = parser.parse_args()
    before = read_metadata(options.bundle)
    info = read_info(options.data)
    if info["fingerprint"] == before["fingerprint"]:
        sys.exit(f"{options.bundle}: knows such records already.")
    as_trained = before.get("error_as_trained", before["validation_error"])
    new = {
        "fingerprint": info["fingerprint"],
        "carried_over_to": info["digest"],
        "error_as_trained": as_trained,
    }
    with tempfile.TemporaryDirectory() as folder:
        carried = load_bundle(copy_bundle(Path(folder) / "bundle", options.bundle, **new))
        preprocessing_of(carried)  # raises where not the stage alone, but its settings are others
        answers = carried.predict_records(options.data, split="validation")
    evaluation, measured = measure(answers, task=before["task"])
    worse = evaluation.error - as_trained
    if worse > MAX_WORSE[before["task"]]:
        sys.exit(f"{options.bundle}: errs by {evaluation.error:.4f}, {worse:.4f} more than as trained; train it again.")
    copy_bundle(options.bundle, options.bundle, **new, **measured)
    sys.stdout.write(json.dumps(dataclasses.asdict(evaluation), indent=2) + "\n")


if __name__ == "__main__":
    main()
