"""TensorFlow imported without the messages of its C++ side, except those about a GPU that it does not use."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Messages of C++ begin with their level, as in `E0000 00:00:1796051871.539309 11383 cuda_platform.cc:52]`.
_MESSAGE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:|WARNING: All log messages before absl::InitializeLog")
_DEVICES = Path("/dev")
_log = logging.getLogger("boneage.tensorflow")


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without what its C++ side writes meanwhile.

    TensorFlow 2.21 tells of drivers that a machine without a GPU lacks before it reads the level of its log. A notebook
    shows that as an error. Everything is written all the same where the import fails, or `TF_CPP_MIN_LOG_LEVEL` is 0 or
    1; and a warning with its messages where the machine has an NVIDIA GPU that TensorFlow does not use.
    """
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        import tensorflow as tf

        tf.config.list_physical_devices()
        return
    with _hold_standard_error() as held:
        import tensorflow as tf

        num_gpus = len(tf.config.list_physical_devices("GPU"))
    if num_gpus == 0 and _has_gpu():
        told = [line for line in held if (found := _MESSAGE.match(line)) and found[1] in ("W", "E", "F")]
        _log.warning(
            "TensorFlow does not use the GPU of this machine: install tensorflow[and-cuda] and a driver that fits, or "
            "set CUDA_VISIBLE_DEVICES=-1 to choose the CPU.%s",
            "".join(f"\n{line}" for line in told),
        )


def _has_gpu() -> bool:
    """Whether the machine, or its container, has an NVIDIA GPU that the user has not hidden."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not hidden and any(_DEVICES.glob("nvidia[0-9]*"))


@contextlib.contextmanager
def _hold_standard_error() -> Iterator[list[str]]:
    """Hold back what is written to the file descriptor of standard error, which C++ writes to.

    At the end what is no message of C++ is written, such as a warning of Python; everything if the body raises.

    Yields:
        The lines that were written, complete at the end.
    """
    held: list[str] = []
    kept, has_failed = os.dup(2), True
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 2)
            yield held
            has_failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            held += file.read().decode(errors="replace").splitlines()
            for line in held:
                if has_failed or not _MESSAGE.match(line):
                    sys.stderr.write(f"{line}\n")
