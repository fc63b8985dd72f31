"""The benchmarks of the quality gate: what it lets through, and what it measures."""

import csv
import dataclasses
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from hands import find
from measure import BenchmarkError, Row, rounded

from boneage.preprocessing.hand.gate import GateConfig, HandMeasures, check_gate
from boneage.preprocessing.hand.segmenters import get_segmenter
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.info import read_info
from boneage.tfrecords.schema import decode
from boneage.tfrecords.writer import REJECTED_FILE

QUANTILES = {
    "smallest": 0.0,
    "0.1%": 0.001,
    "0.5%": 0.005,
    "median": 0.5,
    "99.5%": 0.995,
    "99.9%": 0.999,
    "largest": 1.0,
}


def gating(source: Path, *, num_files: int = 2000, num_drawn: int = 100, seed: int = 0) -> list[Row]:
    """What the gate rejects: radiographs, of which it should reject hardly any, and all that is none.

    Args:
        source: Folder of radiographs, each with one hand.
        num_files: How many of them to look at.
        num_drawn: How many of each kind of picture without one whole hand to make.
        seed: Seed of the sample and of what is made.
    """
    rng = np.random.default_rng(seed)
    paths = sorted(source.glob("*.png"))
    if not paths:
        raise BenchmarkError(f"{source}: no PNG files here; name the folder that holds them.")
    chosen = [paths[index] for index in rng.permutation(len(paths))[:num_files]]
    kinds: dict[str, Iterator[np.ndarray]] = {
        "radiographs": (read_radiograph(path).pixels for path in chosen),
        "blank, noise, gradients, shapes": _draw_nothing(num_drawn, rng=rng),
        "scikit-image's pictures": _scikit_image(),
        "pydicom's files": _pydicom(),
        "drawn: fingers cut off by the frame": _cut_fingers(num_drawn, rng=rng),
        "drawn: half a hand": _halve(num_drawn, rng=rng),
        "drawn: two hands": _two_drawn(num_drawn, rng=rng),
        "radiographs: two hands": _two(chosen[:num_drawn]),
        "radiographs: half a hand": (_half(read_radiograph(path).pixels) for path in chosen[:num_drawn]),
    }
    return [tabulate_reasons(kind, [find_reasons(pixels) for pixels in pictures]) for kind, pictures in kinds.items()]


def find_measures(pixels: np.ndarray) -> HandMeasures:
    """Return what the gate checks of a picture of any grey range, uint8 `(height, width)`."""
    return find(pixels, get_segmenter("hand_sam")).measures


def find_reasons(pixels: np.ndarray) -> tuple[str, ...]:
    """Return the gate's reasons to reject a picture of any grey range, uint8 `(height, width)`."""
    return check_gate(find_measures(pixels), gate=GateConfig())


def tabulate_reasons(kind: str, reasons: Sequence[tuple[str, ...]]) -> Row:
    """Make the row of one kind of picture.

    Args:
        kind: Its name.
        reasons: Of each picture, the reasons to reject it.
    """
    counts = pd.Series([reason for found in reasons for reason in found], dtype=str).value_counts()
    rejected = sum(bool(found) for found in reasons)
    return {
        "kind": kind,
        "number": len(reasons),
        "rejected": rejected,
        "share": rounded(rejected / max(1, len(reasons))),
        "reasons": ", ".join(f"{reason} {count}" for reason, count in counts.items()),
    }


