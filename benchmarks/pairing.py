"""The benchmark of films of two hands: two radiographs beside each other, the second one mirrored."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from disturbing import choose_validation_cases
from measure import BenchmarkError, Row, rounded

from boneage.inference.loading import load
from boneage.inference.reader import Reader
from boneage.inference.two_hands import read_hands
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.sources.sources import Case

_MAX_DIFFERENCE_MONTHS = 6.0
_MAX_ANGLE_DEGREES = 20.0
# Between the masks, as a share of the hand's length.
_GAPS, _OVERLAPS = (0.02, 0.3), (-0.3, -0.05)


@dataclasses.dataclass(frozen=True, eq=False)
class _Hand:
    """A radiograph of one hand, contrast-normalised, its mask, and what is read in it alone."""

    pixels: np.ndarray
    mask: np.ndarray
    length_px: float
    sex: str
    bone_age_months: float

    def scale(self, length_px: float) -> "_Hand":
        """Scale the hand to a length."""
        factor = length_px / self.length_px
        size = tuple(round(side * factor) for side in self.pixels.shape[::-1])
        pixels = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1
        return dataclasses.replace(self, pixels=pixels, mask=mask, length_px=length_px)

    def mirror(self) -> "_Hand":
        """Mirror the hand."""
        return dataclasses.replace(self, pixels=self.pixels[:, ::-1], mask=self.mask[:, ::-1])


def pairing(
    bundle: Path, *, source: Path, split: Path, files: Path | None = None, num_films: int = 100, seed: int = 0
) -> list[Row]:
    """Films of two hands, and of what is no pair of hands: how often both are read, and how far the answers change.

    Args:
        bundle: A bone-age bundle.
        source: Source of the radiographs. Two of one sex and about one age are put beside each other, the second one
            mirrored and as long as the first.
        split: CSV with `id,split`; `validation` is measured.
        files: Folder of pictures without hands, each of which is read as well.
        num_films: How many pairs to make; half of them are shown turned, overlapping and so on.
        seed: Seed of the sample and of the gaps.

    Raises:
        BenchmarkError: If the source has no labelled radiograph of that split, or no two that make a pair.
    """
    reader, rng = load(bundle), np.random.default_rng(seed)
    cases = choose_validation_cases(source, split, num_files=5 * num_films, seed=seed)
    pairs = list(itertools.islice(_find_pairs(reader, cases), num_films))
    if not pairs:
        raise BenchmarkError(
            f"{source}: no two radiographs of one sex and about one age show an upright left hand; give more."
        )
    half = pairs[: (len(pairs) + 1) // 2]
    beside = [_paste(one, other.mirror(), gap_share=rng.uniform(*_GAPS)) for one, other in pairs]
    turned = [np.rot90(film, 1 + index % 3) for index, film in enumerate(beside[: len(half)])]
    rows = [
        _measure(reader, "a gap of 2 to 30% of the hand's length", beside, pairs),
        _measure(reader, "the same, turned by 90, 180 or 270 degrees", turned, half),
    ]
    others: dict[str, Callable[[_Hand, _Hand], np.ndarray]] = {
        "overlapping by 5 to 30%": lambda one, other: _paste(one, other.mirror(), gap_share=rng.uniform(*_OVERLAPS)),
        "two left hands": lambda one, other: _paste(one, other, gap_share=0.1),
        "one hand 1.4 times as long": lambda one, other: _paste(
            one, other.scale(1.4 * one.length_px).mirror(), gap_share=0.1
        ),
        "half of the second hand": lambda one, other: _cut_second(one, other.mirror()),
        "one hand": lambda one, other: one.pixels,
    }
    rows += [_measure(reader, kind, [make(*pair) for pair in half], half) for kind, make in others.items()]
    if files is not None:
        rows.append(_measure(reader, "no hand", list(_read_pictures(files)), []))
    return rows


def _find_pairs(reader: Reader, cases: Sequence[Case]) -> Iterator[tuple[_Hand, _Hand]]:
    """Yield pairs of accepted, about upright left hands of one sex and about one age, of one length."""
    waiting: list[tuple[Case, _Hand]] = []
    for case in cases:
        pixels = read_radiograph(case.path).pixels
        reading = reader.read(_film(pixels), path=case.path, sex=case.sex)
        if not reading.accepted or reading.hand is None or reading.hand.pose is None:
            continue
        pose = reading.hand.pose
        if pose.side == "right" or abs(pose.angle_degrees) > _MAX_ANGLE_DEGREES:
            continue
        mask = reading.hand.segmentation.mask
        hand = _Hand(reading.hand.pixels, mask, pose.length_px, str(case.sex), reading.bone_age_months)
        for index, (other, first) in enumerate(waiting):
            difference = float(case.bone_age_months or 0) - float(other.bone_age_months or 0)
            if other.sex == case.sex and abs(difference) <= _MAX_DIFFERENCE_MONTHS:
                del waiting[index]
                yield first, hand.scale(first.length_px)
                break
        else:
            waiting.append((case, hand))


def _paste(one: _Hand, other: _Hand, *, gap_share: float) -> np.ndarray:
    """Show two hands on one film, their lower edges at one height.

    Args:
        one: The hand on the left.
        other: The hand on the right.
        gap_share: Distance of the masks, as a share of the first hand's length; negative if they overlap.
    """
    end, start = np.flatnonzero(one.mask.any(axis=0))[-1] + 1, np.flatnonzero(other.mask.any(axis=0))[0]
    shift = int(end + round(gap_share * one.length_px) - start)  # of the second film
    margin = max(0, -shift)
    height = max(len(one.pixels), len(other.pixels))
    width = margin + max(one.pixels.shape[1], shift + other.pixels.shape[1])
    first, second = np.zeros((2, height, width), np.uint8)
    first[height - len(one.pixels) :, margin : margin + one.pixels.shape[1]] = one.pixels
    second[height - len(other.pixels) :, margin + shift : margin + shift + other.pixels.shape[1]] = other.pixels
    if gap_share > 0:
        # Each film ends in the middle of the gap, so that neither covers the other's hand.
        middle = margin + int(end + round(gap_share * one.length_px / 2))
        first[:, middle:], second[:, :middle] = 0, 0
    return np.maximum(first, second)


def _cut_second(one: _Hand, other: _Hand) -> np.ndarray:
    """Show two hands, and end the film in the middle of the second one."""
    film = _paste(one, other, gap_share=0.1)
    columns = np.flatnonzero(other.mask.any(axis=0))
    return film[:, : film.shape[1] - other.pixels.shape[1] + int(columns.mean())]


def _read_pictures(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.iterdir()):
        try:
            yield read_radiograph(path).pixels
        except UnreadableImageError:
            continue  # no picture


def _film(pixels: np.ndarray) -> Radiograph:
    return Radiograph(np.ascontiguousarray(pixels), None, None, None, None, "0" * 64)


def _measure(reader: Reader, kind: str, films: Sequence[np.ndarray], pairs: Sequence[tuple[_Hand, _Hand]]) -> Row:
    """Read films; the left hand of each pair is its first one."""
    changes, num_read, num_single = [], 0, 0
    for film, pair in itertools.zip_longest(films, pairs):
        read = functools.partial(reader.read, path=Path("film"))
        reading = read_hands(read, _film(film), sex=pair[0].sex if pair else "female")
        if not reading.accepted:
            continue
        num_single += reading.other is None
        if reading.other is not None:
            num_read += 1
            alone = [hand.bone_age_months for hand in pair or ()]
            changes += [both.bone_age_months - age for both, age in zip(reading.hands, alone, strict=bool(pair))]
    distances = np.abs(changes)
    return {
        "film": kind,
        "number": len(films),
        "both read": num_read,
        "read as one hand": num_single,
        "rejected": len(films) - num_read - num_single,
        "median change, months": rounded(float(np.median(distances))) if changes else None,
        "90% quantile": rounded(float(np.quantile(distances, 0.9))) if changes else None,
        "largest": rounded(float(distances.max())) if changes else None,
    }
