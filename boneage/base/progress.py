"""Progress of long work: a bar on a terminal, and the same bar below the cell of a notebook."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Progress = Callable[[int, int], None]
"""Called with the number of finished and of all items."""

# A notebook receives the whole bar anew each time.
_SECONDS_BETWEEN_DISPLAYS = 0.1


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    from rich.console import Console

    return Console().is_jupyter


@contextlib.contextmanager
def report_progress(progress: Progress | None, title: str) -> Iterator[Progress]:
    """Yield `progress`; without one, what shows a progress bar in a notebook and nothing elsewhere.

    Args:
        progress: The function of the caller, or None.
        title: What is done, shown beside the bar.
    """
    if progress is not None:
        yield progress
        return
    with show_progress(title, quiet=not is_notebook()) as report:
        yield report


@contextlib.contextmanager
def show_progress(title: str, *, quiet: bool) -> Iterator[Progress]:
    """Show a progress bar from the first report on, on standard error or in the notebook.

    Args:
        title: What is done, shown beside the bar.
        quiet: Whether to show nothing.

    Yields:
        The function to report to.
    """
    if quiet:
        yield lambda finished, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task(title, total=None)
    display = _make_display(bar) if bar.console.is_jupyter else bar.start

    def report(finished: int, total: int) -> None:
        if total == 0:
            return
        bar.update(task, completed=finished, total=total)
        display()  # not before: a download at the start has its own progress bar

    try:
        yield report
    finally:
        if bar.live.is_started:  # otherwise it would print an empty line
            bar.stop()


def _make_display(bar: "Bar") -> Callable[[], None]:
    """Return the function that shows a bar by the notebook's own display, which needs no widgets."""
    from IPython.display import DisplayHandle

    handle, shown = DisplayHandle(), 0.0

    def display() -> None:
        nonlocal shown
        now = time.monotonic()
        if not shown:
            handle.display(bar)
        elif now - shown < _SECONDS_BETWEEN_DISPLAYS and not bar.finished:
            return
        else:
            handle.update(bar)
        shown = now

    return display
