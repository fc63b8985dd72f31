"""The benchmark of cut hands: how their readings change."""

import dataclasses
from pathlib import Path

import numpy as np
from completeness import CUTS
from disturbing import choose_validation_cases, prepare_pixels
from measure import Row, rounded

from boneage.bundles.bundle import Bundle, load_bundle
from boneage.inference.loading import load_preprocessing
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.hand.pose import WRIST
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import Prepared
from boneage.preprocessing.sources.sources import Case
from boneage.tfrecords.schema import male_from_sex

_ANY_CUT = 100.0


def cutting(bundle: Path, *, source: Path, split: Path, num_files: int = 60, seed: int = 0) -> list[Row]:
    """How the readings of validation radiographs change where the film's edge cuts the hand, however much it cuts.

    Args:
        bundle: The bundle that reads.
        source: Source of the radiographs.
        split: CSV with `id,split`; `validation` is measured.
        num_files: How many of them.
        seed: Seed of the sample.

    Raises:
        BenchmarkError: If the source has no labelled radiograph of that split.
    """
    loaded = load_bundle(bundle)
    config = load_preprocessing(loaded)
    config = dataclasses.replace(config, gate=dataclasses.replace(config.gate, max_cut_score=_ANY_CUT))
    errors: dict[str, list[tuple[float, float]]] = {kind: [] for kind in CUTS}
    num_whole = 0
    for case in choose_validation_cases(source, split, num_files=num_files, seed=seed):
        pixels = stretch_contrast(read_radiograph(case.path).pixels)
        whole = prepare_pixels(pixels, config)
        if whole.reasons or whole.hand is None or whole.hand.landmarks is None:
            continue
        points = whole.hand.landmarks.points
        mask = whole.hand.segmentation.mask.copy()
        mask[max(0, round(points[WRIST, 1])) :] = False
        if not mask.any():  # upside down
            continue
        num_whole += 1
        months = _predict(whole, case, loaded)
        for kind, cut in CUTS.items():
            prepared = prepare_pixels(cut(whole.hand.pixels, mask, points), config)
            if not prepared.reasons:
                change = _predict(prepared, case, loaded) - months
                errors[kind].append((months - float(case.bone_age_months or 0), change))
    return [_tabulate(kind, found, num_whole=num_whole) for kind, found in errors.items()]


def _predict(prepared: Prepared, case: Case, bundle: Bundle) -> float:
    male = np.array([[male_from_sex(str(case.sex))]], np.float32)
    return float(bundle.predict_batch(bundle.resize_to_input(prepared.image)[None], male).ravel()[0])


def _tabulate(kind: str, found: list[tuple[float, float]], *, num_whole: int) -> Row:
    """Make the row of one kind of cut from the errors of whole hands and the changes by the cut, in months."""
    row: Row = {"kind": kind, "number": num_whole, "answered": len(found)}
    if not found:
        return row
    whole, changes = np.array(found).T
    return {
        **row,
        "MAE months, whole": rounded(float(np.abs(whole).mean())),
        "MAE months, cut": rounded(float(np.abs(whole + changes).mean())),
        "mean change months": rounded(float(changes.mean())),
        "change months, 90%": rounded(float(np.quantile(np.abs(changes), 0.9))),
    }
