"""Assign cases to splits: given or random, with no patient in two splits.

Radiographs of one patient and radiographs with equal pixels form a group. All cases of a group are in one split, given
or random: where the given splits of a group differ, the cases in the split furthest from training are kept (test, then
validation, then train). Cases that cannot be assigned are rejected for one of these reasons:

| Reason | Meaning |
|---|---|
| `no_label` | No bone age, so that it serves neither training nor evaluation. |
| `no_split` | The source or the split file names no split. |
| `duplicate` | Its pixels equal those of a case in a split further from training. |
| `same_patient` | Its patient has a case in a split further from training. |
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from boneage.base.errors import check_choice
from boneage.preprocessing.sources.names import FileIndex, to_id
from boneage.preprocessing.sources.rejections import InvalidEntryError, Rejection, make_rejection
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.sources.tables import read_table
from boneage.tfrecords.schema import SPLITS

# Two years, the bands in which the challenge's results are usually reported.
AGE_BAND_MONTHS = 24
SPLIT_METHODS = ("given", "random")


@dataclass(frozen=True)
class Assignment:
    """The split of every case.

    Args:
        splits: `"train"`, `"validation"` or `"test"` by the id of a case.
        rejections: The cases that are in no split.
        duplicates: Ids with equal pixels, among all cases, sorted.
        groups: Number of the group by the id of a case that is in a split. It counts groups in a
            shuffled order, so that it tells nothing of a patient.
    """

    splits: dict[str, str]
    rejections: list[Rejection]
    duplicates: list[list[str]]
    groups: dict[str, int]


def read_split_file(path: str | Path, *, index: FileIndex | None = None) -> dict[str, str]:
    """Read a table `id,split` with `train`, `validation` or `test` in each row.

    Args:
        path: CSV or Excel file; its ids may be file names.
        index: The files that it names; a row without file is ignored (default: ids are base names without extension).

    Returns:
        Split by id.

    Raises:
        UnreadableTableError: If the file cannot be read or a column is missing.
        InvalidEntryError: If a row has no id or no split, an unknown split, contradicts a row above it, or names
            several files.
    """
    splits: dict[str, str] = {}
    for row in read_table(Path(path), required=("file", "split")):
        text, split = next(iter(row.files), ""), row.split()
        if not text or split is None:
            raise InvalidEntryError(
                f"{row.location}: blank id or split; fill it in or remove the row.", reason="bad_split"
            )
        id = to_id(PureWindowsPath(text).name) if index is None else index.find(text)
        if id is not None and splits.setdefault(id, split) != split:
            raise InvalidEntryError(
                f"{row.location}: {id!r} is already in {splits[id]}; remove one of the rows.", reason="bad_split"
            )
    return splits


def parse_fold(split: str) -> tuple[int, int] | None:
    """Read `"2/5"` as the second of five folds; None if it is not of this form.

    Raises:
        ValueError: If there is no such fold.
    """
    if not (match := re.fullmatch(r"(\d{1,3})/(\d{1,3})", split)):
        return None
    number, num_folds = int(match[1]), int(match[2])
    if num_folds < 2 or not 1 <= number <= num_folds:
        raise ValueError(f"`split` must name a fold such as '2/5' (the second of five). Received: {split!r}.")
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
        cases: Cases with unique ids; their order has no effect.
        pixel_hashes: Hash of the pixels by id, of every case.
        split: `"given"` keeps the splits of the cases. Where a group spans several, only its cases in the split
            furthest from training are kept, so that the sets for evaluation stay the same. `"random"` divides whole
            groups, stratified by sex and age; `"2/5"` divides them into five folds, of which the second is for
            validation and the others for training.
        seed: Seed of the random division.
        validation_share: Share of the cases for validation, in [0, 1); it holds to about the size of a group.
        test_share: Share of the cases for the test, in [0, 1).

    Returns:
        Every id exactly once, in a split or as a rejection, and the duplicates.

    Raises:
        ValueError: If `split` is unknown, the shares leave no case for training, or a hash is missing.
    """
    parsed = parse_fold(split)
    if not parsed:
        check_choice("split", split, SPLIT_METHODS)
    if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
        raise ValueError(
            "`validation_share` and `test_share` must not be negative and add up to less than 1. "
            f"Received: {validation_share} and {test_share}."
        )
    cases = sorted(cases, key=lambda case: case.id)
    if unhashed := [case.id for case in cases if case.id not in pixel_hashes]:
        raise ValueError(f"`pixel_hashes` is missing {len(unhashed)} cases, the first is {unhashed[0]!r}.")
    rejections = [rejection for case in cases if (rejection := _reject_unplaceable(case, given=split == "given"))]
    out = {rejection.id for rejection in rejections}
    groups = [[case for case in group if case.id not in out] for group in _group_cases(cases, pixel_hashes)]
    groups = [group for group in groups if group]
    if parsed:
        number, num_folds = parsed
        shares = {f"{fold}": 1 / num_folds for fold in range(1, num_folds + 1)}
        folds = _split_groups(groups, seed=seed, shares=shares)
        splits = {id: "validation" if name == f"{number}" else "train" for id, name in folds.items()}
    elif split == "random":
        shares = {"train": 1 - validation_share - test_share, "validation": validation_share, "test": test_share}
        splits = _split_groups(groups, seed=seed, shares=shares)
    else:
        splits, across = _keep_given(groups, pixel_hashes)
        rejections += across
    return Assignment(splits, rejections, _duplicates(cases, pixel_hashes), _number_groups(groups, splits))


