"""Which case belongs to which split: as its source says, or at random, and never one hand on both sides.

Radiographs of one patient and radiographs with equal pixels form a group. A group lies in one split, whoever chose it.
Cases that cannot be placed are rejected for one of these reasons:

| Reason | What it means |
|---|---|
| `no_label` | No bone age, so nothing to learn or to measure. |
| `no_split` | The source or the split file names no split. |
| `duplicate` | Its pixels are those of a case in a split that is held out further. |
| `same_patient` | Its patient has a case in a split that is held out further. |
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from preprocessing.listing import to_id
from preprocessing.rejections import Rejection, Unfit, reject
from preprocessing.sources import Case
from preprocessing.tables import read_table
from tfrecords.errors import check_choice
from tfrecords.schema import SPLITS

# Two years, the bands in which the challenge's results are usually reported.
AGE_BAND_MONTHS = 24
ASSIGNMENTS = ("given", "random")


@dataclass(frozen=True)
class Assignment:
    """Where every case went.

    Args:
        splits: `"train"`, `"validation"` or `"test"` by the id of a case.
        rejections: The cases that went nowhere.
        duplicates: Ids with equal pixels, among all cases, sorted.
    """

    splits: dict[str, str]
    rejections: list[Rejection]
    duplicates: list[list[str]]


def read_split_file(path: str | Path) -> dict[str, str]:
    """Read a table `id,split` with `train`, `validation` or `test` in each row.

    Args:
        path: CSV or Excel file; its ids may be file names.

    Returns:
        Split by id.

    Raises:
        UnreadableTable: If the file cannot be read or lacks a column.
        Unfit: If a row has no id or no split, names another split, or contradicts a row above it.
    """
    splits: dict[str, str] = {}
    for row in read_table(Path(path), required=("file", "split")):
        id, split = to_id(PureWindowsPath(row.file).name), row.split()
        if not id or split is None:
            raise Unfit(f"{row.place}: blank id or split; fill it in or remove the row.", reason="bad_split")
        if splits.setdefault(id, split) != split:
            raise Unfit(f"{row.place}: {id!r} is in {splits[id]} already; keep one of the rows.", reason="bad_split")
    return splits


def find_fold(split: str) -> tuple[int, int] | None:
    """Read `"2/5"` as the second of five folds; None if it is nothing of the kind.

    Raises:
        ValueError: If there is no such fold.
    """
    if not (match := re.fullmatch(r"(\d{1,3})/(\d{1,3})", split)):
        return None
    number, num_folds = int(match[1]), int(match[2])
    if num_folds < 2 or not 1 <= number <= num_folds:
        raise ValueError(f"`split` {split!r} names no fold; the second of five is '2/5'.")
    return number, num_folds


def assign_splits(
    cases: Sequence[Case],
    pixel_hashes: Mapping[str, str],
    *,
    split: str = "given",
    seed: int = 0,
    validation_share: float = 0.1,
    test_share: float = 0.1,
) -> Assignment:
    """Assign every case to a split or reject it.

    Args:
        cases: Cases with unique ids, in any order: it changes nothing.
        pixel_hashes: Hash of the pixels by id, of every case.
        split: `"given"` keeps the cases' own splits. Where a group spans several, only its cases in the one held out
            furthest stay (test, then validation, then train), so that sets for evaluation remain what they are.
            `"random"` divides whole groups, evenly over sex and age; `"2/5"` does so into five folds, of which the
            second is for validation and the others to train on.
        seed: Seed of the random division.
        validation_share: Share of the cases for validation, in [0, 1). Counts are met to about the size of a group.
        test_share: Share of the cases for the test, in [0, 1).

    Returns:
        Every id exactly once, in a split or as a rejection, and the duplicates.

    Raises:
        ValueError: If `split` is unknown, the shares leave nothing to train on, or a hash is missing.
    """
    fold = find_fold(split)
    if not fold:
        check_choice("split", split, ASSIGNMENTS)
    if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
        raise ValueError(
            "`validation_share` and `test_share` must not be negative and add up to less than 1. "
            f"Received: {validation_share} and {test_share}."
        )
    cases = sorted(cases, key=lambda case: case.id)
    if unhashed := [case.id for case in cases if case.id not in pixel_hashes]:
        raise ValueError(f"`pixel_hashes` lacks {len(unhashed)} cases. Received none for {unhashed[0]!r}.")
    rejections = [rejection for case in cases if (rejection := _why_unplaceable(case, given=split == "given"))]
    out = {rejection.id for rejection in rejections}
    groups = [[case for case in group if case.id not in out] for group in _groups(cases, pixel_hashes)]
    groups = [group for group in groups if group]
    if fold:
        number, num_folds = fold
        folds = _divide(groups, seed=seed, shares={f"{each}": 1 / num_folds for each in range(1, num_folds + 1)})
        splits = {id: "validation" if name == f"{number}" else "train" for id, name in folds.items()}
    elif split == "random":
        shares = {"train": 1 - validation_share - test_share, "validation": validation_share, "test": test_share}
        splits = _divide(groups, seed=seed, shares=shares)
    else:
        splits, across = _keep_given(groups, pixel_hashes)
        rejections += across
    return Assignment(splits, rejections, _duplicates(cases, pixel_hashes))


def _why_unplaceable(case: Case, *, given: bool) -> Rejection | None:
    if case.bone_age_months is None:
        return _reject(case, "no bone age; add it to the table in a column `boneage`.", reason="no_label")
    if given and case.split is None:
        return _reject(case, "in no split; name one for it, or split at random.", reason="no_split")
    return None


def _reject(case: Case, problem: str, *, reason: str) -> Rejection:
    return reject(case.id, file=case.path.name, error=Unfit(f"{case.path.name}: {problem}", reason=reason))


def _duplicates(cases: Sequence[Case], pixel_hashes: Mapping[str, str]) -> list[list[str]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        ids[pixel_hashes[case.id]].append(case.id)
    return [same for same in ids.values() if len(same) > 1]


def _groups(cases: Sequence[Case], pixel_hashes: Mapping[str, str]) -> list[list[Case]]:
    """Unite cases that share a patient or pixels, be it through others (union-find with path halving)."""
    leader: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for case in cases:
        if case.patient is not None:
            leader[find(("patient", case.patient))] = find(("pixels", pixel_hashes[case.id]))
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        groups[find(("pixels", pixel_hashes[case.id]))].append(case)
    return list(groups.values())


def _keep_given(
    groups: Sequence[Sequence[Case]], pixel_hashes: Mapping[str, str]
) -> tuple[dict[str, str], list[Rejection]]:
    """Keep the given splits, and of a group that spans several only the cases in the one held out furthest."""
    splits: dict[str, str] = {}
    rejections = []
    for group in groups:
        furthest = max((case.split for case in group if case.split), key=SPLITS.index)
        kept = [case for case in group if case.split == furthest]
        splits |= {case.id: furthest for case in kept}
        for case in group:
            if case.split == furthest:
                continue
            twin = next((each for each in kept if pixel_hashes[each.id] == pixel_hashes[case.id]), None)
            same, reason = ("same pixels", "duplicate") if twin else ("same patient", "same_patient")
            other = f"{(twin or kept[0]).id!r} in {furthest}"
            rejections.append(_reject(case, f"{same} as {other}; left out of {case.split}.", reason=reason))
    return splits, rejections


def _divide(groups: Sequence[Sequence[Case]], *, seed: int, shares: Mapping[str, float]) -> dict[str, str]:
    """Divide whole groups at random, evenly over sex and age.

    Groups are lined up by sex and age band, shuffled within each, and each goes to the split that is furthest behind
    its share by then. So the shares hold, to about the size of a group, along every stretch of the line.
    """
    counts = dict.fromkeys(shares, 0)
    splits: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: _place_in_line(group[0], seed)):
        num_placed = len(splits) + len(group)
        behind = {name: shares[name] * num_placed - counts[name] for name in shares}
        chosen = max(shares, key=behind.__getitem__)
        counts[chosen] += len(group)
        splits |= {case.id: chosen for case in group}
    return splits


def _place_in_line(case: Case, seed: int) -> tuple[str, int, str]:
    # A hash shuffles alike on every machine and whatever the order of the cases.
    shuffled = hashlib.sha256(f"{seed} {case.id}".encode()).hexdigest()
    return case.sex or "", int((case.bone_age_months or 0) // AGE_BAND_MONTHS), shuffled
