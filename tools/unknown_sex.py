"""Evaluate the packaged models with an unknown or a wrongly recorded sex.

python tools/unknown_sex.py --data records/crops
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.bundles.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, Bundle, load_bundle
from boneage.evaluation.conformal import prediction_interval
from boneage.evaluation.summarise import compare, summarise
from boneage.inference.estimates import SEX_CONFIDENCE
from boneage.tfrecords.reader import read_records
from boneage.tfrecords.schema import SEXES, male_from_sex


def main() -> None:
    """Predict the validation split with the recorded sex and with the predicted sex; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="record folder")
    options = parser.parse_args()
    age, sex = load_bundle(DEFAULT_BUNDLE), load_bundle(DEFAULT_SEX_BUNDLE)
    known = age.predict_records(options.data, split="validation")
    shares = (
        sex.predict_records(options.data, split="validation")
        .set_index("id")["male_probability"][known["id"]]
        .to_numpy()
    )
    predictions = pd.DataFrame({sex: _predict_as(age, sex, data=options.data) for sex in SEXES})
    told = np.where(shares > 0.5, "male", "female")
    unknown = known.assign(predicted_months=np.where(told == "male", predictions["male"], predictions["female"]))
    # The probability of the recorded sex.
    own = np.where(known["sex"] == "male", shares, 1 - shares)
    sure = np.maximum(shares, 1 - shares) > SEX_CONFIDENCE
    results = {
        "mae_months": dataclasses.asdict(summarise(unknown).overall.mae_months),
        "against_recorded_months": dataclasses.asdict(compare(unknown, known).difference_months),
        "covered_share": _cover(
            age,
            predictions,
            known,
            plausible=[(sex,) if is_sure else SEXES for sex, is_sure in zip(told, sure, strict=True)],
        ),
        "covered_as_if_sure_share": _cover(age, predictions, known, plausible=[(sex,) for sex in told]),
        "told_right_share": float((own > 0.5).mean()),
        "doubted_though_right_share": float((1 - own > SEX_CONFIDENCE).mean()),
        "doubted_where_wrong_share": float((own > SEX_CONFIDENCE).mean()),
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


def _predict_as(age: Bundle, sex: str, *, data: Path) -> np.ndarray:
    """Predict the validation split with one sex for all radiographs."""
    predictions = []
    for batch in read_records(data, split="validation", input_size=age.input_size, batch_size=64):
        images = batch["image"].numpy()
        predictions.append(age.predict_batch(images, np.full((len(images), 1), male_from_sex(sex), np.float32)))
    return np.concatenate(predictions)


def _cover(
    age: Bundle, predictions: pd.DataFrame, known: pd.DataFrame, *, plausible: Sequence[tuple[str, ...]]
) -> float:
    """Return the fraction of the radiographs with a label inside the prediction interval."""
    interval = age.metadata["interval"]
    rows = zip(predictions.to_dict("records"), plausible, known["bone_age_months"], strict=True)
    ends = [(prediction_interval(interval, {sex: row[sex] for sex in sexes}), read) for row, sexes, read in rows]
    return float(np.mean([low <= read <= high for (low, high), read in ends]))


if __name__ == "__main__":
    main()
