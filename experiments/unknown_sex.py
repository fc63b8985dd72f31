"""What the packaged models do where the sex is not known, or recorded wrong.

python experiments/unknown_sex.py --data records/crops
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from boneage.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, load_bundle
from boneage.evaluation import compare, summarise
from boneage.reader import SEX_DOUBT_SHARE
from tfrecords.read import read_records


def main() -> None:
    """Predict the validation split with the recorded sex and with the one told from the image; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="record folder")
    options = parser.parse_args()
    age, sex = load_bundle(DEFAULT_BUNDLE), load_bundle(DEFAULT_SEX_BUNDLE)
    shares = sex.predict_records(options.data, split="validation").set_index("id")["male_share"]
    known = age.predict_records(options.data, split="validation")
    months = []
    for batch in read_records(options.data, split="validation", input_size=age.input_size, batch_size=64):
        told = shares[[id.decode() for id in batch["id"].numpy()]].to_numpy() > 0.5
        months.append(age.predict_batch(batch["image"].numpy(), told.astype(np.float32)[:, None]))
    unknown = known.assign(predicted_months=np.concatenate(months))
    # The share that it gives to the recorded sex.
    own = np.where(known["sex"] == "male", shares[known["id"]], 1 - shares[known["id"]])
    told_apart = {
        "mae_months": dataclasses.asdict(summarise(unknown).overall.mae_months),
        "against_recorded_months": dataclasses.asdict(compare(unknown, known).difference_months),
        "told_right_share": float((own > 0.5).mean()),
        "doubted_though_right_share": float((1 - own > SEX_DOUBT_SHARE).mean()),
        "doubted_where_wrong_share": float((own > SEX_DOUBT_SHARE).mean()),
    }
    sys.stdout.write(json.dumps(told_apart, indent=2) + "\n")


if __name__ == "__main__":
    main()
