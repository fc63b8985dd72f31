"""Segment alone: one mask for each radiograph, and a table of how each hand lies and whether it can be trusted."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from preprocessing.notes import name_work, work_noted
from preprocessing.pipeline import WHOLE_FRAME, PreprocessingConfig, examine, fingerprint
from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from preprocessing.sources import Case, find_cases
from tfrecords.errors import BoneAgeError
from tfrecords.write import write_bytes, write_text

SEGMENTS_FILE = "segments.csv"
_NOTES_FILE = "segments.part.jsonl"
COLUMNS = ("file", "score", "angle_degrees", "side", "accepted", "reasons", "detail")


class SegmentationFailed(BoneAgeError):
    """Masks that could not be written."""


def segment(
    inputs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    config: PreprocessingConfig | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Find the hand in each radiograph and write its mask. A killed run goes on where it was.

    Args:
        inputs: Files and folders.
        out: Folder for `<name>.png`, 255 on hand, wrist and visible forearm, else 0, at the radiograph's own size; and
            `segments.csv`.
        config: The preprocessing, of which segmenter, contrast and gate apply; its defaults without one.
        workers: Number of processes; one per core without it.
        progress: Called with the number of finished and of all radiographs.

    Returns:
        What `segments.csv` holds, one row a file: `file`, `score` (of the mask, in [0, 1]), `angle_degrees` (from
        wrist to middle fingertip against straight up, counter-clockwise positive), `side` (`"left"` or `"right"`),
        `accepted`, `reasons` (codes, joined by `;`), `detail` (one line where a file cannot be read).

    Raises:
        BoneAgeError: If the inputs are not there, `out` lies among them or cannot be written, or a worker was killed.
        ValueError: If the segmenter takes whole frames.
    """
    out, config = Path(out), config or PreprocessingConfig()
    if config.segmenter == WHOLE_FRAME:
        raise ValueError("`segmenter` must find a hand; 'none' takes the whole frame.")
    for each in [inputs] if isinstance(inputs, str | Path) else inputs:
        _keep_apart(out, Path(each))
    cases, rejections = find_cases(inputs)
    rows = [_row(each.file, reasons=[each.reason], detail=each.detail) for each in rejections]
    notes = out / _NOTES_FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        named = {name_work(case, work=fingerprint(config)): case for case in cases}
        work = functools.partial(_segment_file, out=out, config=config)
        rows += work_noted(work, named, notes=notes, workers=workers, progress=progress)
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        frame = frame.sort_values("file", kind="stable", ignore_index=True)
        write_text(out / SEGMENTS_FILE, frame.to_csv(index=False, float_format="%.4f"))
        notes.unlink()
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


def _segment_file(job: tuple[str, Case], *, out: Path, config: PreprocessingConfig) -> dict[str, Any]:
    _, case = job
    try:
        hand = examine(read_radiograph(case.path), config)
    except UnreadableImage as error:
        return _row(case.path.name, reasons=[error.reason], detail=str(error))
    _, png = cv2.imencode(".png", hand.segmentation.mask.astype(np.uint8) * 255)
    write_bytes(out / f"{case.id}.png", png.tobytes())
    return _row(
        case.path.name,
        score=hand.segmentation.score,
        angle_degrees=hand.pose.angle_degrees if hand.pose else None,
        side=hand.pose.side if hand.pose else "",
        accepted=not hand.reasons,
        reasons=hand.reasons,
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
