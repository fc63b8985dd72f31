"""The agreement of reviewers: Cohen's kappa, and what nobody disputes."""

import math

import pytest

from boneage.preprocessing.sources.review_csv import Review
from boneage.review.agreement import compare, join_reviews


def verdicts(**decisions):
    return {id: Review(rows=(decision,)) for id, decision in decisions.items()}


def test_agreement_is_cohens():
    # The example of https://en.wikipedia.org/wiki/Cohen's_kappa: of 50, 20 and 15 agreed on, 5 and 10 not.
    kinds = [("keep", "keep")] * 20 + [("keep", "reject")] * 5 + [("reject", "keep")] * 10 + [("reject", "reject")] * 15
    mine = verdicts(**{str(number): one for number, (one, _) in enumerate(kinds)}, more="keep")
    theirs = verdicts(**{str(number): two for number, (_, two) in enumerate(kinds)})
    found = compare("ben", mine, theirs)
    assert (found.other, found.num_both) == ("ben", 50)
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    same = compare("ben", verdicts(a="keep"), verdicts(a="keep"))
    assert same.share == 1 and math.isnan(same.kappa)
    none = compare("ben", verdicts(a="keep"), verdicts(b="keep"))
    assert none.num_both == 0 and math.isnan(none.share)


def test_what_a_third_one_says_does_not_settle_a_dispute():
    reviews = {"c": verdicts(a="keep"), "a": verdicts(a="keep"), "b": verdicts(a="reject")}
    assert join_reviews(reviews) == ({}, ["a"])


def test_comments_decide_nothing_and_are_joined():
    reviews = {
        "a": {"1": Review(rows=("keep", "comment clear")), "2": Review(rows=("comment who is it?",))},
        "b": {"1": Review(rows=("keep", "comment a bit dark")), "2": Review(rows=("reject",))},
    }
    joint, disputed = join_reviews(reviews)
    assert joint["1"].rows == ("keep", "comment a: clear; b: a bit dark")
    assert joint["2"].rows == ("reject", "comment a: who is it?")
    assert disputed == []
    assert compare("b", reviews["a"], reviews["b"]).num_both == 1
