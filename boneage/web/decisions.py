"""What reviewers decide: each in a file of his own, on the disk before it is told, undone in order, and compared."""

import collections
import dataclasses
import glob
import hashlib
import math
import re
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from preprocessing.review import UNREVIEWED, Review, ReviewError, read_reviews, write_reviews
from tfrecords.write import write_bytes

# Name of the file that holds what all reviewers decided.
JOINT = "joint"
_MENDING = ("rotate", "flip", "mask")
_REVIEWER = re.compile(r"[A-Za-z0-9_-]{1,40}")
_Stamp = tuple[int, int, int] | None


class Decisions:
    """The decisions of one reviewer.

    Args:
        path: The CSV for `boneage prepare --review`; made with the first decision. The masks that are drawn lie beside
            it, in `<name>.masks/`.
        reviewer: Name of the reviewer, whose file is then `<name>.<reviewer>.csv` instead; `""` where there is but one.
        ids: Ids of the radiographs that may be decided on.

    Raises:
        ReviewError: If the file cannot be read or decides on other radiographs, or `reviewer` is no name.
    """

    def __init__(self, path: Path, *, reviewer: str = "", ids: Collection[str]):
        if reviewer and (reviewer == JOINT or not _REVIEWER.fullmatch(reviewer)):
            raise ReviewError(
                f"--reviewer must be letters, digits, - and _, and not {JOINT!r}. Received: {reviewer!r}."
            )
        self.reviewer = reviewer
        self._family = path
        self.path = self._path_of(reviewer) if reviewer else path
        self._masks = path.with_name(f"{path.stem}.masks")
        self._lock = threading.Lock()
        self._history: list[tuple[str, Review | None]] = []
        self._stamp = _stamp(self.path)
        self._reviews = read_reviews(self.path) if self._stamp else {}
        if strange := sorted(self._reviews.keys() - set(ids)):
            raise ReviewError(f"{self.path}: {strange[0]!r} is none of these radiographs; name another --decisions.")

    def __len__(self) -> int:
        return len(self._reviews)

    def find(self, id: str) -> Review:
        """Return what was decided of a radiograph, `UNREVIEWED` where nothing was."""
        return self._reviews.get(id, UNREVIEWED)

    @property
    def reviews(self) -> Mapping[str, Review]:
        """All that was decided, by id."""
        return self._reviews

    def decide(self, id: str, decision: str, *, degrees: float = 0.0, mask: bytes = b"") -> None:
        """Decide on a radiograph; on the disk when this returns.

        `keep` and `reject` take the place of all that was decided of it; the others add to what was mended.

        Args:
            id: The radiograph.
            decision: One of `preprocessing.review.DECISIONS`.
            degrees: Turn of the crop that is seen, counter-clockwise positive, for `rotate`.
            mask: A PNG, 255 on the hand, for `mask`.

        Raises:
            ReviewError: If someone else has written the file meanwhile.
            OSError: If it cannot be written.
        """
        with self._lock:
            known = self.find(id)
            if decision == "keep":
                review = Review(rows=("keep",), keep=True)
            elif decision == "reject":
                review = Review(rows=("reject",), reject=True)
            elif decision == "rotate":
                review = self._mend(known, rotate_degrees=_turn(known.rotate_degrees + degrees))
            elif decision == "flip":
                # What is seen is mirrored, its turn with it.
                review = self._mend(known, flip=not known.flip, rotate_degrees=_turn(-known.rotate_degrees))
            else:
                path, digest = self._keep_mask(mask)
                review = self._mend(known, mask=path, mask_sha256=digest)
            self._write(id, review)
            self._history.append((id, known if known.rows else None))

    def undo(self) -> str | None:
        """Take the latest decision since the start back; on the disk when this returns.

        Returns:
            The radiograph; None where there is nothing to undo.

        Raises:
            ReviewError: If someone else has written the file meanwhile.
            OSError: If it cannot be written.
        """
        with self._lock:
            if not self._history:
                return None
            id, before = self._history[-1]
            self._write(id, before)
            self._history.pop()
            return id

    def read_others(self) -> dict[str, dict[str, Review]]:
        """Read what the other reviewers decided, by their names; nobody where this one has no name.

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
        """Write what all reviewers decided; what they dispute is left out.

        Returns:
            The file, the number of radiographs in it, and the number of those left out.

        Raises:
            ReviewError: If the file of another reviewer cannot be read.
            OSError: If it cannot be written.
        """
        joint, disputed = join({**self.read_others(), self.reviewer: self._reviews})
        path = self._path_of(JOINT)
        write_reviews(path, joint)
        return path, len(joint), len(disputed)

    def compare(self) -> list["Agreement"]:
        """Compare with each of the other reviewers."""
        return [compare(name, self._reviews, theirs) for name, theirs in self.read_others().items()]

    def _path_of(self, name: str) -> Path:
        return self._family.with_name(f"{self._family.stem}.{name}{self._family.suffix}")

    def _keep_mask(self, png: bytes) -> tuple[Path, str]:
        """Write a mask under the name of its content, so that none is ever written over."""
        digest = hashlib.sha256(png).hexdigest()
        path = self._masks / f"{digest[:16]}.png"
        self._masks.mkdir(parents=True, exist_ok=True)
        write_bytes(path, png)
        return path.resolve(), digest

    def _mend(self, known: Review, **change: Any) -> Review:
        review = dataclasses.replace(known, keep=True, reject=False, **change)
        rows = [f"rotate {review.rotate_degrees:g}"] * (review.rotate_degrees != 0) + ["flip"] * review.flip
        if review.mask is not None:
            rows.append(f"mask {review.mask.relative_to(self.path.parent.resolve()).as_posix()}")
        return dataclasses.replace(review, rows=tuple(rows) or ("keep",))

    def _write(self, id: str, review: Review | None) -> None:
        if _stamp(self.path) != self._stamp:
            raise ReviewError(f"{self.path}: someone else has written it; start again to go on from there.")
        # The latest stands last.
        reviews = {other: each for other, each in self._reviews.items() if other != id}
        if review is not None:
            reviews[id] = review
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_reviews(self.path, reviews)
        self._reviews, self._stamp = reviews, _stamp(self.path)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How two reviewers agree on the radiographs that both decided on.

    Args:
        other: Name of the other reviewer.
        num_both: Number of those radiographs.
        share: Share of equal verdicts; NaN without any radiograph.
        kappa: Cohen's kappa: what of the agreement is more than chance; NaN where chance alone would give all of it.
    """

    other: str
    num_both: int
    share: float
    kappa: float


