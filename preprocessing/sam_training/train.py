"""Train hand-SAM: from radiographs with masks to weights, an ONNX file, its card and its scores."""

import dataclasses
import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from boneage.base.errors import BoneAgeError
from boneage.base.files import open_atomic, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.jobs.segment import SEGMENTS_FILE
from boneage.preprocessing.sam_training.fit import (
    HandSamExamples,
    export_hand_sam,
    fit_hand_sam,
)
from boneage.preprocessing.sam_training.network import PromptedHandSam, build_hand_sam
from boneage.preprocessing.sam_training.schedule import HandSamConfig, HandSamSchedule
from boneage.preprocessing.segmentation.hand_sam import load_hand_sam
from boneage.preprocessing.segmentation.segmentation import Predictor, segment_with_prompts
from boneage.preprocessing.sources.splits import read_split_file
from boneage.preprocessing.synthetic import draw_radiographs
from boneage.preprocessing.training_data.mask_pairs import (
    MaskPair,
    read_mask_pairs,
    score_mask,
    split_into_folds,
    write_folds,
)

NUM_DRAWN = 300
_DRAWN_SIZE_PX = (400, 320)
_FOLDS_SEED = 0
BASE_FILE = "base.npz"
_TRAINING = "training"  # key of the schedule beside the weights


def read_accepted_masks(segments: Path, *, radiographs: Path, split: Path) -> list[MaskPair]:
    """Read the masks that `boneage segment` accepted, of the train split only.

    Args:
        segments: The folder that it wrote.
        radiographs: The folder that it read.
        split: CSV with `id,split`.
    """
    table = pd.read_csv(segments / SEGMENTS_FILE)
    splits = read_split_file(split)
    pairs = []
    for name in table.file[table.accepted]:
        id = Path(name).stem
        if splits.get(id) == "train":
            pixels = stretch_contrast(read_radiograph(radiographs / name).pixels)
            pairs.append(MaskPair(name, pixels, read_radiograph(segments / f"{id}.png").pixels > 127))
    return pairs


def draw_mask_pairs(num_images: int, *, seed: int) -> list[MaskPair]:
    """Draw radiographs with their masks, of every age and both sexes."""
    return [
        MaskPair(f"drawn-{number}", stretch_contrast(drawn.pixels), drawn.mask)
        for number, drawn in enumerate(draw_radiographs(num_images, seed=seed, size_px=_DRAWN_SIZE_PX))
    ]


