"""Review file: decisions of people that override the gate, applied the same way in each run.

The file is a CSV with `id,decision,value`: `keep` accepts a radiograph whatever the gate says, `reject` rejects it,
`rotate` turns its crop by `value` degrees, counter-clockwise, `flip` mirrors its crop, `mask` takes the mask of the
hand from the PNG `value` within the folder of the file. `comment` says why, and decides nothing. A radiograph may have
several rows; corrections imply `keep`.
"""

import csv
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from boneage.base.errors import BoneAgeError, suggest_closest
from boneage.base.files import write_text
from boneage.base.spreadsheets import format_rows, unescape_cell
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph

COMMENT = "comment"
DECISIONS = ("keep", "reject", "rotate", "flip", "mask", COMMENT)


class ReviewError(BoneAgeError):
    """A review file that cannot be read or used."""


@dataclasses.dataclass(frozen=True)
class Review:
    """The decisions of a person on one radiograph.

    Args:
        rows: The decisions as written in the file, such as `"rotate 90"`.
        keep: Whether it is accepted whatever the gate says.
        reject: Whether it is rejected.
        rotate_degrees: Turn of the crop, counter-clockwise positive.
        flip: Whether the crop is mirrored.
        mask: PNG with the mask of the hand, 255 on the hand; None takes the mask of the segmenter.
        mask_sha256: SHA-256 of that PNG when the file was read.
    """

    rows: tuple[str, ...] = ()
    keep: bool = False
    reject: bool = False
    rotate_degrees: float = 0.0
    flip: bool = False
    mask: Path | None = None
    mask_sha256: str = ""

    @property
    def decisions(self) -> tuple[str, ...]:
        """The rows without comments."""
        return tuple(row for row in self.rows if not row.startswith(f"{COMMENT} "))

    @property
    def comment(self) -> str:
        """The comments; empty without any."""
        return " ".join(row.removeprefix(f"{COMMENT} ") for row in self.rows if row.startswith(f"{COMMENT} "))

    def with_comment(self, text: str) -> "Review":
        """Return the review with a comment in place of those it has; without any where `text` is empty."""
        return dataclasses.replace(self, rows=self.decisions + ((f"{COMMENT} {text}",) if text else ()))

    def override_reasons(self, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Return the reasons that remain after the review."""
        if self.reject:
            return ("rejected_by_reviewer",)
        return () if self.keep else reasons

    def read_mask(self, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Read the mask that the review names.

        Args:
            shape: Height and width of the radiograph in pixels.

        Raises:
            UnreadableImageError: If it cannot be read or has another size (`bad_mask`).
        """
        if self.mask is None:
            raise ValueError("`mask` is not set. Received: None.")
        mask = read_radiograph(self.mask).pixels > 127
        if mask.shape != shape:
            raise UnreadableImageError(
                f"{self.mask}: shape {mask.shape} differs from its radiograph's {shape}; redraw it at the size of the "
                "radiograph.",
                reason="bad_mask",
            )
        return mask


UNREVIEWED = Review()


def read_reviews(path: Path) -> dict[str, Review]:
    """Read a review file.

    Args:
        path: CSV with the columns `id,decision,value`; `value` may be missing if no decision needs it.

    Returns:
        The review of each id.

    Raises:
        ReviewError: If the file cannot be read, a decision is unknown or contradicts another, a value is missing or
            wrong, or a mask is outside the folder of the file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"id", "decision"} <= set(reader.fieldnames or ()):
                raise ReviewError(f"{path}: needs the columns id,decision,value; add the missing ones.")
            rows = list(reader)
    except OSError as error:
        raise ReviewError(f"{path}: {error.strerror}; check the path of the decisions.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{path}: cannot be read ({error}); give a CSV with id,decision,value.") from error
    reviews: dict[str, Review] = {}
    for number, row in enumerate(rows, start=2):
        id, decision, value = (unescape_cell((row.get(name) or "").strip()) for name in ("id", "decision", "value"))
        where = f"{path} line {number}"
        if not id:
            raise ReviewError(f"{where}: the id is missing; fill it in or remove the row.")
        change = _read_decision(decision, value, path=path, where=where)
        known = reviews.get(id, UNREVIEWED)
        text = f"{decision} {value}".strip()
        reviews[id] = dataclasses.replace(known, rows=(*known.rows, text), **change)
        if reviews[id].reject and reviews[id].keep:
            raise ReviewError(f"{where}: {id} is both rejected and kept; remove one of the rows.")
    return reviews


def write_reviews(path: Path, reviews: Mapping[str, Review]) -> None:
    """Write a review file that `read_reviews` reads; it is on the disk when this returns.

    Args:
        path: The CSV.
        reviews: The review of each id, whose `rows` are written.
    """
    rows = [(id, *row.partition(" ")[::2]) for id, review in reviews.items() for row in review.rows]
    write_text(path, format_rows([("id", "decision", "value"), *rows]))


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
    if decision == COMMENT:
        if not value:
            raise ReviewError(f"{where}: comment needs a text as its value; fill it in or remove the row.")
        return {}
    choices = ", ".join(DECISIONS)
    raise ReviewError(
        f"{where}: `decision` must be one of {choices}. Received: {decision!r}.{suggest_closest(decision, DECISIONS)}"
    )
