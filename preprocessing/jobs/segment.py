"""Segment alone: a mask for each radiograph, and a table of the poses of the hands and the reasons of the gate."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError, printable
from boneage.base.files import write_bytes, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.preprocessing.config import WHOLE_FRAME, PreprocessingConfig, fingerprint
from boneage.preprocessing.io.isolated import read_isolated
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.jobs.resumable import resume_key, run_resumable
from boneage.preprocessing.process import analyse_hand, find_reasons
from boneage.preprocessing.sources.sources import Case, find_cases

SEGMENTS_FILE = "segments.csv"
_PROGRESS_FILE = "segments.part.jsonl"
COLUMNS = ("file", "score", "angle_degrees", "side", "accepted", "reasons", "detail", "id")


class SegmentationError(BoneAgeError):
    """Masks that could not be written."""


def segment(
    inputs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    config: PreprocessingConfig | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Find the hand in each radiograph and write its mask. An interrupted run resumes where it stopped.

    Args:
        inputs: Files and folders.
        out: Folder for `<id>.png`, 255 on hand, wrist and visible forearm, else 0, at the size of the radiograph; and
            `segments.csv`.
        config: The preprocessing, of which segmenter, contrast and gate apply (default: `PreprocessingConfig()`).
        workers: Number of worker processes (default: one per CPU core).
        progress: Called with the number of finished and of all radiographs (default: a bar in a notebook).

    Returns:
        The content of `segments.csv`, one row a file: `file`, `score` (of the mask, in [0, 1]), `angle_degrees`
        (from wrist to middle fingertip against straight up, counter-clockwise positive), `side` (`"left"` or
        `"right"`), `accepted`, `reasons` (codes, joined by `;`), `detail` (one line where a file cannot be read), `id`.

    Raises:
        BoneAgeError: If an input is missing, `out` is inside an input, in use by another process or cannot be written,
            or a worker was killed.
        ValueError: If the segmenter is `"none"`.
    """
    out, config = Path(out), config or PreprocessingConfig()
    if config.segmenter == WHOLE_FRAME:
        raise ValueError("`segmenter` must not be 'none': it segments no hand. Received: 'none'.")
    for source in [inputs] if isinstance(inputs, str | Path) else inputs:
        _check_out_folder(out, Path(source))
    cases, rejections = find_cases(inputs)
    rows = [_row(item.id, item.file, reasons=[item.reason], detail=item.detail) for item in rejections]
    progress_file = out / _PROGRESS_FILE
    try:
        with lock_folder(out):
            cases_by_key = {resume_key(case, work=fingerprint(config)): case for case in cases}
            work = functools.partial(_segment_file, out=out, config=config)
            rows += run_resumable(work, cases_by_key, progress_file=progress_file, workers=workers, progress=progress)
            frame = pd.DataFrame(rows, columns=list(COLUMNS))
            frame = frame.sort_values("file", kind="stable", ignore_index=True)
            write_text(out / SEGMENTS_FILE, format_frame(frame, float_format="%.4f"))
            progress_file.unlink()
    except OSError as error:
        raise SegmentationError(
            f"{error.filename or out}: {error.strerror or error}; choose another folder with --out."
        ) from error
    return frame


def _check_out_folder(out: Path, source: Path) -> None:
    """Refuse to write masks among the radiographs: the next run would take them for radiographs."""
    inside = (
        out.resolve().is_relative_to(source.resolve()) if source.is_dir() else out.resolve() == source.resolve().parent
    )
    if inside:
        raise SegmentationError(
            f"{out}: is the folder of the radiographs or inside it; choose a folder outside {source}."
        )


def _segment_file(job: tuple[str, Case], *, out: Path, config: PreprocessingConfig) -> dict[str, Any]:
    _, case = job
    try:
        radiograph = read_isolated(case.path)
        hand = analyse_hand(radiograph, config)
    except UnreadableImageError as error:
        return _row(case.id, case.name, reasons=[error.reason], detail=str(error))
    reasons = find_reasons(radiograph, hand, gate=config.gate)
    _, png = cv2.imencode(".png", hand.segmentation.mask.astype(np.uint8) * 255)
    path = out / f"{case.id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png.tobytes())
    return _row(
        case.id,
        case.name,
        score=hand.segmentation.score,
        angle_degrees=hand.pose.angle_degrees if hand.pose else None,
        side=hand.pose.side if hand.pose else "",
        accepted=not reasons,
        reasons=reasons,
    )


def _row(
    id: str,
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
        "id": id,
        "file": printable(file),
        "score": score,
        "angle_degrees": angle_degrees,
        "side": side,
        "accepted": accepted,
        "reasons": ";".join(reasons),
        "detail": printable(detail),
    }
