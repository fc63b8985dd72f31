"""What the page shows of one reading."""

import functools
from collections.abc import Sequence

from boneage.inference.growth_reference import GrowthReference
from boneage.serve.chart import Chart, draw_chart
from boneage.serve.child import MAX_EARLIER, follow_answers, state_child_heights
from boneage.serve.history import Entry
from boneage.serve.readings import Answer
from boneage.studies.child_height import HeightTables
from boneage.studies.progress import Course

# Blank rows of the form below the earlier readings that it holds.
_NUM_BLANK = 3


class Card:
    """A reading, with the course of the bone age of its child and its heights.

    Args:
        entry: The reading.
        others: The answers of the other films of the same upload.
        reference: The growth reference.
        heights: The tables that heights are found by.

    Attributes:
        num_others: Other films of the upload with a bone age.
        num_left_out: Those of them without a chronological age that are told to be of this child.
        course: The course; None without bone age or chronological age.
        heights: Names and texts of what there is to say of the heights of the child.
    """

    def __init__(self, entry: Entry, others: Sequence[Answer], *, reference: GrowthReference, heights: HeightTables):
        self.entry, self._reference = entry, reference
        read = [answer for answer in others if answer.accepted]
        without_age = [answer for answer in read if answer.chronological_age_months is None]
        self.num_others = len(read)
        self.num_left_out = len(without_age) if entry.child.is_one_child else 0
        self.course: Course | None = follow_answers(entry.answer, entry.child, others=read, reference=reference)
        self.heights = state_child_heights(entry.answer, entry.child, heights) if entry.answer.accepted else []

    @functools.cached_property
    def chart(self) -> Chart | None:
        """The picture of the course; None without one."""
        age = self.entry.answer.chronological_age_months
        if self.course is None or age is None:
            return None
        return draw_chart(self.course, self._reference, this_age_months=age)

    @property
    def rows(self) -> list[tuple[float, float] | tuple[None, None]]:
        """The rows of the form for earlier readings: those told, and blank ones."""
        told = self.entry.child.earlier
        return [*told, *[(None, None)] * min(_NUM_BLANK, MAX_EARLIER - len(told))]