def _reject_unplaceable(case: Case, *, given: bool) -> Rejection | None:
    if case.bone_age_months is None:
        return _reject(case, "no bone age; add it to a column `boneage` of the table.", reason="no_label")
    if given and case.split is None:
        return _reject(case, "has no split; add one to the split file, or use --split random.", reason="no_split")
    return None


def _reject(case: Case, problem: str, *, reason: str) -> Rejection:
    error = InvalidEntryError(f"{case.path.name}: {problem}", reason=reason)
    return make_rejection(case.id, file=case.path.name, error=error)


def _duplicates(cases: Sequence[Case], pixel_hashes: Mapping[str, str]) -> list[list[str]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        ids[pixel_hashes[case.id]].append(case.id)
    return [same for same in ids.values() if len(same) > 1]


def _group_cases(cases: Sequence[Case], pixel_hashes: Mapping[str, str]) -> list[list[Case]]:
    """Group cases that share a patient or pixels, directly or through others (union-find with path halving)."""
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


def _number_groups(groups: Sequence[Sequence[Case]], splits: Mapping[str, str]) -> dict[str, int]:
    members = [[case.id for case in group if case.id in splits] for group in groups]
    # The seed of the split has no effect: it changes the order of the records, not the records.
    shuffled = sorted(filter(None, members), key=lambda ids: min(shuffle_key(id, seed=0) for id in ids))
    return {id: number for number, ids in enumerate(shuffled) for id in ids}


def _keep_given(
    groups: Sequence[Sequence[Case]], pixel_hashes: Mapping[str, str]
) -> tuple[dict[str, str], list[Rejection]]:
    """Keep the given splits; of a group that spans several, only the cases in the one furthest from training."""
    splits: dict[str, str] = {}
    rejections = []
    for group in groups:
        furthest = max((case.split for case in group if case.split), key=SPLITS.index)
        kept = [case for case in group if case.split == furthest]
        splits |= {case.id: furthest for case in kept}
        for case in group:
            if case.split == furthest:
                continue
            twin = next((other for other in kept if pixel_hashes[other.id] == pixel_hashes[case.id]), None)
            same, reason = ("same pixels", "duplicate") if twin else ("same patient", "same_patient")
            other = f"{(twin or kept[0]).id!r} in {furthest}"
            rejections.append(_reject(case, f"{same} as {other}; left out of {case.split}.", reason=reason))
    return splits, rejections


def _split_groups(groups: Sequence[Sequence[Case]], *, seed: int, shares: Mapping[str, float]) -> dict[str, str]:
    """Divide whole groups at random, stratified by sex and age.

    Groups are sorted by sex and age band and shuffled within each band; each goes to the split that is then furthest
    below its share. So the shares hold in every band, to about the size of a group.
    """
    counts = dict.fromkeys(shares, 0)
    splits: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: _stratified_order(group[0], seed)):
        num_placed = len(splits) + len(group)
        behind = {name: shares[name] * num_placed - counts[name] for name in shares}
        chosen = max(shares, key=behind.__getitem__)
        counts[chosen] += len(group)
        splits |= {case.id: chosen for case in group}
    return splits


def _stratified_order(case: Case, seed: int) -> tuple[str, int, str]:
    return case.sex or "", int((case.bone_age_months or 0) // AGE_BAND_MONTHS), shuffle_key(case.id, seed=seed)


def shuffle_key(id: str, *, seed: int) -> str:
    """Return a sort key that shuffles ids, the same on every machine and independent of the other ids."""
    return hashlib.sha256(f"{seed} {id}".encode()).hexdigest()
