"""Re-validate a packaged bundle after a small change of the hand stage, without retraining.

python tools/carry_over.py boneage/bundles/default --data records/crops

The networks are unchanged. They are evaluated on the validation split of the new records; if the error is at most
slightly above that on the original records, the metadata get the new fingerprint, the new thresholds of the gate and
the new metrics; every other setting of the preprocessing must be the bundle's own. `training_data` still refers to the
original records, `carried_over_to` to the new ones, and `error_as_trained` is the original error, which is the limit
however often a bundle is carried over.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ship import measure

from boneage.bundles.bundle import load_bundle, read_metadata
from boneage.bundles.save import copy_bundle
from boneage.evaluation.evaluate import to_json
from boneage.inference.loading import load_preprocessing
from boneage.tfrecords.reader import read_info

# Months, or error rate of sex classification: about 1% of the error of the networks.
MAX_ERROR_INCREASE = {"age": 0.1, "sex": 0.005}


def main() -> None:
    """Read the arguments, evaluate the bundle on the new records, and update its metadata."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="records of the new hand stage")
    options = parser.parse_args()
    before = read_metadata(options.bundle)
    info = read_info(options.data)
    if info["fingerprint"] == before["fingerprint"]:
        sys.exit(f"{options.bundle}: already has this fingerprint.")
    as_trained = before.get("error_as_trained", before["validation_error"])
    new = {
        "fingerprint": info["fingerprint"],
        "preprocessing": {**before["preprocessing"], "gate": info["preprocessing"]["gate"]},
        "carried_over_to": info["digest"],
        "error_as_trained": as_trained,
    }
    with tempfile.TemporaryDirectory() as folder:
        carried = load_bundle(copy_bundle(Path(folder) / "bundle", options.bundle, **new))
        load_preprocessing(carried)  # raises an error if the settings of the stage have changed
        predictions = carried.predict_records(options.data, split="validation")
        evaluation, measured = measure(predictions, bundle=carried, data=options.data)
    worse = evaluation.error - as_trained
    if worse > MAX_ERROR_INCREASE[before["task"]]:
        sys.exit(f"{options.bundle}: error {evaluation.error:.4f}, {worse:.4f} above that in training; retrain it.")
    copy_bundle(options.bundle, options.bundle, **new, **measured)
    sys.stdout.write(to_json(evaluation))


if __name__ == "__main__":
    main()
