"""The TFRecord file format: length, checksum, data, checksum.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from boneage.base.errors import BoneAgeError

FRAME_BYTES = 16  # eight of length, four of its checksum, four of the data's checksum


class DamagedShardError(BoneAgeError):
    """A record file whose bytes do not match their checksums."""


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """Return the bytes of one record as a TFRecord file stores them, with length and checksums."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", _masked_crc(length)), data, struct.pack("<I", _masked_crc(data))))


def _read_frame(file: BinaryIO, name: str) -> bytes | None:
    offset = file.tell()
    head = file.read(12)
    if not head:
        return None
    damaged = DamagedShardError(f"{name}: damaged at byte {offset}; prepare the records again or copy the file again.")
    if len(head) < 12 or struct.unpack("<I", head[8:])[0] != _masked_crc(head[:8]):
        raise damaged
    (length,) = struct.unpack("<Q", head[:8])
    # A damaged length may pass its checksum; it must not lead to an unbounded allocation.
    if length > os.fstat(file.fileno()).st_size:
        raise damaged
    data, tail = file.read(length), file.read(4)
    if len(data) < length or len(tail) < 4 or struct.unpack("<I", tail)[0] != _masked_crc(data):
        raise damaged
    return data


def read_frames(path: str | Path) -> Iterator[bytes]:
    """Yield the bytes of each record of a TFRecord file; checksums are checked.

    Raises:
        DamagedShardError: If a checksum does not match or the file ends early.
    """
    with Path(path).open("rb") as file:
        while (data := _read_frame(file, str(path))) is not None:
            yield data


def read_frame_at(file: BinaryIO, offset: int) -> bytes:
    """Read the record that begins at byte `offset` of an open TFRecord file.

    Raises:
        DamagedShardError: If no undamaged record begins there.
    """
    file.seek(offset)
    data = _read_frame(file, file.name)
    if data is None:
        raise DamagedShardError(f"{file.name}: ends before byte {offset}; prepare the records again.")
    return data
