"""The benchmark of sizes: what a bundle makes of larger radiographs, shrunk in several ways."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from disturbing import predict_changed
from measure import BenchmarkError, Row, rounded

from boneage.bundles.bundle import load_bundle
from boneage.evaluation.summarise import compare
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.sources.sources import find_cases

Shrink = Callable[[np.ndarray], np.ndarray]


def shrinking(bundle: Path, *, files: Path, table: Path, source: Path, seed: int = 0) -> list[Row]:
    """MAE of one bundle on larger radiographs, as they are and shrunk, against the small copies it knows.

    Args:
        bundle: Bundle trained on small radiographs.
        files: Folder of larger radiographs.
        table: Their labels.
        source: Source with a small copy of each, under the same id.
        seed: Seed of the bootstrap.

    Raises:
        BenchmarkError: If a radiograph has no small copy.
    """
    loaded = load_bundle(bundle)
    cases, _ = find_cases(files, table=table)
    labelled = [case for case in cases if case.bone_age_months is not None and case.sex is not None]
    ids = {case.id for case in labelled}
    copies = {case.id: case.path for case in find_cases(source)[0] if case.id in ids}
    if missing := sorted(ids - copies.keys()):
        raise BenchmarkError(f"{source}: no copy of {missing[0]}; give the source that holds the small copies.")
    side = read_radiograph(next(iter(copies.values()))).pixels.shape[0]

    def to(interpolation: int, *, squashed: bool) -> Shrink:
        def shrink(pixels: np.ndarray) -> np.ndarray:
            scale = side / max(pixels.shape)
            height, width = (side, side) if squashed else (round(length * scale) for length in pixels.shape)
            return cv2.resize(pixels, (width, height), interpolation=interpolation)

        return shrink

    ways: dict[str, Shrink] = {
        "as they are": lambda pixels: pixels,
        "true proportions, area": to(cv2.INTER_AREA, squashed=False),
        "true proportions, nearest": to(cv2.INTER_NEAREST, squashed=False),
        "squashed square, area": to(cv2.INTER_AREA, squashed=True),
        "squashed square, nearest": to(cv2.INTER_NEAREST, squashed=True),
    }
    known = predict_changed(loaded, [replace(case, path=copies[case.id]) for case in labelled], change=lambda it: it)
    frames = {"the small copies": known}
    for name, shrink in ways.items():
        frames[name] = predict_changed(loaded, labelled, change=shrink)
    return [_row(name, frame, known, seed=seed) for name, frame in frames.items()]


def _row(name: str, frame: pd.DataFrame, known: pd.DataFrame, *, seed: int) -> Row:
    # What the gate rejects in either is measured in neither.
    frame, known = (
        one[one["id"].isin(other["id"])].reset_index(drop=True) for one, other in ((frame, known), (known, frame))
    )
    error = frame["predicted_months"] - frame["bone_age_months"]
    change = compare(frame, known, seed=seed).difference_months
    return {
        "radiographs": name,
        "number": len(frame),
        "MAE months": rounded(error.abs().mean()),
        "bias months": rounded(error.mean()),
        "MAE change, 95% interval": f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]",
    }
