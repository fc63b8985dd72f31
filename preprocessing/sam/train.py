"""Train hand-SAM: from radiographs with masks to weights, an ONNX file, its card and its measures."""

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

from preprocessing.contrast import stretch_contrast
from preprocessing.hand_sam import load_hand_sam
from preprocessing.mask_pairs import MaskPair, divide, read_mask_pairs, score_mask, write_folds
from preprocessing.read import read_radiograph
from preprocessing.sam.fit import HandSamTraining, Matter, Phases, export_hand_sam, fit_hand_sam
from preprocessing.sam.network import Prompted, build_hand_sam
from preprocessing.segment import SEGMENTS_FILE
from preprocessing.segmentation import Predictor, segment_prompted
from preprocessing.splits import read_split_file
from preprocessing.synthetic import draw_many
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_json, write_text, write_whole

NUM_DRAWN = 300
_DRAWN_SIZE_PX = (400, 320)
_FOLDS_SEED = 0
BASE_FILE = "base.npz"
_TRAINING = "training"  # beside the weights: what phases they come from


def read_accepted_masks(segments: Path, *, radiographs: Path, split: Path) -> list[MaskPair]:
    """Read what `boneage segment` accepted, of the train split alone, as pairs to learn from.

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


def draw_pairs(num_images: int, *, seed: int) -> list[MaskPair]:
    """Draw radiographs with their masks, of every age and both sexes."""
    return [
        MaskPair(f"drawn-{number}", stretch_contrast(drawn.pixels), drawn.mask)
        for number, drawn in enumerate(draw_many(num_images, seed=seed, size_px=_DRAWN_SIZE_PX))
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
    phases: Phases,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Train hand-SAM: without the masks made by hand, then on all of them, and for measuring without each fifth.

    Everything that is finished is kept: the same command goes on where a killed one stopped, and from the `base.npz` of
    another folder, what was learnt without masks made by hand, where that lies in `out`.

    Args:
        radiographs: Folder of radiographs.
        masks: Folder of masks made by hand, of the same relative file names, 255 on the hand.
        unlabelled: Folder of radiographs without such masks.
        segments: What `boneage segment` wrote of them; what it did not accept is left out.
        split: CSV with `id,split` of the latter; only `train` is learnt from.
        out: Folder for `hand_sam.onnx`, its card `hand_sam.json`, `hand_sam.csv` with one row for each radiograph with
            a mask, `folds.csv`, and a folder for each training.
        num_folds: Number of folds of the masks made by hand; they are divided before anything is augmented.
        phases: How to train.
        progress: Called with a line of text now and then.

    Returns:
        The card: means and quantiles of the measures on unseen radiographs, by the networks of the folds and by their
        base, which has seen none of them; and what the network learnt from.

    Raises:
        BoneAgeError: If the radiographs or masks cannot be used, or `out` holds a training with other settings.
    """
    out = Path(out)
    pairs = read_mask_pairs(Path(radiographs), masks=Path(masks))
    folds = divide(pairs, num_folds=num_folds, seed=_FOLDS_SEED)
    out.mkdir(parents=True, exist_ok=True)
    write_folds(folds, out)
    others = read_accepted_masks(Path(segments), radiographs=Path(unlabelled), split=Path(split))
    drawn = draw_pairs(NUM_DRAWN, seed=phases.base.seed)
    began = time.perf_counter()

    def fit(name: str, labelled: Sequence[MaskPair], config: HandSamTraining, base: Prompted | None) -> Prompted:
        progress(f"{name}: {len(labelled)} masks made by hand, {len(others)} by a segmenter, {len(drawn)} drawings")
        (out / name).mkdir(parents=True, exist_ok=True)
        return fit_hand_sam(
            Matter(labelled, others, drawn),
            config=config,
            init=None if base is None else base.state_dict(),
            frozen_stages=bool(labelled),
            out=out / name,
            progress=progress,
        )

    def fit_by_hand(name: str, labelled: Sequence[MaskPair]) -> Prompted:
        return fit(name, labelled, phases.fine, fit(f"{name}-outlines", labelled, phases.outlines, base))

    if not (out / BASE_FILE).exists():
        write_base(fit("base", [], phases.base, fit("encoder", [], phases.encoder, None)), out, phases=phases)
    base = read_base(out, phases=phases)
    export_hand_sam(base, out / "base.onnx")
    of_base = measure_hand_sam(load_hand_sam(out / "base.onnx"), pairs)
    progress(f"base: {_summarise(of_base)}")
    frames = []
    for number, unseen in enumerate(folds):
        names = {pair.name for pair in unseen}
        seen = [pair for pair in pairs if pair.name not in names]
        path = out / f"fold-{number}" / "hand_sam.onnx"
        export_hand_sam(fit_by_hand(f"fold-{number}", seen), path)
        frames.append(measure_hand_sam(load_hand_sam(path), unseen).assign(fold=number))
    measures = pd.concat(frames, ignore_index=True)
    export_hand_sam(fit_by_hand("all", pairs), out / "hand_sam.onnx")
    write_text(out / "hand_sam.csv", measures.to_csv(index=False, float_format="%.5f"))
    card = {
        "cross_validated": _summarise(measures),
        "base": _summarise(of_base),
        "trained_on": {"by_hand": [pair.name for pair in pairs], "by_segmenter": len(others), "drawings": NUM_DRAWN},
        "training": dataclasses.asdict(phases),
        "num_parameters": sum(each.numel() for each in base.parameters()),
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


def write_base(model: Prompted, folder: Path, *, phases: Phases) -> None:
    """Write what was learnt without masks made by hand to `base.npz`, kernels in half precision."""
    values = {name: each.numpy() for name, each in model.state_dict().items()}
    halved = {name: each.astype(np.float16) if each.ndim > 1 else each for name, each in values.items()}
    with write_whole(folder / BASE_FILE) as file:
        np.savez(file, allow_pickle=False, **halved, **{_TRAINING: np.array(_describe_base(phases))})


def read_base(folder: Path, *, phases: Phases) -> Prompted:
    """Read what `write_base` wrote.

    Raises:
        BoneAgeError: If it was trained with other settings, or is no base.
    """
    path, model = folder / BASE_FILE, Prompted(build_hand_sam())
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: torch.from_numpy(file[name]) for name in file.files if name != _TRAINING}
            trained = str(file[_TRAINING])
        model.load_state_dict(values)
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise BoneAgeError(f"{path}: no base that `boneage train-sam` wrote, or damaged; remove it.") from error
    if trained != _describe_base(phases):
        raise BoneAgeError(f"{path}: of a training with other settings; choose another folder by --out.")
    return model


def _describe_base(phases: Phases) -> str:
    return json.dumps([dataclasses.asdict(each) for each in (phases.encoder, phases.base)], sort_keys=True)


def measure_hand_sam(predict: Predictor, pairs: Sequence[MaskPair]) -> pd.DataFrame:
    """Measure hand-SAM, prompts, choice and cleaning of the mask included, on radiographs that it never saw."""
    return pd.DataFrame(
        [
            {"file": pair.name, **score_mask(segment_prompted(predict, pair.pixels).mask, truth=pair.mask)}
            for pair in pairs
        ]
    )
