"""The benchmarks of the hand stage: outlines, how hands lie, and how long it all takes."""

import functools
import importlib.util
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from measure import Row, clock, median_and_quartiles, ratios, rounded, time_in_turns

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.crop.letterbox import Letterbox, resize_map
from boneage.preprocessing.crop.upright import find_forearm_cut
from boneage.preprocessing.hand.find_hand import Hand, find_hand
from boneage.preprocessing.hand.gate import GateConfig, check_gate
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST, find_pose, turn_between
from boneage.preprocessing.hand.segmenters import get_segmenter
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import process
from boneage.preprocessing.segmentation.film import find_film, find_foreground
from boneage.preprocessing.segmentation.hand_sam import HAND_SAM_SIZE_PX, load_hand_sam
from boneage.preprocessing.segmentation.morphology import fill_holes, largest_component
from boneage.preprocessing.segmentation.segmentation import Segmentation, Segmenter, segment_with_prompts
from boneage.preprocessing.sources.splits import read_split_file
from boneage.preprocessing.training_data.landmark_examples import LandmarkExample, read_landmark_examples
from boneage.preprocessing.training_data.mask_augmentation import subsample
from boneage.preprocessing.training_data.mask_pairs import MaskPair, read_folds, read_mask_pairs, score_mask

LARGEST_PX = 4096
# What `boneage train-unet` wrote when it made the U-Net that ships: the radiographs that it was kept from.
UNET_MEASURES = Path(__file__).parents[1] / "experiments" / "results" / "hand" / "unet.csv"


def segmenting(files: Path, masks: Path, folds: Path) -> list[Row]:
    """Dice of outlines on radiographs that the network was not trained on, as they come and changed.

    Args:
        files: Folder of radiographs.
        masks: Their masks, made by hand.
        folds: What `boneage train-sam` wrote: a network for each fold that has not seen it.
    """
    pairs = read_mask_pairs(files, masks=masks, max_hand_px=LARGEST_PX)
    divided = read_folds(folds, pairs)
    unseen_by_unet = set(pd.read_csv(UNET_MEASURES, dtype={"file": str}).file)
    unet = get_segmenter("unet")
    rows = []
    for change, vary in VARIANTS.items():
        found: dict[tuple[str, str], list[float]] = {}
        if change == "as they are":  # needs no network
            for pair in pairs:
                for method, mask in _answer_truly(pair.mask).items():
                    found.setdefault((method, change), []).append(score_mask(mask, truth=pair.mask)["dice"])
        for number, fold in enumerate(divided):
            network = folds / f"fold-{number}" / "hand_sam.onnx"
            if not network.exists():
                continue  # the training goes on with it; `number` tells how many radiographs were measured
            hand_sam = functools.partial(segment_with_prompts, load_hand_sam(network))
            for pair in fold:
                methods: dict[str, Segmenter] = {"hand-SAM": hand_sam, **PLAIN}
                if pair.name in unseen_by_unet:
                    methods["U-Net (shipped; unseen ones)"] = unet
                pixels, truth = vary(pair)
                for method, segmenter in methods.items():
                    hand = find(pixels, segmenter)
                    parts = {change: (hand.segmentation.mask, truth)}
                    if change == "as they are" and method not in PLAIN:
                        kept = _above_cut(hand)
                        parts["as they are, above the forearm's cut"] = (hand.segmentation.mask & kept, truth & kept)
                    for part, (mask, true) in parts.items():
                        found.setdefault((method, part), []).append(score_mask(mask, truth=true)["dice"])
        for (method, part), dices in found.items():
            if part == "as they are" or method not in PLAIN:
                rows.append(
                    {
                        "method": method,
                        "radiographs": part,
                        "number": len(dices),
                        "Dice, mean": rounded(float(np.mean(dices))),
                        "5% quantile": rounded(float(np.quantile(dices, 0.05))),
                        "worst": rounded(float(np.min(dices))),
                    }
                )
    return rows


