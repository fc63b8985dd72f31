"""Give memory back: Python collects objects that refer to each other late, and the C library keeps what was freed."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

# Objects made before the youngest are looked at, and how often the older generations are: each full collection looks at
# what was made since `collect_early` began, which is little.
_EARLY_THRESHOLDS = (700, 10, 1)


def free_memory() -> None:
    """Collect all unreachable objects, and return freed memory to the system where the C library can (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries of Linux lack it
        if trim is not None:
            trim(0)


@contextlib.contextmanager
def collect_early() -> Iterator[None]:
    """Collect unreachable objects soon, for work that copies large objects which refer to each other.

    Python looks at its oldest objects once a quarter as many have come: too late where each copy is few objects of a
    hundred megabytes. What exists already is left alone meanwhile.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_EARLY_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        free_memory()
