"""Print the limits of ordinary tones, `preprocessing/crop/tone.py`: quantiles of the grey values of prepared hands.

    python tools/tone_limits.py rsna299 --split rsna299/split.csv

A sample of the train split is prepared. Of prepared hands, whose tone is limited already, the limits are the same: to
limit the outermost sixths moves no sixth.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.crop.tone import QUANTILES
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import process
from boneage.preprocessing.sources.sources import find_cases
from boneage.preprocessing.sources.splits import read_split_file

LIMITS = (0.16, 0.84)
NUM_FILES = 600


def main() -> None:
    """Read the arguments, prepare the sample, and print the limits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--split", type=Path, required=True, help="CSV with `id,split`")
    parser.add_argument("--seed", type=int, default=12, help="seed of the sample (default: %(default)s)")
    options = parser.parse_args()
    splits = read_split_file(options.split)
    cases = [case for case in find_cases(options.source)[0] if splits.get(case.id) == "train"]
    config = PreprocessingConfig(image_size_px=256)
    found = []
    for index in np.random.default_rng(options.seed).permutation(len(cases))[:NUM_FILES]:
        prepared = process(read_radiograph(cases[index].path), config)
        if prepared.image is not None and not prepared.reasons:
            found.append(np.quantile(prepared.image[prepared.image > 0], QUANTILES))
    for limit in np.rint(np.quantile(found, LIMITS, axis=0)).astype(int):
        sys.stdout.write(f"{limit.tolist()}\n")


if __name__ == "__main__":
    main()
