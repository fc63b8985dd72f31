"""Decisions of people on radiographs that the gate doubts, or that it should have doubted: read once, replayed exactly.

The file is a CSV with `id,decision,value`: `keep` takes a radiograph whatever the gate says, `reject` leaves it out,
`rotate` turns its crop by `value` degrees, counter-clockwise, `flip` mirrors its crop, `mask` takes the hand from a
PNG named by `value`, within the file's own folder. One radiograph may have several rows; whatever is mended is kept.
"""

import csv
import dataclasses
import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from preprocessing.radiograph import UnreadableImage
from preprocessing.read import read_radiograph
from tfrecords.errors import BoneAgeError, closest
from tfrecords.write import write_text

DECISIONS = ("keep", "reject", "rotate", "flip", "mask")


class ReviewError(BoneAgeError):
    """A file of decisions that cannot be followed."""


@dataclasses.dataclass(frozen=True)
class Review:
    """What a person decided of one radiograph.

    Args:
        rows: The decisions as they were written, `"rotate 90"`.
        keep: Whether it is taken whatever the gate says.
        reject: Whether it is left out.
        rotate_degrees: Turn of the crop, counter-clockwise positive.
        flip: Whether the crop is mirrored.
        mask: PNG with the hand, 255 on it; None takes the segmenter's.
        mask_sha256: Hash of that PNG when the decisions were read.
    """

    rows: tuple[str, ...] = ()
    keep: bool = False
    reject: bool = False
    rotate_degrees: float = 0.0
    flip: bool = False
    mask: Path | None = None
    mask_sha256: str = ""

    def judge(self, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Return the reasons that stand once the person was heard."""
        if self.reject:
            return ("rejected_by_reviewer",)
        return () if self.keep else reasons

    def read_mask(self, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Read the mask that was drawn by hand.

        Args:
            shape: Height and width of the radiograph in pixels.

        Raises:
            UnreadableImage: If it cannot be read or has another size (`bad_mask`).
        """
        if self.mask is None:
            raise ValueError("the review names no mask.")
        mask = read_radiograph(self.mask).pixels > 127
        if mask.shape != shape:
            raise UnreadableImage(
                f"{self.mask}: {mask.shape} pixels, its radiograph {shape}; draw it at the radiograph's own size.",
                reason="bad_mask",
            )
        return mask


UNREVIEWED = Review()


def read_reviews(path: Path) -> dict[str, Review]:
    """Read a file of decisions.

    Args:
        path: CSV with the columns `id,decision,value`; `value` may be missing where nothing needs it.

    Returns:
        One review an id.

    Raises:
        ReviewError: If the file cannot be read, a decision is unknown or contradicts another, a value is missing or
            wrong, or a mask lies outside the file's folder.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"id", "decision"} <= set(reader.fieldnames or ()):
                raise ReviewError(f"{path}: needs the columns id,decision,value.")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{path}: cannot be read ({error}); name a CSV with id,decision,value.") from error
    reviews: dict[str, Review] = {}
    for number, row in enumerate(rows, start=2):
        id, decision, value = ((row.get(name) or "").strip() for name in ("id", "decision", "value"))
        where = f"{path} line {number}"
        if not id:
            raise ReviewError(f"{where}: the id is missing.")
        change = _read_decision(decision, value, path=path, where=where)
        known = reviews.get(id, UNREVIEWED)
        text = f"{decision} {value}".strip()
        reviews[id] = dataclasses.replace(known, rows=(*known.rows, text), **change)
        if reviews[id].reject and reviews[id].keep:
            raise ReviewError(f"{where}: {id} is both rejected and kept; leave one.")
    return reviews


def write_reviews(path: Path, reviews: Mapping[str, Review]) -> None:
    """Write a file of decisions that `read_reviews` reads; it is on the disk when this returns.

    Args:
        path: The CSV.
        reviews: One review an id, whose `rows` are written.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "decision", "value"))
    for id, review in reviews.items():
        for row in review.rows:
            decision, _, value = row.partition(" ")
            writer.writerow((id, decision, value))
    write_text(path, table.getvalue())


def _read_decision(decision: str, value: str, *, path: Path, where: str) -> dict[str, Any]:
    if decision == "reject":
        return {"reject": True}
    if decision == "keep":
        return {"keep": True}
    if decision == "flip":
        return {"keep": True, "flip": True}
    if decision == "rotate":
        try:
            degrees = float(value)
        except ValueError:
            degrees = math.nan
        if not math.isfinite(degrees):
            raise ReviewError(f"{where}: rotate needs degrees as its value. Received: {value!r}.")
        return {"keep": True, "rotate_degrees": degrees}
    if decision == "mask":
        folder = path.parent.resolve()
        mask = (folder / value).resolve()
        if not value or not mask.is_relative_to(folder) or not mask.is_file():
            raise ReviewError(f"{where}: mask needs a PNG within {path.parent} as its value. Received: {value!r}.")
        return {"keep": True, "mask": mask, "mask_sha256": hashlib.sha256(mask.read_bytes()).hexdigest()}
    choices = ", ".join(DECISIONS)
    raise ReviewError(
        f"{where}: `decision` must be one of {choices}. Received: {decision!r}.{closest(decision, DECISIONS)}"
    )
