"""What the packaged models do where the sex is not known, or recorded wrong.

python experiments/unknown_sex.py --data records/crops
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, Bundle, load_bundle
from boneage.evaluation import compare, summarise
from boneage.intervals import span_interval
from boneage.reader import SEX_DOUBT_SHARE
from tfrecords.read import read_records
from tfrecords.schema import SEXES, male_from_sex


def main() -> None:
    """Predict the validation split with the recorded sex and with the one told from the image; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="record folder")
    options = parser.parse_args()
    age, sex = load_bundle(DEFAULT_BUNDLE), load_bundle(DEFAULT_SEX_BUNDLE)
    known = age.predict_records(options.data, split="validation")
    shares = sex.predict_records(options.data, split="validation").set_index("id")["male_share"][known["id"]].to_numpy()
    answers = pd.DataFrame({each: _predict_as(age, each, data=options.data) for each in SEXES})
    told = np.where(shares > 0.5, "male", "female")
    unknown = known.assign(predicted_months=np.where(told == "male", answers["male"], answers["female"]))
    # The share that it gives to the recorded sex.
    own = np.where(known["sex"] == "male", shares, 1 - shares)
    sure = np.maximum(shares, 1 - shares) > SEX_DOUBT_SHARE
    told_apart = {
        "mae_months": dataclasses.asdict(summarise(unknown).overall.mae_months),
        "against_recorded_months": dataclasses.asdict(compare(unknown, known).difference_months),
        "covered_share": _cover(
            age,
            answers,
            known,
            plausible=[(each,) if is_sure else SEXES for each, is_sure in zip(told, sure, strict=True)],
        ),
        "covered_as_if_sure_share": _cover(age, answers, known, plausible=[(each,) for each in told]),
        "told_right_share": float((own > 0.5).mean()),
        "doubted_though_right_share": float((1 - own > SEX_DOUBT_SHARE).mean()),
        "doubted_where_wrong_share": float((own > SEX_DOUBT_SHARE).mean()),
    }
    sys.stdout.write(json.dumps(told_apart, indent=2) + "\n")


def _predict_as(age: Bundle, sex: str, *, data: Path) -> np.ndarray:
    """Predict the validation split as if all were of one sex."""
    answers = []
    for batch in read_records(data, split="validation", input_size=age.input_size, batch_size=64):
        images = batch["image"].numpy()
        answers.append(age.predict_batch(images, np.full((len(images), 1), male_from_sex(sex), np.float32)))
    return np.concatenate(answers)


def _cover(age: Bundle, answers: pd.DataFrame, known: pd.DataFrame, *, plausible: Sequence[tuple[str, ...]]) -> float:
    """Return the share of the radiographs whose reading lies in its interval."""
    widths = age.metadata["interval"]["half_width_months"]
    rows = zip(answers.to_dict("records"), plausible, known["bone_age_months"], strict=True)
    ends = [(span_interval(widths, {sex: row[sex] for sex in sexes}), read) for row, sexes, read in rows]
    return float(np.mean([low <= read <= high for (low, high), read in ends]))


if __name__ == "__main__":
    main()