def train_hand_sam(
    radiographs: str | Path,
    *,
    masks: str | Path,
    unlabelled: str | Path,
    segments: str | Path,
    split: str | Path,
    out: str | Path,
    num_folds: int = 5,
    schedule: HandSamSchedule,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Train hand-SAM without manual masks, then on all of them, and for cross-validation without each fold.

    An interrupted training resumes where it stopped. If `out` contains the `base.npz` of another training, the training
    without manual masks is skipped.

    Args:
        radiographs: Folder of radiographs.
        masks: Folder of manual masks with the same relative file names, 255 on the hand.
        unlabelled: Folder of radiographs without manual masks.
        segments: Folder that `boneage segment` wrote of them; masks that it did not accept are ignored.
        split: CSV with `id,split` of the latter; only `train` is used.
        out: Folder for `hand_sam.onnx`, its card `hand_sam.json`, `hand_sam.csv` with one row for each radiograph with
            a mask, `folds.csv`, and a folder for each training.
        num_folds: Number of folds of the manual masks.
        schedule: Settings of the trainings.
        progress: Called with status lines.

    Returns:
        The card: means and quantiles of the scores on unseen radiographs, of the networks of the folds and of their
        base, which was trained on none of them; and the training data.

    Raises:
        BoneAgeError: If the radiographs or masks cannot be used, or `out` contains a training with other settings.
    """
    out = Path(out)
    pairs = read_mask_pairs(Path(radiographs), masks=Path(masks))
    folds = split_into_folds(pairs, num_folds=num_folds, seed=_FOLDS_SEED)
    with lock_folder(out):
        write_folds(folds, out)
        others = read_accepted_masks(Path(segments), radiographs=Path(unlabelled), split=Path(split))
        drawn = draw_mask_pairs(NUM_DRAWN, seed=schedule.base.seed)
        began = time.perf_counter()

        def fit(
            name: str, labelled: Sequence[MaskPair], config: HandSamConfig, base: PromptedHandSam | None
        ) -> PromptedHandSam:
            progress(f"{name}: {len(labelled)} manual masks, {len(others)} of a segmenter, {len(drawn)} drawings")
            (out / name).mkdir(parents=True, exist_ok=True)
            return fit_hand_sam(
                HandSamExamples(labelled, others, drawn),
                config=config,
                init=None if base is None else base.state_dict(),
                frozen_stages=bool(labelled),
                out=out / name,
                progress=progress,
            )

        def fit_by_hand(name: str, labelled: Sequence[MaskPair]) -> PromptedHandSam:
            return fit(name, labelled, schedule.fine, fit(f"{name}-outlines", labelled, schedule.outlines, base))

        if not (out / BASE_FILE).exists():
            write_base(
                fit("base", [], schedule.base, fit("encoder", [], schedule.encoder, None)), out, schedule=schedule
            )
        base = read_base(out, schedule=schedule)
        export_hand_sam(base, out / "base.onnx")
        base_measures = measure_hand_sam(load_hand_sam(out / "base.onnx"), pairs)
        progress(f"base: {_summarise(base_measures)}")
        frames = []
        for number, unseen in enumerate(folds):
            names = {pair.name for pair in unseen}
            seen = [pair for pair in pairs if pair.name not in names]
            path = out / f"fold-{number}" / "hand_sam.onnx"
            export_hand_sam(fit_by_hand(f"fold-{number}", seen), path)
            frames.append(measure_hand_sam(load_hand_sam(path), unseen).assign(fold=number))
        measures = pd.concat(frames, ignore_index=True)
        export_hand_sam(fit_by_hand("all", pairs), out / "hand_sam.onnx")
        write_text(out / "hand_sam.csv", format_frame(measures, float_format="%.5f"))
        card = {
            "cross_validated": _summarise(measures),
            "base": _summarise(base_measures),
            "trained_on": {
                "by_hand": [pair.name for pair in pairs],
                "by_segmenter": len(others),
                "drawings": NUM_DRAWN,
            },
            "training": dataclasses.asdict(schedule),
            "num_parameters": sum(weight.numel() for weight in base.parameters()),
            "seconds": round(time.perf_counter() - began),
            "onnx_sha256": hashlib.sha256((out / "hand_sam.onnx").read_bytes()).hexdigest(),
        }
        write_json(out / "hand_sam.json", card)
        return card


def _summarise(measures: pd.DataFrame) -> dict[str, Any]:
    return {
        **{name: round(float(measures[name].mean()), 4) for name in ("pixel_accuracy", "precision", "recall", "dice")},
        "dice_quantiles": {f"{share:g}": round(float(measures.dice.quantile(share)), 4) for share in (0, 0.05, 0.5)},
    }


def write_base(model: PromptedHandSam, folder: Path, *, schedule: HandSamSchedule) -> None:
    """Write the weights trained without manual masks to `base.npz`, kernels in half precision."""
    values = {name: weight.numpy() for name, weight in model.state_dict().items()}
    halved = {name: weight.astype(np.float16) if weight.ndim > 1 else weight for name, weight in values.items()}
    with open_atomic(folder / BASE_FILE) as file:
        np.savez(file, allow_pickle=False, **halved, **{_TRAINING: np.array(_describe_base(schedule))})


def read_base(folder: Path, *, schedule: HandSamSchedule) -> PromptedHandSam:
    """Read the weights that `write_base` wrote.

    Raises:
        BoneAgeError: If the file is damaged, or was trained with other settings.
    """
    path, model = folder / BASE_FILE, PromptedHandSam(build_hand_sam())
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: torch.from_numpy(file[name]) for name in file.files if name != _TRAINING}
            trained = str(file[_TRAINING])
        model.load_state_dict(values)
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise BoneAgeError(f"{path}: damaged, or not written by `boneage train-sam`; remove it.") from error
    if trained != _describe_base(schedule):
        raise BoneAgeError(f"{path}: was trained with other settings; choose another folder with --out.")
    return model


def _describe_base(schedule: HandSamSchedule) -> str:
    return json.dumps([dataclasses.asdict(config) for config in (schedule.encoder, schedule.base)], sort_keys=True)


def measure_hand_sam(predict: Predictor, pairs: Sequence[MaskPair]) -> pd.DataFrame:
    """Score hand-SAM, with prompts, mask selection and cleaning, on radiographs that it was not trained on."""
    return pd.DataFrame(
        [
            {"file": pair.name, **score_mask(segment_with_prompts(predict, pair.pixels).mask, truth=pair.mask)}
            for pair in pairs
        ]
    )