def _answer_truly(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a network that makes no error would answer in 256 pixels: in whole ones, and in shares of them."""
    rows, columns = Letterbox(truth.shape, HAND_SAM_SIZE_PX).frame_size
    share = cv2.resize(truth.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    answers = {"without error, in whole pixels": (share > 0.5).astype(np.float32), "without error, in shares": share}
    return {method: resize_map(answer, shape=truth.shape) > 0.5 for method, answer in answers.items()}


def _above_cut(hand: Hand) -> np.ndarray:
    """Return where the crop's cut leaves the forearm on, bool `(height, width)`."""
    if hand.pose is None or hand.landmarks is None:
        return np.ones(hand.pixels.shape, np.bool_)
    down, cut = find_forearm_cut(
        hand.landmarks.points[WRIST],
        angle_degrees=hand.pose.angle_degrees,
        length_px=hand.pose.length_px,
        forearm_share=PreprocessingConfig().forearm_share,
    )
    rows, columns = np.indices(hand.pixels.shape)
    return columns * down[0] + rows * down[1] <= cut


def find(pixels: np.ndarray, segmenter: Segmenter) -> Hand:
    """Find the hand of a picture of any grey range, uint8 `(height, width)`."""
    return find_hand(pixels, segmenter=segmenter, gate=GateConfig())


def _threshold(pixels: np.ndarray) -> Segmentation:
    _, bright = cv2.threshold(pixels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return Segmentation(fill_holes(largest_component(bright == 1)), None)


def _film_area(pixels: np.ndarray) -> Segmentation:
    scale = 256 / max(pixels.shape)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    found = find_foreground(small, film=find_film(small)).astype(np.float32)
    return Segmentation(cv2.resize(found, pixels.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5, None)


PLAIN: dict[str, Segmenter] = {"Otsu's threshold": _threshold, "film area, then Otsu": _film_area}


def _small(pair: MaskPair) -> tuple[np.ndarray, np.ndarray]:
    """Pick the pixels that the small copies of the data set kept, and of the mask the same."""
    return subsample(pair.pixels, shape=(100, 100)), subsample(pair.mask, shape=(100, 100))


def _turned(pair: MaskPair, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    matrix, size = turn_matrix(pair.pixels.shape, degrees)
    pixels, mask = (
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_AREA) for image in (pair.pixels, pair.mask * np.uint8(255))
    )
    return pixels, mask > 127


def turn_matrix(shape: tuple[int, ...], degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the matrix of a turn, counter-clockwise, onto a canvas that holds all of the frame."""
    height, width = shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (round(height * sine + width * cosine), round(height * cosine + width * sine))
    matrix[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    return matrix, size


def add_borders(pixels: np.ndarray, *levels: int) -> np.ndarray:
    """Add one border after the other, each of its own grey."""
    thick = round(0.06 * max(pixels.shape))
    for level in levels:
        pixels = cv2.copyMakeBorder(pixels, *[thick] * 4, cv2.BORDER_CONSTANT, value=(level,))
    return pixels


def _framed(pair: MaskPair) -> tuple[np.ndarray, np.ndarray]:
    return add_borders(pair.pixels, 20, 235), add_borders(pair.mask.astype(np.uint8), 0, 0) == 1


VARIANTS: dict[str, Callable[[MaskPair], tuple[np.ndarray, np.ndarray]]] = {
    "as they are": lambda pair: (pair.pixels, pair.mask),
    "100 x 100, nearest neighbour": _small,
    "turned by 45 degrees": functools.partial(_turned, degrees=45.0),
    "turned by 90 degrees": functools.partial(_turned, degrees=90.0),
    "turned by 180 degrees": functools.partial(_turned, degrees=180.0),
    "mirrored": lambda pair: (pair.pixels[:, ::-1].copy(), pair.mask[:, ::-1].copy()),
    "inverted": lambda pair: (255 - pair.pixels, pair.mask),
    "framed, dark and bright": _framed,
    "dimmed to an eighth": lambda pair: (pair.pixels // 8, pair.mask),
}


def orienting(source: Path, table: Path, split: Path, *, seed: int = 0) -> list[Row]:
    """How far the angle is off, how often the side is right, and how much forearm stays, behind the shipped masks.

    Args:
        source: Folder of radiographs, `<id>.png`.
        table: Their landmarks.
        split: CSV with `id,split`; the landmark network was trained on `train`.
        seed: Unused: every radiograph is measured at every turn.
    """
    splits = read_split_file(split)
    config = PreprocessingConfig()
    measured = []
    for example in read_landmark_examples(table, radiographs=source):
        for mirrored in (False, True):
            for degrees in range(0, 360, 30):
                if not mirrored or degrees == 0:
                    row = _measure_pose(example, float(degrees), mirrored=mirrored, config=config)
                    measured.append({"split": splits[example.id], "degrees": degrees, "mirrored": mirrored, **row})
    frame = pd.DataFrame(measured)
    rows = []
    for name, chosen in (
        ("upright, as they come", (frame.degrees == 0) & ~frame.mirrored),
        ("turned by every 30 degrees", ~frame.mirrored),
        ("turned by every 30 degrees, let through by the gate", ~frame.mirrored & frame.accepted),
        ("mirrored", frame.mirrored),
        ("validation split, turned by every 30 degrees", ~frame.mirrored & (frame.split == "validation")),
        ("validation split, mirrored", frame.mirrored & (frame.split == "validation")),
    ):
        part = frame[chosen]
        rows.append(
            {
                "radiographs": name,
                "number": len(part),
                "angle error, median": rounded(part.angle_error.median()),
                "95% quantile": rounded(part.angle_error.quantile(0.95)),
                "over 10 degrees": int((part.angle_error > 10).sum()),
                "side right": rounded(part.side_right.mean()),
                "forearm kept, mean": rounded(part.kept.mean()),
                "forearm kept, standard deviation": rounded(part.kept.std()),
                "rejected": int((~part.accepted).sum()),
            }
        )
    return rows


def _measure_pose(
    example: LandmarkExample, degrees: float, *, mirrored: bool, config: PreprocessingConfig
) -> dict[str, float | bool]:
    pixels, points = example.pixels, example.landmarks
    if mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        points = np.column_stack([pixels.shape[1] - 1 - points[:, 0], points[:, 1]])
    if degrees:
        matrix, size = turn_matrix(pixels.shape, degrees)
        pixels = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR)
        points = points @ matrix[:, :2].T + matrix[:, 2]
    hand = find(pixels, get_segmenter(config.segmenter))
    true = find_pose(points)
    if hand.pose is None or hand.landmarks is None:
        return {"angle_error": 180.0, "side_right": False, "kept": np.nan, "accepted": False}
    found = hand.landmarks.points
    downwards = (found[WRIST] - found[MIDDLE_TIP]) / hand.pose.length_px
    cut = found[WRIST] + config.forearm_share * hand.pose.length_px * downwards
    true_downwards = (points[WRIST] - points[MIDDLE_TIP]) / true.length_px
    return {
        "angle_error": abs(turn_between(hand.pose.angle_degrees, true.angle_degrees)),
        "side_right": hand.pose.side == true.side,
        "kept": float((cut - points[WRIST]) @ true_downwards) / true.length_px,
        "accepted": not check_gate(hand.measures, gate=GateConfig()),
    }


def staging(files: Path, *, repeats: int = 3, seed: int = 0) -> list[Row]:
    """The hand stage on full-size radiographs, one core, beside reading their files, and beside ViT-B's encoder alone.

    ViT-B is timed with random weights, which cost the same, where torch and segment-anything are installed.

    Args:
        files: Folder of radiographs.
        repeats: Rounds that count.
        seed: Unused: all files are taken.
    """
    paths = sorted(files.rglob("*.png"))
    config = PreprocessingConfig()
    cv2.setNumThreads(1)
    radiographs = [read_radiograph(path) for path in paths]

    def stage() -> None:
        for radiograph in radiographs:
            process(radiograph, config)

    sides = {
        "reading the file": clock(lambda: [read_radiograph(path) for path in paths], num_items=len(paths)),
        "hand stage": clock(stage, num_items=len(paths)),
    }
    seconds = time_in_turns(sides, repeats=repeats)
    rows = [
        {"case": case, "number": len(paths), **median_and_quartiles("seconds", values)}
        for case, values in seconds.items()
    ]
    rows[1]["peak_memory_mib"] = rounded(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if importlib.util.find_spec("torch") and importlib.util.find_spec("segment_anything"):
        encode = _load_vit_b()
        taken = [clock(encode, num_items=1)() for _ in range(repeats)]
        stages = [sides["hand stage"]() for _ in range(repeats)]
        rows.append(
            {
                "case": "ViT-B's image encoder, one core",
                "number": 1,
                **median_and_quartiles("seconds", taken),
                **median_and_quartiles("times_the_hand_stage", ratios(taken, stages)),
            }
        )
    else:
        print("staging: ViT-B is left out, it needs torch and segment-anything", file=sys.stderr)
    return rows


def _load_vit_b() -> Callable[[], object]:
    import torch

    from boneage.preprocessing.sam import torchvision_stand_in as stand_in

    stand_in.install()
    from segment_anything import sam_model_registry

    torch.set_num_threads(1)
    encoder = sam_model_registry["vit_b"]().image_encoder.eval()
    image = torch.zeros(1, 3, 1024, 1024)

    def encode() -> object:
        with torch.inference_mode():
            return encoder(image)

    return encode
