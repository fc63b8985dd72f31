"""Calibration: one linear correction per sex, from the predictions of a bundle to the readings of a hospital.

Readers differ by habit and atlas, devices by contrast. About a hundred radiographs with readings, none of which the
bundle has seen, are enough to fit the correction for a site. Its benefit and the new prediction intervals are measured
by cross-fitting: on patients that the lines were not fitted to.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.base.files import check_output
from boneage.base.locks import lock_output
from boneage.bundles.bundle import Bundle
from boneage.bundles.seen import Hashes, describe_seen, hash_radiographs, join_seen, list_seen, read_seen
from boneage.evaluation.bootstrap import count_groups, find_groups, split_by_group
from boneage.evaluation.conformal import Interval, fit_conformal_intervals
from boneage.evaluation.evaluate import find_seen_records
from boneage.evaluation.summarise import Comparison, compare
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import read_info, split_info
from boneage.tfrecords.schema import SEXES, SPLITS

MIN_PATIENTS = 20
NUM_FOLDS = 5

Line = tuple[float, float]


class CalibrationError(BoneAgeError):
    """Raised if a bundle cannot be calibrated on the given records."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibrated bundle and the effect of the calibration.

    Args:
        bundle: Folder of the calibrated bundle.
        lines: Slope (no unit) and offset in months, by sex, applied to the previous predictions of the bundle.
        comparison: Calibrated against uncalibrated predictions on the same radiographs, cross-fitted.
        bias_before_months: Mean error before calibration, in months.
        bias_after_months: Mean error after calibration, in months, cross-fitted.
        interval: The new prediction intervals, see `boneage.evaluation.conformal.fit_conformal_intervals`; None where
            there are too few patients for any.
    """

    bundle: Path
    lines: dict[str, Line]
    comparison: Comparison
    bias_before_months: float
    bias_after_months: float
    interval: Interval | None


def calibrate(
    bundle: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    split: str | None = None,
    force: bool = False,
    seed: int = 0,
) -> Calibration:
    """Calibrate a bundle on labelled records and save the result as a new bundle.

    Args:
        bundle: The bundle; an existing calibration is corrected, not replaced.
        data: Record folder with the preprocessing of the bundle, of radiographs that the bundle has not seen.
        out: Folder of the new bundle.
        split: The split to use (default: all labelled records).
        force: Whether to write the bundle even if the correction does not lower the cross-fitted error.
        seed: Seed of the folds and of the bootstrap.

    Returns:
        The new bundle and the effect of the calibration.

    Raises:
        CalibrationError: If the bundle was trained on the records, or they chose its epoch or set its calibration; if
            there are too few labelled records; or if the correction does not help.
        BundleError: If the bundle is damaged or the records have different preprocessing.
        NotADirectoryError: If `out` is a file.
        OutputInUseError: If another process writes the folder.
    """
    # Imported here: fitting the lines needs no TensorFlow.
    from boneage.bundles.bundle import load_bundle
    from boneage.tfrecords.quiet import import_tensorflow

    import_tensorflow()
    from boneage.bundles.save import copy_bundle

    check_output(Path(out), is_folder=True)
    with lock_output(Path(out)):  # Before predicting, which takes minutes.
        bundle = resolve_bundle(bundle)
        loaded, info = load_bundle(bundle), read_info(data)
        if split is not None:
            split_info(info, split, folder=data)
        splits = [
            name for name, described in info["splits"].items() if described["num_records"] and split in (None, name)
        ]
        _require_unseen(loaded, data=data, splits=splits)
        frame = _predict(loaded, data=data, splits=splits)
        num_groups = count_groups(frame)
        if num_groups < MIN_PATIENTS:
            raise CalibrationError(
                f"{data}: {len(frame)} labelled records of {num_groups} patients are too few; calibration needs at "
                f"least {MIN_PATIENTS} patients, better 100."
            )
        lines = fit_lines(frame)
        corrected = cross_fit(frame, seed=seed)
        before, after = (
            predictions["predicted_months"] - predictions["bone_age_months"] for predictions in (frame, corrected)
        )
        comparison = compare(corrected, frame, seed=seed)
        if comparison.difference_months.value >= 0 and not force:
            raise CalibrationError(
                f"{data}: {describe_effect(comparison)}; no bundle written (--force writes it anyway)."
            )
        previous = loaded.metadata.get("calibration") or dict.fromkeys(SEXES, (1.0, 0.0))
        # The composition of two lines is a line.
        joined = {
            sex: [slope * previous[sex][0], slope * previous[sex][1] + offset] for sex, (slope, offset) in lines.items()
        }
        interval = fit_conformal_intervals(corrected, seed=seed)
        entries, seen = _describe_used(loaded, frame, data=data, splits=splits)
        changes = {"calibration": joined, "interval": interval, "seen_data": entries}
        if loaded.chronological_age == "input":
            # An answer without the age is corrected by the same lines.
            without = cross_fit(frame, answers=_predict(loaded, data=data, splits=splits, with_age=False), seed=seed)
            changes["interval_without_age"] = fit_conformal_intervals(without, seed=seed)
        folder = copy_bundle(out, bundle, seen=seen, **changes)
        return Calibration(
            bundle=folder,
            lines=lines,
            comparison=comparison,
            bias_before_months=float(before.mean()),
            bias_after_months=float(after.mean()),
            interval=interval,
        )


def describe_effect(comparison: Comparison) -> str:
    """Say in one line whether a correction helps: the cross-fitted error with its interval, and what that means."""
    difference = comparison.difference_months
    verdict = "helps"
    if difference.value >= 0:
        verdict = "does not help"
    elif not difference.high < 0:  # it may be NaN
        verdict = "may help; too few radiographs to be sure"
    return (
        f"MAE on {comparison.num_images:,} records, cross-fitted: {comparison.mae_months:.2f} months, before "
        f"{comparison.baseline_mae_months:.2f} ({difference.format('+.2f')}): the correction {verdict}"
    )


def _predict(bundle: Bundle, *, data: str | Path, splits: Sequence[str], with_age: bool = True) -> pd.DataFrame:
    """Predict the labelled radiographs of some splits, in the order of the records."""
    if not splits:
        return pd.DataFrame()
    frames = [bundle.predict_records(data, split=name, with_age=with_age) for name in splits]
    labelled = pd.concat(frames, ignore_index=True).dropna(subset="bone_age_months")
    return labelled.astype({"predicted_months": float})


def _require_unseen(bundle: Bundle, *, data: str | Path, splits: Sequence[str]) -> None:
    """Raise if the bundle learnt from any of the records: what it errs there is not what it errs on new ones."""
    overlaps = [seen for name in splits for seen in find_seen_records(bundle, data=data, split=name)]
    # Intervals are set anew, and chose nothing that a line depends on.
    learnt = [seen for seen in overlaps if seen.use != "interval"]
    if not learnt:
        return
    unseen = [name for name in reversed(SPLITS) if name in set(splits) - {seen.split for seen in learnt}]
    fix = f"use --split {unseen[0]}" if unseen else "prepare radiographs that it has not seen"
    raise CalibrationError(
        f"{data}: {'; '.join(map(str, learnt))}: there the bundle errs less than on new ones, and a calibration would "
        f"promise too much; {fix}."
    )


def _describe_used(
    bundle: Bundle, frame: pd.DataFrame, *, data: str | Path, splits: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Hashes]]:
    """Return what the bundle has seen after the calibration: the entries of `seen_data`, and the hashes."""
    info, entries, used = read_info(data), list_seen(bundle.metadata), []
    for name in splits:
        identities = read_identities(data, split=name)
        labelled = identities[identities["id"].isin(frame["id"])]
        if len(labelled):
            entries.append(describe_seen("calibration", info=info, split=name, num_images=len(labelled)))
            used += labelled["pixel_sha256"].tolist()
    seen = join_seen([read_seen(bundle.folder, bundle.metadata), {"calibration": hash_radiographs(used)}])
    return entries, seen


def fit_lines(frame: pd.DataFrame) -> dict[str, Line]:
    """Fit one line per sex by least squares; a sex with too few radiographs gets the line of all.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`.

    Returns:
        Slope and offset in months by sex.
    """
    lines = {}
    for sex in SEXES:
        own = frame[frame["sex"] == sex]
        rows = own if count_groups(own) >= MIN_PATIENTS // 2 else frame
        predicted, read = rows["predicted_months"].to_numpy(float), rows["bone_age_months"].to_numpy(float)
        spread = float(np.square(predicted - predicted.mean()).sum())
        # Equal predictions have no slope: they are only shifted.
        slope = float(((predicted - predicted.mean()) * read).sum()) / spread if spread > 0 else 1.0
        lines[sex] = (slope, float(read.mean() - slope * predicted.mean()))
    return lines


def cross_fit(
    frame: pd.DataFrame, *, answers: pd.DataFrame | None = None, seed: int, num_folds: int = NUM_FOLDS
) -> pd.DataFrame:
    """Correct each radiograph by the lines fitted to the other folds; no patient is in two folds.

    Args:
        frame: Columns `sex`, `bone_age_months` and `predicted_months`; optionally `group`, equal for radiographs of one
            patient.
        answers: Other predictions of the same radiographs, with the same index, which are corrected by the lines of
            `frame` (default: those of `frame`).
        seed: Seed of the folds.
        num_folds: Number of folds.

    Returns:
        The predictions with corrected `predicted_months`.
    """
    answers = frame if answers is None else answers
    corrected = answers.copy()
    folds = split_by_group(find_groups(frame), num_folds=num_folds, seed=seed)
    for fold in np.unique(folds):
        unseen = frame.index[folds == fold]
        lines = fit_lines(frame.drop(index=unseen))
        slope, offset = np.array([lines[sex] for sex in frame.loc[unseen, "sex"]]).T
        corrected.loc[unseen, "predicted_months"] = answers.loc[unseen, "predicted_months"] * slope + offset
    return corrected
