"""Train the hand networks: from radiographs to an ONNX file, its card and its metrics."""

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.hand_networks.landmarks import evaluate_landmarks, fit_landmarks
from boneage.hand_networks.network import export_onnx
from boneage.hand_networks.unet import evaluate_unet, fit_unet
from boneage.preprocessing.sources.splits import read_split_file
from boneage.preprocessing.training_data.landmark_examples import draw_landmark_examples, read_landmark_examples
from boneage.preprocessing.training_data.mask_pairs import read_mask_pairs, split_into_folds

NUM_DRAWN = 300


def train_unet(
    radiographs: str | Path, *, masks: str | Path, out: str | Path, num_folds: int = 5, config: HandTrainingConfig
) -> dict[str, Any]:
    """Train the U-Net on all folds of the radiographs except the first, and evaluate it on the first.

    Args:
        radiographs: Folder of radiographs.
        masks: Folder of masks with the same relative file names, 255 on the hand.
        out: Folder for `unet.onnx`, its card `unet.json`, and `unet.csv` with one row per held-out radiograph.
        num_folds: Number of folds; radiographs are split before augmentation.
        config: The training settings.

    Returns:
        The card: means and quantiles of the metrics on held-out radiographs, and the training data.

    Raises:
        BoneAgeError: If the radiographs or masks are invalid, or `out` already contains a network.
    """
    with _open(out, "unet") as out:
        unseen, *seen = split_into_folds(
            read_mask_pairs(Path(radiographs), masks=Path(masks)), num_folds=num_folds, seed=config.seed
        )
        train = [pair for fold in seen for pair in fold]
        began = time.perf_counter()
        model = fit_unet(train, config=config)
        measures = evaluate_unet(model, unseen)
        summary: dict[str, Any] = {
            name: round(float(measures[name].mean()), 4) for name in ("pixel_accuracy", "precision", "recall", "dice")
        }
        summary["dice_quantiles"] = _quantiles(measures["dice"], (0.0, 0.05, 0.5))
        return _write_network(
            model,
            measures,
            out / "unet",
            config=config,
            seconds=time.perf_counter() - began,
            card={"unseen": summary, "trained_on": [pair.name for pair in train], "num_unseen": len(unseen)},
        )


def train_landmarks(
    table: str | Path, *, radiographs: str | Path, split: str | Path, out: str | Path, config: HandTrainingConfig
) -> dict[str, Any]:
    """Train the landmark network on the train split and drawings, and evaluate it on the validation split.

    Args:
        table: CSV of landmarks, see `boneage.preprocessing.training_data.landmark_examples.read_landmark_examples`.
        radiographs: Folder of `<id>.png`.
        split: CSV with `id,split`.
        out: Folder for `landmarks.onnx`, its card `landmarks.json`, and `landmarks.csv` with one row per rotation and
            mirroring of a radiograph.
        config: The training settings.

    Returns:
        The card: errors of angle, side and position on held-out radiographs, and the training data.

    Raises:
        BoneAgeError: If the table, the radiographs or the split are invalid, or `out` already contains a network.
    """
    with _open(out, "landmarks") as out:
        splits = read_split_file(Path(split))
        examples = {
            name: read_landmark_examples(
                Path(table), radiographs=Path(radiographs), ids={id for id, split in splits.items() if split == name}
            )
            for name in ("train", "validation")
        }
        drawn = draw_landmark_examples(NUM_DRAWN, seed=config.seed)
        began = time.perf_counter()
        model = fit_landmarks(examples["train"], drawn=drawn, config=config)
        measures = evaluate_landmarks(model, examples["validation"], seed=config.seed)
        summary = {
            "angle_error_degrees_quantiles": _quantiles(measures["angle_error_degrees"], (0.5, 0.95, 1.0)),
            "side_right": round(float(measures["side_right"].mean()), 4),
            "landmark_error": round(float(measures["landmark_error"].mean()), 4),
            "wrist_error_quantiles": _quantiles(measures["wrist_error"], (0.5, 0.95)),
        }
        return _write_network(
            model,
            measures,
            out / "landmarks",
            config=config,
            seconds=time.perf_counter() - began,
            card={
                "unseen": summary,
                "trained_on": {"radiographs": len(examples["train"]), "drawings": NUM_DRAWN},
                "num_unseen": len(examples["validation"]),
            },
        )


@contextlib.contextmanager
def _open(out: str | Path, name: str) -> Iterator[Path]:
    out = Path(out)
    # The card is written last: without it, a training was interrupted.
    if (out / f"{name}.json").exists():
        raise BoneAgeError(f"{out / name}.onnx: already exists; choose another folder with --out.")
    with lock_folder(out):
        yield out


def _quantiles(values: pd.Series, shares: tuple[float, ...]) -> dict[str, float]:
    return {f"{share:g}": round(float(np.quantile(values, share)), 4) for share in shares}


def _write_network(
    model: keras.Model,
    measures: pd.DataFrame,
    stem: Path,
    *,
    config: HandTrainingConfig,
    seconds: float,
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the metrics, the network and, last, the card."""
    write_text(stem.with_suffix(".csv"), format_frame(measures, float_format="%.5f"))
    export_onnx(model, stem.with_suffix(".onnx"))
    digest = hashlib.sha256(stem.with_suffix(".onnx").read_bytes()).hexdigest()
    complete = {**card, "training": dataclasses.asdict(config), "seconds": round(seconds), "onnx_sha256": digest}
    write_json(stem.with_suffix(".json"), complete)
    return complete
