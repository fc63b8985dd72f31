"""TensorFlow imported without the messages of its C++ side."""

import contextlib
import os
import sys
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without what its C++ side writes meanwhile.

    TensorFlow 2.21 tells of CPU instructions, and of drivers that a machine without a GPU lacks, before it reads the
    level of its log. A notebook shows all that as an error. What fails raises an exception all the same.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _discard_standard_error():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _discard_standard_error() -> Iterator[None]:
    """Discard what is written to the file descriptor of standard error, which C++ writes to."""
    kept = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
