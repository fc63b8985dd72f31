"""The decisions of reviewers: each in their own file, written at once, undone and redone in order, and compared."""

import dataclasses
import glob
import hashlib
import re
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from boneage.base.files import write_bytes
from boneage.preprocessing.sources.review_csv import UNREVIEWED, Review, ReviewError, read_reviews, write_reviews
from boneage.review.agreement import Agreement, compare, join_reviews

# Name of the file with the merged decisions of all reviewers.
JOINT = "joint"
_CORRECTIONS = ("rotate", "flip", "mask")
_REVIEWER = re.compile(r"[A-Za-z0-9_-]{1,40}")
_Stamp = tuple[int, int, int] | None


@dataclasses.dataclass(frozen=True)
class _Change:
    """What a decision or a comment changed."""

    id: str
    before: Review
    after: Review


class Decisions:
    """The decisions of one reviewer.

    Args:
        path: The CSV for `boneage prepare --decisions`, created with the first decision. Corrected masks are saved
            beside it, in `<name>.masks/`.
        reviewer: Name of the reviewer, whose file is `<name>.<reviewer>.csv`; `""` with a single reviewer.
        ids: Ids of the radiographs that may be decided on.

    Raises:
        ReviewError: If the file cannot be read or contains unknown ids, or `reviewer` is not a valid name.
    """

    def __init__(self, path: Path, *, reviewer: str = "", ids: Collection[str]):
        self.reviewer = reviewer
        self._family = path
        self.path = decisions_path(path, reviewer)
        self._masks = path.with_name(f"{path.stem}.masks")
        self._lock = threading.Lock()
        self._done: list[_Change] = []
        self._undone: list[_Change] = []
        self._stamp = _stamp(self.path)
        self._reviews = read_reviews(self.path) if self._stamp else {}
        if unknown := sorted(self._reviews.keys() - set(ids)):
            raise ReviewError(
                f"{self.path}: contains the unknown id {unknown[0]!r}; choose another file with --decisions."
            )

    def __len__(self) -> int:
        return sum(bool(review.decisions) for review in self._reviews.values())

    def find(self, id: str) -> Review:
        """Return the decision on a radiograph, `UNREVIEWED` if there is none."""
        return self._reviews.get(id, UNREVIEWED)

    @property
    def reviews(self) -> Mapping[str, Review]:
        """All decisions, by id."""
        return self._reviews

    def decide(self, id: str, decision: str, *, degrees: float = 0.0, mask: bytes = b"") -> None:
        """Decide on a radiograph; written to disk when this returns.

        `keep` and `reject` replace earlier decisions on it; the others are added to earlier corrections.

        Args:
            id: The radiograph.
            decision: One of `boneage.preprocessing.sources.review_csv.DECISIONS` but a comment.
            degrees: Rotation of the crop shown, counter-clockwise positive, for `rotate`.
            mask: A PNG, 255 on the hand, for `mask`.

        Raises:
            ReviewError: If another process has changed the file.
            OSError: If it cannot be written.
        """
        with self._lock:
            known = self.find(id)
            if decision == "keep":
                review = Review(rows=("keep",), keep=True)
            elif decision == "reject":
                review = Review(rows=("reject",), reject=True)
            elif decision == "rotate":
                review = self._correct(known, rotate_degrees=_turn(known.rotate_degrees + degrees))
            elif decision == "flip":
                # Mirroring the crop shown reverses its rotation.
                review = self._correct(known, flip=not known.flip, rotate_degrees=_turn(-known.rotate_degrees))
            else:
                path, digest = self._keep_mask(mask)
                review = self._correct(known, mask=path, mask_sha256=digest)
            self._change(id, review.with_comment(known.comment))

    def comment(self, id: str, text: str) -> None:
        """Comment on a radiograph, in place of an earlier comment; written to disk when this returns.

        Args:
            id: The radiograph.
            text: The comment; an empty one removes that there is.

        Raises:
            ReviewError: If another process has changed the file.
            OSError: If it cannot be written.
        """
        with self._lock:
            self._change(id, self.find(id).with_comment(" ".join(text.split())))

    def undo(self) -> str | None:
        """Undo the latest decision or comment since the start; written to disk when this returns.

        Returns:
            Id of the radiograph; None if there is nothing to undo.

        Raises:
            ReviewError: If another process has changed the file.
            OSError: If it cannot be written.
        """
        with self._lock:
            if not self._done:
                return None
            change = self._done[-1]
            self._write(change.id, change.before)
            self._undone.append(self._done.pop())
            return change.id

    def redo(self) -> str | None:
        """Redo what was undone last, unless something was decided since; written to disk when this returns.

        Returns:
            Id of the radiograph; None if there is nothing to redo.

        Raises:
            ReviewError: If another process has changed the file.
            OSError: If it cannot be written.
        """
        with self._lock:
            if not self._undone:
                return None
            change = self._undone[-1]
            self._write(change.id, change.after)
            self._done.append(self._undone.pop())
            return change.id

    def read_others(self) -> dict[str, dict[str, Review]]:
        """Read the decisions of the other reviewers, by name; empty if this reviewer has no name.

        Raises:
            ReviewError: If a file cannot be read.
        """
        if not self.reviewer:
            return {}
        start, end = f"{self._family.stem}.", self._family.suffix
        paths = self._family.parent.glob(f"{glob.escape(start)}*{glob.escape(end)}")
        names = [path.name[len(start) : -len(end) or None] for path in paths]
        others = sorted(name for name in names if _REVIEWER.fullmatch(name) and name not in (JOINT, self.reviewer))
        return {name: read_reviews(self._path_of(name)) for name in others}

    def write_joint(self) -> tuple[Path, int, int]:
        """Write the merged decisions of all reviewers, without disputed ones.

        Returns:
            The file, the number of radiographs in it, and the number of disputed ones left out.

        Raises:
            ReviewError: If the file of another reviewer cannot be read.
            OSError: If it cannot be written.
        """
        joint, disputed = join_reviews({**self.read_others(), self.reviewer: self._reviews})
        path = self._path_of(JOINT)
        write_reviews(path, joint)
        return path, len(joint), len(disputed)

    def compare(self) -> list[Agreement]:
        """Compare with each of the other reviewers."""
        return [compare(name, self._reviews, theirs) for name, theirs in self.read_others().items()]

    def _path_of(self, name: str) -> Path:
        return _name_path(self._family, name)

    def _keep_mask(self, png: bytes) -> tuple[Path, str]:
        """Write a mask under a name made from its content, so that no mask is overwritten."""
        digest = hashlib.sha256(png).hexdigest()
        path = self._masks / f"{digest[:16]}.png"
        self._masks.mkdir(parents=True, exist_ok=True)
        write_bytes(path, png)
        return path.resolve(), digest

    def _correct(self, known: Review, **change: Any) -> Review:
        review = dataclasses.replace(known, keep=True, reject=False, **change)
        rows = [f"rotate {review.rotate_degrees:g}"] * (review.rotate_degrees != 0) + ["flip"] * review.flip
        if review.mask is not None:
            rows.append(f"mask {review.mask.relative_to(self.path.parent.resolve()).as_posix()}")
        return dataclasses.replace(review, rows=tuple(rows) or ("keep",))

    def _change(self, id: str, review: Review) -> None:
        change = _Change(id, before=self.find(id), after=review)
        self._write(id, review)
        self._done.append(change)
        self._undone.clear()

    def _write(self, id: str, review: Review) -> None:
        if _stamp(self.path) != self._stamp:
            raise ReviewError(f"{self.path}: was changed by another process; restart the server.")
        # The latest decision is the last row.
        reviews = {other: decided for other, decided in self._reviews.items() if other != id}
        if review.rows:
            reviews[id] = review
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_reviews(self.path, reviews)
        self._reviews, self._stamp = reviews, _stamp(self.path)


