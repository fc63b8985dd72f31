"""Segment alone: one mask for each radiograph, and a table of how each hand lies and whether it can be trusted."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from preprocessing.contrast import stretch_contrast
from preprocessing.landmarks import load_landmarks
from preprocessing.orient import find_pose
from preprocessing.quality import Gate, check_mask, check_pose
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from preprocessing.segmenters import LANDMARKS_FILE, get_segmenter
from preprocessing.sources import find_cases
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_bytes, write_text

SEGMENTS_FILE = "segments.csv"
COLUMNS = ("file", "score", "angle_degrees", "side", "accepted", "reasons", "detail")


class SegmentationFailed(BoneAgeError):
    """Masks that could not be written."""


def segment(
    inputs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    segmenter: str = "unet",
    gate: Gate | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Find the hand in each radiograph and write its mask.

    Args:
        inputs: Files and folders.
        out: Folder for `<name>.png`, 255 on hand, wrist and visible forearm, else 0, at the radiograph's own size; and
            `segments.csv`.
        segmenter: Name of the segmenter.
        gate: The thresholds of the quality gate; its defaults without one.
        progress: Called with the number of finished and of all radiographs.

    Returns:
        What `segments.csv` holds, one row a file: `file`, `score` (of the mask, in [0, 1]), `angle_degrees` (from
        wrist to middle fingertip against straight up, counter-clockwise positive), `side` (`"left"` or `"right"`),
        `accepted`, `reasons` (codes, joined by `;`), `detail` (one line where a file cannot be read).

    Raises:
        BoneAgeError: If the inputs are not there, or `out` lies among them or cannot be written.
        ValueError: If there is no such segmenter.
    """
    out, gate = Path(out), gate or Gate()
    get_segmenter(segmenter)
    for each in [inputs] if isinstance(inputs, str | Path) else inputs:
        _keep_apart(out, Path(each))
    cases, rejections = find_cases(inputs)
    rows = [_row(each.file, reasons=[each.reason], detail=each.detail) for each in rejections]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for finished, case in enumerate(cases, start=1):
            try:
                mask, row = _segment_file(case.path, segmenter=segmenter, gate=gate)
            except UnreadableImage as error:
                rows.append(_row(case.path.name, reasons=[error.reason], detail=str(error)))
            else:
                rows.append(row)
                _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
                write_bytes(out / f"{case.id}.png", png.tobytes())
            if progress:
                progress(finished, len(cases))
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("file", kind="stable", ignore_index=True)
        write_text(out / SEGMENTS_FILE, frame.to_csv(index=False, float_format="%.4f"))
    except OSError as error:
        raise SegmentationFailed(
            f"{error.filename or out}: {error.strerror or error}; name another folder by --out."
        ) from error
    return frame


def _keep_apart(out: Path, source: Path) -> None:
    """Refuse masks among the radiographs: they have the same names, and the next run would take them for some."""
    inside = (
        out.resolve().is_relative_to(source.resolve()) if source.is_dir() else out.resolve() == source.resolve().parent
    )
    if inside:
        raise SegmentationFailed(f"{out}: lies among the radiographs; choose a folder beside {source}.")


@functools.cache
def _landmarks() -> Callable[..., np.ndarray]:
    return load_landmarks(LANDMARKS_FILE)


def _segment_file(path: Path, *, segmenter: str, gate: Gate) -> tuple[np.ndarray, dict[str, Any]]:
    pixels = stretch_contrast(read_radiograph(path).pixels)
    found = get_segmenter(segmenter)(pixels)
    reasons = check_mask(found.mask, score=found.score, gate=gate)
    pose = find_pose(_landmarks()(pixels, found.mask)) if found.mask.any() else None
    if pose:
        reasons += check_pose(pose, gate=gate)
    return found.mask, _row(
        path.name,
        score=found.score,
        angle_degrees=pose.angle_degrees if pose else None,
        side=pose.side if pose else "",
        accepted=not reasons,
        reasons=reasons,
    )


def _row(
    file: str,
    *,
    reasons: Sequence[str],
    detail: str = "",
    score: float | None = None,
    angle_degrees: float | None = None,
    side: str = "",
    accepted: bool = False,
) -> dict[str, Any]:
    return {
        "file": file,
        "score": score,
        "angle_degrees": angle_degrees,
        "side": side,
        "accepted": accepted,
        "reasons": ";".join(reasons),
        "detail": detail,
    }
