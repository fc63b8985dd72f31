"""The agreement of reviewers, and the decisions that nobody disputes."""

import collections
import dataclasses
import math
from collections.abc import Mapping

from boneage.preprocessing.sources.review_csv import Review


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement of two reviewers on the radiographs that both decided on.

    Args:
        other: Name of the other reviewer.
        num_both: Number of those radiographs.
        share: Share of equal decisions, in [0, 1]; NaN without radiographs.
        kappa: Cohen's kappa; NaN if the expected agreement is 1.
    """

    other: str
    num_both: int
    share: float
    kappa: float


def compare(other: str, mine: Mapping[str, Review], theirs: Mapping[str, Review]) -> Agreement:
    """Compute the agreement of two reviewers (Cohen 1960, https://doi.org/10.1177/001316446002000104).

    Args:
        other: Name of the other reviewer.
        mine: Decisions of this reviewer, by id.
        theirs: Decisions of the other reviewer, by id.
    """
    both = [(verdict(mine[id]), verdict(theirs[id])) for id in mine.keys() & theirs.keys()]
    pairs = [pair for pair in both if all(pair)]
    if not pairs:
        return Agreement(other, 0, math.nan, math.nan)
    share = sum(one == two for one, two in pairs) / len(pairs)
    ones, twos = (collections.Counter(verdicts) for verdicts in zip(*pairs, strict=True))
    chance = sum(ones[decision] * twos[decision] for decision in ones) / len(pairs) ** 2
    kappa = (share - chance) / (1 - chance) if chance < 1 else math.nan
    return Agreement(other, len(pairs), share, kappa)


def join_reviews(reviews: Mapping[str, Mapping[str, Review]]) -> tuple[dict[str, Review], list[str]]:
    """Merge the decisions of reviewers.

    Args:
        reviews: Their decisions, by name and id.

    Returns:
        The decisions that all reviewers of a radiograph agree on, with the mask of the first by name and the comments
        of all; and the disputed ids.
    """
    joint: dict[str, Review] = {}
    disputed: set[str] = set()
    comments: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(reviews):
        for id, review in reviews[name].items():
            if review.comment:
                comments[id].append(f"{name}: {review.comment}")
            if review.decisions and verdict(joint.setdefault(id, review)) != verdict(review):
                disputed.add(id)
    agreed = {id: review.with_comment("; ".join(comments[id])) for id, review in joint.items() if id not in disputed}
    return agreed, sorted(disputed)


def verdict(review: Review) -> str:
    """Return a decision as comparable text, without comments; all corrected masks count as equal."""
    return ", ".join("mask" if row.startswith("mask ") else row for row in review.decisions)
