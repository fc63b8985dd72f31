import gc
import weakref

import pytest

from boneage.base.garbage import collect_early, free_memory


class Copy:
    def __init__(self):
        self.itself = self


def make_copies(number):
    """Make objects that refer to themselves, one after the other, and list references that do not keep them."""
    return [weakref.ref(Copy()) for _ in range(number)]


def count_alive(references):
    return sum(reference() is not None for reference in references)


def test_collect_early_finds_copies_while_they_are_made():
    kept = [[number] for number in range(200_000)]  # as much as a program with TensorFlow has: nothing is collected yet
    gc.collect()
    with collect_early():
        early = make_copies(60_000)
        assert count_alive(early) < 20_000
    assert count_alive(early) == 0 and len(kept) == 200_000


def test_collect_early_leaves_the_collector_as_it_was():
    before = gc.get_threshold()
    with pytest.raises(KeyError), collect_early():
        raise KeyError
    assert gc.get_threshold() == before and gc.get_freeze_count() == 0


def test_free_memory_collects_what_nothing_refers_to():
    gc.disable()
    try:
        copies = make_copies(5)
        assert count_alive(copies) == 5
        free_memory()
        assert count_alive(copies) == 0
    finally:
        gc.enable()