def compare(other: str, mine: Mapping[str, Review], theirs: Mapping[str, Review]) -> Agreement:
    """Compare two reviewers, as Cohen 1960 does, https://doi.org/10.1177/001316446002000104.

    Args:
        other: Name of the other reviewer.
        mine: What the one decided, by id.
        theirs: What the other decided.
    """
    pairs = [(verdict(mine[id]), verdict(theirs[id])) for id in mine.keys() & theirs.keys()]
    if not pairs:
        return Agreement(other, 0, math.nan, math.nan)
    share = sum(one == two for one, two in pairs) / len(pairs)
    ones, twos = (collections.Counter(each) for each in zip(*pairs, strict=True))
    chance = sum(ones[each] * twos[each] for each in ones) / len(pairs) ** 2
    kappa = (share - chance) / (1 - chance) if chance < 1 else math.nan
    return Agreement(other, len(pairs), share, kappa)


def join(reviews: Mapping[str, Mapping[str, Review]]) -> tuple[dict[str, Review], list[str]]:
    """Join what reviewers decided.

    Args:
        reviews: Their decisions, by name and id.

    Returns:
        What all of those who decided on a radiograph agree on, of several masks that of the first by name; and the ids
        that they dispute.
    """
    joint: dict[str, Review] = {}
    disputed: set[str] = set()
    for name in sorted(reviews):
        for id, review in reviews[name].items():
            if verdict(joint.setdefault(id, review)) != verdict(review):
                disputed.add(id)
    return {id: review for id, review in joint.items() if id not in disputed}, sorted(disputed)


def verdict(review: Review) -> str:
    """Return what was decided, in words that can be compared: any two masks drawn by hand are taken for the same."""
    return ", ".join("mask" if row.startswith("mask ") else row for row in review.rows)


def state_of(review: Review) -> str:
    """Return `undecided`, `kept`, `mended` or `rejected`."""
    if review.reject:
        return "rejected"
    if not review.keep:
        return "undecided"
    return "mended" if any(row.startswith(_MENDING) for row in review.rows) else "kept"


def _turn(degrees: float) -> float:
    """Bring a turn into (-180, 180]."""
    return 180.0 - (180.0 - degrees) % 360.0


def _stamp(path: Path) -> _Stamp:
    """Tell one state of a file from another; None where it is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
