"""The benchmark of disturbances: two bundles on the same radiographs, as they come and turned, framed or inverted."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from hands import add_borders, turn_matrix
from measure import BenchmarkError, Row, rounded

from boneage.bundles.bundle import Bundle, load_bundle
from boneage.evaluation.summarise import compare
from boneage.inference.loading import load_preprocessing
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import Prepared, process
from boneage.preprocessing.sources.sources import Case, find_cases
from boneage.preprocessing.sources.splits import read_split_file
from boneage.tfrecords.schema import male_from_sex


def turn(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a picture about its centre, counterclockwise, on a canvas that holds it all."""
    return cv2.warpAffine(pixels, *turn_matrix(pixels.shape, degrees), flags=cv2.INTER_LINEAR)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they come": lambda pixels: pixels,
    "turned by 30 degrees": lambda pixels: turn(pixels, 30.0),
    "turned by 90 degrees": lambda pixels: np.rot90(pixels).copy(),
    "turned by 180 degrees": lambda pixels: pixels[::-1, ::-1].copy(),
    "mirrored": lambda pixels: pixels[:, ::-1].copy(),
    "black and white borders": lambda pixels: add_borders(pixels, 0, 255),
    "inverted": lambda pixels: np.iinfo(pixels.dtype).max - pixels,
}


def disturbing(
    bundle: Path, *, baseline_bundle: Path, source: Path, split: Path, num_files: int = 300, seed: int = 0
) -> list[Row]:
    """MAE of two bundles on the same validation radiographs, disturbed in several ways, and their paired difference.

    Args:
        bundle: A bundle, such as one trained on crops.
        baseline_bundle: Another, such as one trained on whole frames.
        source: Source of the radiographs.
        split: CSV with `id,split`; `validation` is measured.
        num_files: How many of them.
        seed: Seed of the sample and of the bootstrap.

    Raises:
        BenchmarkError: If the source has no labelled radiograph of that split.
    """
    chosen = choose_validation_cases(source, split, num_files=num_files, seed=seed)
    bundles = [load_bundle(bundle), load_bundle(baseline_bundle)]
    rows: list[Row] = []
    for name, change in CHANGES.items():
        first, second = (predict_changed(loaded, chosen, change=change) for loaded in bundles)
        both = first["id"][first["id"].isin(second["id"])]
        first, second = (frame[frame["id"].isin(both)].reset_index(drop=True) for frame in (first, second))
        difference = compare(first, second, seed=seed).difference_months
        rows.append(
            {
                "radiographs": name,
                "number": len(first),
                "rejected by either": len(chosen) - len(first),
                "MAE months": _mae(first),
                "MAE months, other": _mae(second),
                "difference, 95% interval": f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]",
            }
        )
    return rows


def _mae(frame: pd.DataFrame) -> float:
    return rounded((frame["predicted_months"] - frame["bone_age_months"]).abs().mean())


def choose_validation_cases(source: Path, split: Path, *, num_files: int, seed: int) -> list[Case]:
    """A sample of the radiographs of the validation split that have a bone age and a sex.

    Raises:
        BenchmarkError: If the source has none.
    """
    splits = read_split_file(split)
    cases = [
        case
        for case in find_cases(source)[0]
        if splits.get(case.id) == "validation" and case.bone_age_months is not None and case.sex is not None
    ]
    if not cases:
        raise BenchmarkError(f"{source}: no labelled radiograph of the validation split in {split}.")
    return [cases[index] for index in np.random.default_rng(seed).permutation(len(cases))[:num_files]]


def prepare_pixels(pixels: np.ndarray, config: PreprocessingConfig) -> Prepared:
    """Prepare a picture that no file holds, uint8 or uint16 `(height, width)`."""
    return process(Radiograph(np.ascontiguousarray(pixels), None, None, None, None, ""), config)


def predict_changed(bundle: Bundle, cases: list[Case], *, change: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    """Read labelled radiographs, change their pixels, prepare and predict what comes of them.

    Returns:
        A table that `boneage.evaluation.summarise` takes, without what the gate rejects.
    """
    config = load_preprocessing(bundle)
    kept, images = [], []
    for case in cases:
        prepared = prepare_pixels(change(read_radiograph(case.path).pixels), config)
        if prepared.reasons or prepared.image is None:
            continue  # counted by the caller
        images.append(bundle.resize_to_input(prepared.image))
        kept.append(case)
    male = np.array([[male_from_sex(str(case.sex))] for case in kept], np.float32)
    return pd.DataFrame(
        {
            "id": [case.id for case in kept],
            "sex": [case.sex for case in kept],
            "bone_age_months": [case.bone_age_months for case in kept],
            "predicted_months": bundle.predict_batch(np.stack(images), male),
        }
    )