def decisions_path(path: Path, reviewer: str) -> Path:
    """Return the CSV of a reviewer: `<name>.<reviewer>.csv`, or `path` itself with a single reviewer.

    Args:
        path: As in `Decisions`.
        reviewer: As in `Decisions`.

    Raises:
        ReviewError: If `reviewer` is not a valid name.
    """
    if reviewer and (reviewer == JOINT or not _REVIEWER.fullmatch(reviewer)):
        raise ReviewError(f"--reviewer must be letters, digits, - and _, and not {JOINT!r}. Received: {reviewer!r}.")
    return _name_path(path, reviewer) if reviewer else path


def _name_path(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}{path.suffix}")


def describe_verdict(review: Review) -> str:
    """Return a decision in words, such as `"rotated by 90° to the left, flipped"`; empty without one."""
    return ", ".join(map(_describe_row, review.decisions))


def _describe_row(row: str) -> str:
    decision, _, value = row.partition(" ")
    if decision == "rotate":
        return f"rotated by {abs(float(value)):g}° to the {'left' if float(value) > 0 else 'right'}"
    return {"keep": "kept", "reject": "rejected", "flip": "flipped", "mask": "mask corrected"}[decision]


def review_state(review: Review) -> str:
    """Return `undecided`, `kept`, `corrected` or `rejected`."""
    if review.reject:
        return "rejected"
    if not review.keep:
        return "undecided"
    return "corrected" if any(row.startswith(_CORRECTIONS) for row in review.decisions) else "kept"


def _turn(degrees: float) -> float:
    """Normalise an angle to (-180, 180] degrees."""
    return 180.0 - (180.0 - degrees) % 360.0


def _stamp(path: Path) -> _Stamp:
    """Return a stamp that changes with the file; None if it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
