"""Parse the data set of a DICOM file, whatever its encoding, within bounds of memory and time."""

import zlib
from io import BufferedIOBase, BytesIO
from typing import Any

import pydicom
from pydicom.dataset import FileDataset

# An element or item takes one to three reads. Radiographs have hundreds of elements, rarely thousands; a file may hold
# millions of empty ones.
_MAX_READS = 30_000


class TooManyElementsError(ValueError):
    """A file of more elements than a radiograph has."""


class InflatedSizeError(ValueError):
    """A deflated file that is too large when it is inflated."""


class _DeflatedError(ValueError):
    """The file is deflated."""


class _BoundedFile:
    """A file that can be read only so often.

    pydicom reads each element and item by itself, so this bounds how many it makes objects of. It reads all that is
    left in one call only where the transfer syntax is deflated (PS3.5 A.5), to inflate it at once.
    """

    def __init__(self, file: BufferedIOBase):
        self._file = file
        self._num_reads = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether it was read too often."""
        return self._num_reads > _MAX_READS

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise _DeflatedError
        self._num_reads += 1
        if self.is_exhausted:
            raise TooManyElementsError
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def is_dicom(head: bytes) -> bool:
    """Return whether a file is DICOM, by its first 132 bytes.

    A DICOM file has the prefix `DICM` at byte 128 (PS3.10 7.1). Older software wrote the bare data set, which starts
    with an element of group 0002 or 0008, followed by its type or, in little endian, a short length (PS3.5 7.1).
    """
    if head[128:132] == b"DICM":
        return True
    has_type = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        return has_type or head[6:8] == b"\x00\x00"
    return head[:3] == b"\x00\x08\x00" and has_type


def parse_dicom(file: BufferedIOBase, *, max_bytes: int, may_be_cut: bool = False, **options: Any) -> FileDataset:
    """Parse a DICOM file.

    Args:
        file: The file, at its start.
        max_bytes: The most bytes to inflate of a deflated file.
        may_be_cut: Whether the first `max_bytes` of a deflated file suffice, since the elements wanted come first.
        options: Of `pydicom.dcmread`.

    Raises:
        TooManyElementsError: If it contains more elements and items than a radiograph has.
        InflatedSizeError: If it is deflated and inflates to more than `max_bytes`.
        Exception: Any of pydicom, which documents no closed set of them, in a damaged file.
    """
    try:
        return _parse(file, **options)
    except _DeflatedError:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(file.read(), max_bytes)
        if inflater.unconsumed_tail and not may_be_cut:
            raise InflatedSizeError from None
        # What was deflated is a bare data set, in Explicit VR Little Endian (PS3.5 A.5).
        return _parse(BytesIO(inflated), **options)


def _parse(file: BufferedIOBase, **options: Any) -> FileDataset:
    bounded = _BoundedFile(file)
    try:
        return pydicom.dcmread(bounded, force=True, **options)
    except Exception as error:
        if bounded.is_exhausted:  # pydicom raises an error of its own instead.
            raise TooManyElementsError from error
        raise
