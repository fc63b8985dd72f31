"""The benchmark of repeatability: one bundle on the same radiographs, as they come and saved or processed otherwise."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from disturbing import choose_validation_cases, predict_changed, turn
from measure import Row, rounded

from boneage.bundles.bundle import load_bundle
from boneage.cohorts.transformations import (
    add_black_border,
    add_noise,
    apply_gamma,
    burn_out,
    cut_edge,
    equalise,
    sharpen,
)

Change = Callable[[np.ndarray], np.ndarray]
# A change of more than a year changes what a clinician reads.
_LARGE_CHANGE_MONTHS = 12.0


def _scale(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _stretch(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=1.0, interpolation=cv2.INTER_LINEAR)


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


SAVED: dict[str, Change] = {
    "one row and column cut off": lambda pixels: cut_edge(pixels, 1),
    "three rows and columns cut off": lambda pixels: cut_edge(pixels, 3),
    "black border of 5%": lambda pixels: add_black_border(pixels, 0.05),
    "black border of 40%": lambda pixels: add_black_border(pixels, 0.4),
    "turned by 5 degrees": lambda pixels: turn(pixels, 5.0),
    "turned by 20 degrees": lambda pixels: turn(pixels, -20.0),
    "scaled to 95%": lambda pixels: _scale(pixels, 0.95),
    "scaled to 105%": lambda pixels: _scale(pixels, 1.05),
    "JPEG of quality 75": lambda pixels: _jpeg(pixels, 75),
}
"""The same picture saved otherwise: the answer should not change."""

PROCESSED: dict[str, Change] = {
    "noise of 4%": lambda pixels: add_noise(pixels, 0.04),
    "gamma 0.6": lambda pixels: apply_gamma(pixels, 0.6),
    "gamma 1.6": lambda pixels: apply_gamma(pixels, 1.6),
    "CLAHE 2": lambda pixels: equalise(pixels, 2.0),
    "CLAHE 4": lambda pixels: equalise(pixels, 4.0),
    "brightest 10% burnt out": lambda pixels: burn_out(pixels, 90.0),
    "unsharp mask": sharpen,
    "half the size": lambda pixels: _scale(pixels, 0.5),
    "15% wider": lambda pixels: _stretch(pixels, 1.15),
}
"""The same hand by another machine or another processing of the film."""


def repeating(bundle: Path, *, source: Path, split: Path, num_files: int = 150, seed: int = 0) -> list[Row]:
    """How far the answer for one hand changes where its file is saved or processed otherwise.

    Args:
        bundle: A bundle.
        source: Source of the radiographs.
        split: CSV with `id,split`; `validation` is measured.
        num_files: How many of them.
        seed: Seed of the sample.

    Raises:
        BenchmarkError: If the source has no labelled radiograph of that split.
    """
    chosen = choose_validation_cases(source, split, num_files=num_files, seed=seed)
    loaded = load_bundle(bundle)
    first = predict_changed(loaded, chosen, change=lambda pixels: pixels).set_index("id")
    truth = first["bone_age_months"]
    answers = {"as they come": first["predicted_months"]}
    rows: list[Row] = []
    for name, change in {"as they come": None, **SAVED, **PROCESSED}.items():
        if change is not None:
            answers[name] = predict_changed(loaded, chosen, change=change).set_index("id")["predicted_months"]
        both = answers[name].index.intersection(first.index)
        difference = answers[name][both] - first["predicted_months"][both]
        rows.append(
            {
                "file": name,
                "number": len(both),
                "refused of those answered": len(first) - len(both),
                "mean change, months": rounded(difference.mean()),
                "median change either way": rounded(difference.abs().median()),
                "largest": rounded(difference.abs().max()),
                "share beyond 12 months": rounded((difference.abs() > _LARGE_CHANGE_MONTHS).mean()),
                "MAE months": rounded((answers[name][both] - truth[both]).abs().mean()),
            }
        )
    saved = np.stack([answers[name].reindex(first.index) for name in ("as they come", *SAVED)])
    within = float(np.sqrt(np.nanmean(np.nanvar(saved, axis=0, ddof=1))))
    rows.append({"file": "all that are saved otherwise", "SD within the hand, months": rounded(within)})
    return rows
