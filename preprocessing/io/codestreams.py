"""The size that compressed pixels state themselves, by which a decoder allocates.

Where no size is found, none is guessed: the caller refuses to decode.
"""

import re
import struct
from dataclasses import dataclass

# ITU-T T.81 B.1.1.2: any number of fill bytes may stand before a marker. Decoders skip what is no marker, so this does.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# ITU-T T.81 table B.1 and ITU-T T.87 C.1.1: JPEG and JPEG-LS state their size after a start-of-frame marker.
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, restart intervals and the start of the image.
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
# ISO/IEC 15444-1 A.4.1 and A.5.1: a JPEG 2000 codestream starts with its marker and that of its size.
JPEG_2000_START = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
"""ISO/IEC 15444-1 I.5.1: the first box of a JP2 file."""
# An image has a few tables and comments; a chain of thousands is there to keep a reader busy.
_MAX_SEGMENTS = 1000


@dataclass(frozen=True)
class CodestreamSize:
    """What a codestream states of itself.

    Attributes:
        height: Rows.
        width: Columns.
        num_samples: Samples of each pixel.
        bits: Bits of each sample.
    """

    height: int
    width: int
    num_samples: int
    bits: int


def read_jpeg_size(data: bytes) -> CodestreamSize | None:
    """Read the size of a JPEG or JPEG-LS image, None where it states none before its pixels.

    Args:
        data: The image, from its first marker.
    """
    position = 0
    for _ in range(_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or found.end() + 8 > len(data):
            return None
        marker, position = data[found.end() - 1], found.end()
        if marker in _START_OF_FRAME:
            bits, height, width, num_samples = struct.unpack_from(">xxBHHB", data, position)
            return CodestreamSize(height, width, num_samples, bits)
        if marker in (_END_OF_IMAGE, _START_OF_SCAN):
            return None
        if marker not in _BARE_MARKERS:
            position += struct.unpack_from(">H", data, position)[0]
    return None


def find_jpeg_2000(data: bytes) -> int | None:
    """Find the JPEG 2000 codestream in a bare one or in the boxes of a JP2 file (ISO/IEC 15444-1 I.4).

    Args:
        data: The file.

    Returns:
        Its position, None if there is none.
    """
    if data.startswith(JPEG_2000_START):
        return 0
    position = 0
    for _ in range(_MAX_SEGMENTS):
        if position + 16 > len(data):
            return None
        length, kind, long_length = struct.unpack_from(">I4sQ", data, position)
        start = position + (16 if length == 1 else 8)
        if kind == b"jp2c":
            return start if data.startswith(JPEG_2000_START, start) else None
        length = long_length if length == 1 else length
        if length < start - position:  # Also 0: the last box of the file, which is no codestream.
            return None
        position += length
    return None


def read_jpeg_2000_size(data: bytes) -> CodestreamSize | None:
    """Read the size of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1), None where it states none that can be used.

    Args:
        data: The file or the codestream, as `find_jpeg_2000` takes it.
    """
    start = find_jpeg_2000(data)
    if start is None or start + 43 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (num_samples,) = struct.unpack_from(">H", data, start + 40)
    components = data[start + 42 : start + 42 + 3 * num_samples]
    depths, steps = set(components[0::3]), set(components[1::3]) | set(components[2::3])
    # Components of different depth or resolution are of no radiograph.
    if len(components) != 3 * num_samples or len(depths) != 1 or steps != {1}:
        return None
    return CodestreamSize(bottom - top, right - left, num_samples, (depths.pop() & 0x7F) + 1)
