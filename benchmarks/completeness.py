"""The benchmark of incomplete hands: hands that the film's edge cuts, beside complete ones that come close to it."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from gate import find_measures, tabulate_reasons
from hands import find
from jaxtyping import Bool, Float, UInt8
from measure import BenchmarkError, Row, rounded

from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.hand.gate import GateConfig, HandMeasures, check_gate, list_gate_warnings
from boneage.preprocessing.hand.pose import WRIST, find_pose
from boneage.preprocessing.hand.segmenters import get_segmenter
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.training_data.landmark_examples import LandmarkExample, read_landmark_examples

_Pixels = UInt8[np.ndarray, "height width"]
_Points = Float[np.ndarray, "21 2"]
_Mask = Bool[np.ndarray, "height width"]

# Only hands that stand about upright, clear of the edge: a cut along rows or columns then hits what it is meant to hit.
_MAX_ANGLE_DEGREES, _CLEARANCE_SHARE = 25.0, 0.02
_BORDER_SHARE = 0.08
_THUMB_JOINT, _THUMB_TIP, _MIDDLE_KNUCKLE, _LITTLE_KNUCKLE = 3, 4, 9, 17
_TIPS = np.array([8, 12, 16])  # forefinger, middle and ring finger


def completeness(source: Path, table: Path, *, files: Path | None = None, odd: bool = True) -> list[Row]:
    """What the gate rejects or warns of: complete hands close to the film's edge, and hands that the edge cuts.

    Args:
        source: Folder of radiographs, `<id>.png`.
        table: Their landmarks.
        files: Folder of further radiographs, each with one complete hand.
        odd: Whether to take the radiographs of odd or those of even ids. The thresholds were chosen on the even ones.

    Raises:
        BenchmarkError: If no radiograph shows an upright hand clear of the edge.
    """
    measured: dict[str, list[HandMeasures]] = {}
    for example in read_landmark_examples(table, radiographs=source):
        if int(example.id) % 2 == odd:
            for kind, pixels in make_pictures(example):
                measured.setdefault(kind, []).append(find_measures(pixels))
    if not measured:
        raise BenchmarkError(f"{source}: no upright hand clear of the edge in the rows of {table}.")
    if files:
        measured["further radiographs"] = [
            find_measures(read_radiograph(path).pixels) for path in sorted(files.iterdir())
        ]
    return [_tabulate(kind, measures) for kind, measures in measured.items()]


def _tabulate(kind: str, measured: Sequence[HandMeasures]) -> Row:
    """Make the row of one kind: how many are rejected and why, and how many of the others have a warning."""
    gate = GateConfig()
    reasons = [check_gate(measures, gate=gate) for measures in measured]
    warned = sum(
        not found and bool(list_gate_warnings(measures, gate=gate))
        for found, measures in zip(reasons, measured, strict=True)
    )
    row = tabulate_reasons(kind, reasons)
    return {**row, "warned": warned, "rejected or warned": rounded((row["rejected"] + warned) / len(measured))}


def make_pictures(example: LandmarkExample) -> Iterator[tuple[str, _Pixels]]:
    """Make all pictures of a hand, each as it is and behind a border; none if the hand is not clear of the edge."""
    hand = find(example.pixels, get_segmenter("hand_sam"))
    if abs(find_pose(example.landmarks).angle_degrees) > _MAX_ANGLE_DEGREES:
        return
    mask = hand.segmentation.mask.copy()
    mask[round(example.landmarks[WRIST, 1]) :] = False
    if check_gate(hand.measures, gate=GateConfig()) or not _is_clear(mask):
        return
    for kind, cut in CUTS.items():
        pixels = np.ascontiguousarray(cut(example.pixels, mask, example.landmarks))
        yield kind, pixels
        thick = round(_BORDER_SHARE * max(pixels.shape))
        yield f"{kind}, black border", cv2.copyMakeBorder(pixels, *[thick] * 4, cv2.BORDER_CONSTANT, value=(0,))


def _is_clear(mask: _Mask) -> bool:
    """Find out whether a hand above the wrist keeps its distance to the upper, left and right edge."""
    height, width = mask.shape
    left, top, right, _ = bounding_box(mask)
    return min(left, top, width - right) >= _CLEARANCE_SHARE * max(height, width)


def _crop_close(pixels: _Pixels, mask: _Mask, points: _Points, *, margin_share: float) -> _Pixels:
    """Crop to the hand above the wrist with the same margin at the upper, left and right side."""
    left, top, right, _ = bounding_box(mask)
    margin = round(margin_share * max(pixels.shape))
    return pixels[max(0, top - margin) :, max(0, left - margin) : right + margin]


def _cut_finger(pixels: _Pixels, mask: _Mask, points: _Points, *, share: float) -> _Pixels:
    """Cut a share of the length of the finger that reaches highest."""
    tip = _TIPS[points[_TIPS, 1].argmin()]
    length = float(np.hypot(*(points[tip] - points[tip - 3])))
    return pixels[bounding_box(mask)[1] + round(share * length) :]


def _cut_thumb(pixels: _Pixels, mask: _Mask, points: _Points) -> _Pixels:
    """Cut the thumb in the middle of its last bone."""
    return _keep_side(pixels, points, points[[_THUMB_JOINT, _THUMB_TIP], 0].mean())


def _cut_palm(pixels: _Pixels, mask: _Mask, points: _Points) -> _Pixels:
    """Cut the palm along the bone of the little finger."""
    return _keep_side(pixels, points, points[_LITTLE_KNUCKLE, 0])


def _keep_side(pixels: _Pixels, points: _Points, column: float) -> _Pixels:
    """Keep the side of a column on which the middle finger's knuckle lies."""
    return pixels[:, : round(column)] if points[_MIDDLE_KNUCKLE, 0] < column else pixels[:, round(column) :]


def _cut_wrist(pixels: _Pixels, mask: _Mask, points: _Points) -> _Pixels:
    """Cut through the middle of the metacarpals, above the carpal bones."""
    return pixels[: round(points[[WRIST, _MIDDLE_KNUCKLE], 1].mean())]


CUTS: dict[str, Callable[[_Pixels, _Mask, _Points], _Pixels]] = {
    **{
        f"complete, margin {share:.0%}": functools.partial(_crop_close, margin_share=share)
        for share in (0, 0.01, 0.02, 0.05)
    },
    **{f"finger cut by {share:.0%}": functools.partial(_cut_finger, share=share) for share in (0.1, 0.2, 0.3)},
    "thumb cut": _cut_thumb,
    "palm cut at its side": _cut_palm,
    "cut above the wrist": _cut_wrist,
}
