"""Resamples and folds by group: the radiographs of one patient are drawn, and left out, together."""

import numpy as np
import pytest

from boneage.evaluation.bootstrap import bootstrap, split_by_group


def mean(values):
    return {"mean": values.mean(axis=-1)}


def test_bootstrap_of_single_radiographs_is_the_same_with_and_without_groups():
    values = np.random.default_rng(0).normal(size=50)
    alone = bootstrap(mean, values, num_resamples=200, seed=1)
    assert bootstrap(mean, values, num_resamples=200, seed=1, groups=np.arange(50)) == alone


def test_copies_of_radiographs_narrow_no_interval():
    values = np.random.default_rng(0).normal(size=60)
    once = bootstrap(mean, values, num_resamples=2000, seed=1)["mean"]
    groups = np.array([f"patient {number}" for number in range(60)] * 5)
    copies = np.tile(values, 5)
    by_group = bootstrap(mean, copies, num_resamples=2000, seed=1, groups=groups)["mean"]
    assert by_group.value == pytest.approx(once.value)
    assert by_group.high - by_group.low == pytest.approx(once.high - once.low, rel=0.1)
    too_narrow = bootstrap(mean, copies, num_resamples=2000, seed=1)["mean"]
    assert too_narrow.high - too_narrow.low < 0.6 * (once.high - once.low)


def test_bootstrap_draws_groups_of_different_sizes_as_a_whole():
    values, groups = np.array([0.0, 0, 0, 1]), np.array(["a", "a", "a", "b"])
    found = bootstrap(lambda drawn: {"sum": drawn.sum(axis=-1), "count": np.ones(drawn.shape).sum(axis=-1)}, values,
                      num_resamples=100, seed=0, groups=groups)  # fmt: skip
    assert (found["sum"].low, found["sum"].high) == (0, 2)
    assert (found["count"].low, found["count"].high) == (2, 6)


@pytest.mark.parametrize("groups", [None, np.array(["a"])])
def test_bootstrap_of_one_radiograph_has_no_interval(groups):
    alone = bootstrap(mean, np.array([3.0]), num_resamples=20, seed=0, groups=groups)["mean"]
    assert (alone.value, alone.has_interval) == (3, False)


def test_bootstrap_of_one_patient_has_no_interval():
    of_one = bootstrap(mean, np.array([1.0, 2, 6]), num_resamples=20, seed=0, groups=np.array(["a"] * 3))["mean"]
    assert (of_one.value, of_one.has_interval, of_one.format(".1f")) == (3, False, "3.0")
    two = bootstrap(mean, np.array([1.0, 2, 6]), num_resamples=50, seed=0, groups=np.array(["a", "a", "b"]))["mean"]
    assert two.has_interval and two.format(".1f") == "3.0 [1.5, 6.0]"


def test_split_by_group_leaves_no_patient_in_two_folds():
    groups = np.random.default_rng(0).integers(0, 23, 200)
    folds = split_by_group(groups, num_folds=5, seed=3)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    sizes = [len(set(groups[folds == fold])) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(split_by_group(groups, num_folds=5, seed=3), folds)
    assert (split_by_group(groups, num_folds=5, seed=4) != folds).any()
