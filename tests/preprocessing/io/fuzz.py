"""Change sound files at random and read them: each is read, or refused with a documented reason, within bounds.

Run by `test_fuzz.py`; by hand, for longer: `python tests/preprocessing/io/fuzz.py FOLDER --seconds 600`. The file that
breaks a rule lies in FOLDER as `current`.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

from boneage.preprocessing.io.dicom.read import read_dicom_header
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import decode_radiograph

REASONS = {
    "empty_file", "not_an_image", "damaged_image", "too_large", "no_pixels", "multi_frame", "not_a_radiograph",
    "for_processing", "unsupported_encoding",
}  # fmt: skip
MAX_PIXELS = 250_000
MAX_SECONDS = 20.0
"""Of the processor: the machine may be busy with other work. CharLS counts to 2^31 in some damaged JPEG-LS scans before
it refuses them, 4 seconds on a fast machine; the limit of the child process that decodes is above this one."""
# The largest file and its copies in several types; the default limit of pixels is 400 times as large.
MAX_MEMORY_BYTES = 300 * 2**20
MAX_ADDRESSES_BYTES = 6 * 2**30
"""Beyond it memory is refused, so that a file that asks for all of it fails this test and not the machine."""
EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF)


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Return a file changed in one to four places."""
    for _ in range(rng.integers(1, 5)):
        # Headers are where sizes and offsets are.
        end = max(1, len(data) if rng.random() < 0.5 else min(len(data), 1024))
        start = int(rng.integers(end))
        length = int(rng.choice((1, 2, 4, 8, 64, 1024)))
        kind = rng.integers(6)
        block = data[start : start + length]
        if kind == 0:
            data = data[:start] + rng.bytes(min(length, 8)) + data[start + min(length, 8) :]
        elif kind == 1:
            width = int(rng.choice((1, 2, 4)))
            order = "little" if rng.random() < 0.5 else "big"
            number = (int(rng.choice(EXTREMES)) % 256**width).to_bytes(width, order)
            data = data[:start] + number + data[start + width :]
        elif kind == 2:
            data = data[:start] + data[start + length :]
        elif kind == 3:
            data = data[:start] + block * int(rng.choice((2, 3, 1000))) + data[start + length :]
        elif kind == 4:
            begin = int(rng.integers(max(1, len(other))))
            data = data[:start] + other[begin : begin + length] + data[start + length :]
        elif rng.random() < 0.3:
            data = data[:start]
    return data


def check(data: bytes, path: Path) -> None:
    """Read a file and raise AssertionError where it breaks a rule."""
    path.write_bytes(data)
    for read in (
        lambda: decode_radiograph(data, path=path, max_pixels=MAX_PIXELS),
        lambda: read_dicom_header(path),
    ):
        started = time.process_time()
        try:
            radiograph = read()
            assert not hasattr(radiograph, "pixels") or radiograph.pixels.size <= MAX_PIXELS
        except UnreadableImageError as error:
            assert error.reason in REASONS, error.reason
            assert "\n" not in str(error) and str(path) in str(error)
            assert not isinstance(error.__context__, MemoryError)
        assert time.process_time() - started < MAX_SECONDS


def main() -> None:
    """Read changed files for some seconds of the processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="sound files")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES_BYTES, MAX_ADDRESSES_BYTES))
    rng = np.random.default_rng(options.seed)
    current = options.folder / "current"
    sound = [path.read_bytes() for path in sorted(options.folder.iterdir()) if path != current]
    for data in sound:
        check(data, current)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of the processor, so that a busy machine reads as many.
    deadline, num_files = time.process_time() + options.seconds, 0
    while time.process_time() < deadline:
        first, second = rng.integers(len(sound), size=2)
        check(mutate(sound[first], sound[second], rng), current)
        num_files += 1
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert 1024 * used < MAX_MEMORY_BYTES, f"{used} KiB"
    current.unlink()
    sys.stdout.write(f"{num_files} files\n")


if __name__ == "__main__":
    main()