def _draw_nothing(number: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for index in range(number):
        height, width = rng.integers(100, 500, 2)
        noise = rng.integers(0, 256, (height, width)).astype(np.uint8)
        match index % 5:
            case 0:
                yield np.full((height, width), rng.integers(0, 256), np.uint8)
            case 1:
                yield noise
            case 2:
                yield cv2.normalize(cv2.GaussianBlur(noise, (0, 0), rng.uniform(2, 20)), None, 0, 255, cv2.NORM_MINMAX)
            case 3:
                yield np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
            case _:
                frame = np.full((height, width), rng.integers(0, 60), np.uint8)
                for _ in range(3):
                    place = tuple(int(coordinate) for coordinate in rng.integers(0, (width, height)))
                    cv2.circle(frame, place, int(rng.integers(10, 80)), (int(rng.integers(100, 256)),), -1)
                yield frame


def _scikit_image() -> Iterator[np.ndarray]:
    import skimage.data

    # Those that come with the package; the others would be fetched.
    for name in (
        "astronaut",
        "binary_blobs",
        "brick",
        "camera",
        "cat",
        "cell",
        "checkerboard",
        "chelsea",
        "clock",
        "coffee",
        "coins",
        "grass",
        "gravel",
        "horse",
        "hubble_deep_field",
        "immunohistochemistry",
        "microaneurysms",
        "moon",
        "page",
        "retina",
        "rocket",
        "shepp_logan_phantom",
        "text",
    ):
        try:
            picture = np.asarray(getattr(skimage.data, name)(), np.float64)
        except (ModuleNotFoundError, OSError):
            continue  # it is not in this installation
        grey = picture.mean(axis=-1) if picture.ndim == 3 else picture
        yield cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _pydicom() -> Iterator[np.ndarray]:
    import pydicom

    # Those that come with the package; the others would be fetched.
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = np.asarray(pydicom.dcmread(path).pixel_array, np.float64)
            except Exception:  # many are damaged on purpose, in every way there is
                continue
        if pixels.ndim == 2 and min(pixels.shape) >= 32:
            yield cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _draw(rng: np.random.Generator, **options: object):
    age = float(rng.uniform(24, 216))
    sex = str(rng.choice(["female", "male"]))
    return draw_radiograph(age, sex=sex, seed=int(rng.integers(2**31)), size_px=(400, 320), **options)


def _cut_fingers(number: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(number):
        drawn = _draw(rng, angle_degrees=0.0)
        tips, knuckles = drawn.landmarks[[8, 12, 16], 1].min(), drawn.landmarks[[5, 9, 13], 1].max()
        yield drawn.pixels[round(tips + rng.uniform(0.35, 0.9) * (knuckles - tips)) :]


def _half(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, : pixels.shape[1] // 2])


def _halve(number: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(number):
        drawn = _draw(rng, angle_degrees=0.0)
        yield np.ascontiguousarray(drawn.pixels[:, : round(drawn.landmarks[9, 0])])


def _two_drawn(number: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(number):
        yield _beside_itself(_draw(rng, angle_degrees=0.0).pixels)


def _beside_itself(pixels: np.ndarray) -> np.ndarray:
    """Show both hands of a child, on one film, exposed alike."""
    return np.hstack([pixels, pixels[:, ::-1]])


def _two(paths: list[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        yield _beside_itself(read_radiograph(path).pixels)


def measuring(data: Path) -> list[Row]:
    """What the gate measured of all radiographs of a folder, the rejected ones too, beside its thresholds.

    Args:
        data: Record folder whose hands were found.

    Raises:
        BenchmarkError: If no hand was looked for.
    """
    described = read_info(data)["splits"].values()
    shards = [Path(data) / shard["file"] for split in described for shard in split["shards"]]
    decisions = [decode(frame).decisions for shard in shards for frame in read_frames(shard)]
    with (Path(data) / REJECTED_FILE).open(newline="", encoding="utf-8") as file:
        decisions += [row["decisions"] for row in csv.DictReader(file)]
    measures = pd.DataFrame([json.loads(decision).get("measures", {}) for decision in decisions if decision])
    if measures.empty:
        raise BenchmarkError(f"{data}: was prepared with the segmenter 'none'; name records of hands.")
    rows = []
    for name, threshold in dataclasses.asdict(GateConfig()).items():
        side, _, measure = name.partition("_")
        values = measures[measure].dropna()
        beyond = values < threshold if side == "min" else values > threshold
        quantiles = dict(zip(QUANTILES, values.quantile(list(QUANTILES.values())), strict=True))
        rows.append(
            {
                "threshold": name,
                "value": threshold,
                **{quantile: rounded(value) for quantile, value in quantiles.items()},
                "number": len(values),
                "beyond": int(beyond.sum()),
            }
        )
    return rows
