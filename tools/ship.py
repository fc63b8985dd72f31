"""Package the bundle of a run: ONNX network and weights in half precision.

python tools/ship.py runs/default/bundle --data records/crops --out boneage/bundles/default

Its predictions on the validation split are compared with those of the run's bundle; its metadata contain its error.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.base.files import make_folder_beside
from boneage.bundles.bundle import CARD_FILE, ONNX_FILE, SEEN_FILE, WEIGHTS_FILE, Bundle, load_bundle
from boneage.bundles.complete import complete_bundle
from boneage.bundles.save import copy_bundle, load_network, write_weights
from boneage.bundles.seen import hash_radiographs, read_seen
from boneage.evaluation.conformal import fit_conformal_intervals
from boneage.evaluation.evaluate import to_json
from boneage.evaluation.metrics import Evaluation
from boneage.evaluation.sex_classification import SexEvaluation, summarise_sex
from boneage.evaluation.summarise import summarise
from boneage.preprocessing.training_data.half_precision import store_weights_as_float16
from boneage.registry.settings import METADATA_FILE
from boneage.tfrecords.identities import read_identities

# Months, or probability: about 5% of the error of the networks.
MAX_DIFFERENCE = 0.5


def main() -> None:
    """Read the arguments, write the packaged bundle, and print its evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the records that it was trained on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    whole = load_bundle(options.bundle)
    with tempfile.TemporaryDirectory() as name:
        halved = Path(name) / "bundle"
        beside = make_folder_beside(halved)
        shutil.copyfile(options.bundle / ONNX_FILE, beside / ONNX_FILE)
        store_weights_as_float16(beside / ONNX_FILE)
        write_weights(load_network(options.bundle), beside / WEIGHTS_FILE)
        if (options.bundle / SEEN_FILE).exists():
            shutil.copyfile(options.bundle / SEEN_FILE, beside / SEEN_FILE)
        if (options.out / CARD_FILE).exists():
            shutil.copyfile(options.out / CARD_FILE, beside / CARD_FILE)
        column = "male_probability" if whole.metadata["task"] == "sex" else "predicted_months"
        shipped = load_bundle(complete_bundle(beside, halved, whole.metadata))
        before, after = (bundle.predict_records(options.data, split="validation") for bundle in (whole, shipped))
        difference = (before[column] - after[column]).abs().max()
        if difference > MAX_DIFFERENCE:
            sys.exit(f"half precision changes a prediction by {difference:.3f} (limit {MAX_DIFFERENCE}): not written.")
        evaluation, measured = measure(after, bundle=whole, data=options.data)
        copy_bundle(options.out, halved, **measured)
    sys.stdout.write(to_json(evaluation))
    sys.stdout.write(f"largest change through half precision: {difference:.4f}; see {options.out / METADATA_FILE}\n")


def measure(
    predictions: pd.DataFrame, *, bundle: Bundle, data: Path
) -> tuple[Evaluation | SexEvaluation, dict[str, Any]]:
    """Evaluate predictions on the validation split; returns the evaluation, and its entries for the metadata.

    The interval is set by the radiographs that chose no epoch, as far as the bundle tells which these are.
    """
    if bundle.metadata["task"] == "sex":
        sexes = summarise_sex(predictions)
        return sexes, {"validation_error": round(sexes.error, 4)}
    ages = summarise(predictions)
    interval = fit_conformal_intervals(select_held_back(predictions, bundle=bundle, data=data))
    return ages, {"validation_error": round(ages.error, 4), "interval": interval}


def select_held_back(predictions: pd.DataFrame, *, bundle: Bundle, data: Path) -> pd.DataFrame:
    """Return the predictions for radiographs that chose no epoch, as far as the bundle tells which these are."""
    identities = read_identities(data, split="validation").set_index("id")["pixel_sha256"]
    choosing = read_seen(bundle.folder, bundle.metadata).get("selection", hash_radiographs([]))
    return predictions[[hash_radiographs([identities[id]])[0] not in choosing for id in predictions["id"]]]


if __name__ == "__main__":
    main()
