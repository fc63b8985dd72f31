"""Calibration: a straight line by sex between what a bundle answers and what the readers of a hospital read.

Readers differ by habit and atlas, devices by contrast. About a hundred radiographs with readings tell how a network is
to be corrected for a place; whether that helps is measured on radiographs that the line was not fitted to.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from boneage.evaluation import Comparison, compare
from boneage.intervals import measure_intervals
from tfrecords.errors import BoneAgeError
from tfrecords.schema import SEXES

MIN_IMAGES = 20
NUM_FOLDS = 5

Line = tuple[float, float]


class CalibrationError(BoneAgeError):
    """Radiographs that a bundle cannot be calibrated on."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibrated bundle and what the calibration is worth.

    Args:
        bundle: Folder of the calibrated bundle.
        lines: Slope (no unit) and offset in months, by sex; they correct what the bundle answered so far.
        comparison: Calibrated against not, on the same radiographs, each corrected by a line that was fitted without
            it.
        bias_before_months: Mean error before.
        bias_after_months: Mean error after, cross-fitted.
    """

    bundle: Path
    lines: dict[str, Line]
    comparison: Comparison
    bias_before_months: float
    bias_after_months: float


def calibrate(bundle: str | Path, *, data: str | Path, out: str | Path, seed: int = 0) -> Calibration:
    """Calibrate a bundle on records with bone ages and save what comes of it as a new bundle.

    Args:
        bundle: The bundle; a calibration that it has already is corrected, not replaced.
        data: Record folder, prepared as the bundle wants it; all of its labelled records are used.
        out: Folder of the new bundle.
        seed: Seed of the folds and of the bootstrap.

    Returns:
        The new bundle and what the correction is worth.

    Raises:
        CalibrationError: If there are too few labelled records.
        BundleError: If the bundle is damaged or the records were preprocessed otherwise.
    """
    # Loaded on use: the lines need no TensorFlow.
    from boneage.bundle import load_bundle
    from boneage.saving import copy_bundle
    from tfrecords.info import read_info

    loaded, info = load_bundle(bundle), read_info(data)
    splits = [name for name, described in info["splits"].items() if described["num_records"]]
    frames = [loaded.predict_records(data, split=split) for split in splits]
    frame = pd.concat(frames, ignore_index=True).dropna(subset="bone_age_months") if frames else pd.DataFrame()
    frame = frame.astype({"predicted_months": float} if len(frame) else {})
    if len(frame) < MIN_IMAGES:
        raise CalibrationError(
            f"{data}: {len(frame)} labelled records, too few to calibrate on; give at least {MIN_IMAGES}, better 100."
        )
    lines = fit_lines(frame)
    corrected = cross_fit(frame, seed=seed)
    before, after = (each["predicted_months"] - each["bone_age_months"] for each in (frame, corrected))
    previous = loaded.metadata.get("calibration") or dict.fromkeys(SEXES, (1.0, 0.0))
    # One line after another is a line.
    joined = {
        sex: [slope * previous[sex][0], slope * previous[sex][1] + offset] for sex, (slope, offset) in lines.items()
    }
    folder = copy_bundle(
        out,
        bundle,
        calibration=joined,
        calibration_data={"digest": info["digest"], "num_records": len(frame)},
        interval=measure_intervals(corrected, seed=seed),
    )
    return Calibration(
        bundle=folder,
        lines=lines,
        comparison=compare(corrected, frame, seed=seed),
        bias_before_months=float(before.mean()),
        bias_after_months=float(after.mean()),
    )


def fit_lines(frame: pd.DataFrame) -> dict[str, Line]:
    """Fit a line by least squares to the readings of each sex; a sex with few of them shares the line of all.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`.

    Returns:
        Slope and offset in months by sex.
    """
    lines = {}
    for sex in SEXES:
        own = frame[frame["sex"] == sex]
        rows = own if len(own) >= MIN_IMAGES // 2 else frame
        predicted, read = rows["predicted_months"].to_numpy(float), rows["bone_age_months"].to_numpy(float)
        spread = float(np.square(predicted - predicted.mean()).sum())
        # Equal predictions have no slope: they are only moved.
        slope = float(((predicted - predicted.mean()) * read).sum()) / spread if spread > 0 else 1.0
        lines[sex] = (slope, float(read.mean() - slope * predicted.mean()))
    return lines


def cross_fit(frame: pd.DataFrame, *, seed: int, num_folds: int = NUM_FOLDS) -> pd.DataFrame:
    """Correct each radiograph by lines that were fitted to the other folds.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`.
        seed: Seed of the folds.
        num_folds: Their number.

    Returns:
        The frame with corrected `predicted_months`.
    """
    corrected = frame.copy()
    order = np.random.default_rng(seed).permutation(len(frame))
    for fold in range(num_folds):
        unseen = frame.index[order[fold::num_folds]]
        lines = fit_lines(frame.drop(index=unseen))
        slope, offset = np.array([lines[sex] for sex in frame.loc[unseen, "sex"]]).T
        corrected.loc[unseen, "predicted_months"] = frame.loc[unseen, "predicted_months"] * slope + offset
    return corrected
