"""Read the directory of a TIFF file within bounds, and decode the kinds of TIFF that Pillow does not."""

import logging
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import TiffImagePlugin

from boneage.preprocessing.io.grey import GreyImage, to_grey
from boneage.preprocessing.io.radiograph import UnreadableImageError, check_size
from boneage.preprocessing.io.samples import blend_with_black, to_unsigned

# TIFF 6.0, section 2, and BigTIFF: bytes of a value by its type.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TYPE_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q", 5: "II"}
_MAX_ENTRIES = 1000
# Scanner software stores a thumbnail or two behind the image.
_MAX_THUMBNAILS = 4
# TIFF 6.0, sections 3 to 8, 15, 18 and 19.
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_REDUCED = 1
_ORIENTATION, _NUM_SAMPLES, _X_RESOLUTION, _Y_RESOLUTION = 274, 277, 282, 283
_TILE_WIDTH, _TILE_LENGTH, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 338, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNSIGNED = 1
# Sides of tiles are multiples of 16; a tile larger than the image is padded.
_MAX_TILE_PIXELS = 2**24


@dataclass(frozen=True)
class TiffDirectory:
    """What the first directory of a TIFF file says of its image.

    Attributes:
        values: Values of the tags, by their number.
        has_next: Whether another image follows, beside a thumbnail.
        ambiguous: Tags that are there twice with different values, of which some decoders take the first, some the
            last.
    """

    values: dict[int, tuple[int, ...]]
    has_next: bool
    ambiguous: frozenset[int]

    def get(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return self.values.get(tag, (default,))[0]

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return max(self.values.get(_BITS, (1,)))

    @property
    def num_samples(self) -> int:
        """Samples of the image."""
        return self.get(_HEIGHT, 0) * self.get(_WIDTH, 0) * self.get(_NUM_SAMPLES, 1)

    @property
    def white_is_zero(self) -> bool:
        """Whether the lowest value is white."""
        return self.get(_PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO

    @property
    def orientation(self) -> int:
        """Orientation by TIFF 6.0, section 8: 1 is upright, from 5 on rows and columns are exchanged."""
        return self.get(_ORIENTATION, 1)

    @property
    def aspect(self) -> float:
        """Height of a pixel divided by its width."""
        across, down = (
            numerator / denominator if denominator else 0.0
            for numerator, denominator in (self.values.get(tag, (1, 1)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        )
        return across / down if across > 0 and down > 0 else 1.0

    @property
    def is_plain(self) -> bool:
        """Whether Pillow keeps every bit: unsigned samples, of at most 8 bits if there are several channels."""
        return (
            set(self.values.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == {_UNSIGNED}
            and self.bits <= (16 if self.get(_NUM_SAMPLES, 1) == 1 else 8)
            and self.get(_COMPRESSION, 1) in TiffImagePlugin.COMPRESSION_INFO
        )

    def check(self, *, path: Path, max_pixels: int) -> None:
        """Refuse several images, contradictions, and sizes beyond reason.

        Args:
            path: Name used in error messages.
            max_pixels: The most pixels to decode.

        Raises:
            UnreadableImageError: With the reason `multi_frame`, `damaged_image` or `too_large`.
        """
        if self.has_next:
            raise UnreadableImageError(
                f"{path} contains several images; save one radiograph per file.", reason="multi_frame"
            )
        if self.ambiguous:
            raise UnreadableImageError(
                f"{path} states tag {min(self.ambiguous)} twice, with different values; save it again.",
                reason="damaged_image",
            )
        check_size(path, height=self.get(_HEIGHT, 0), width=self.get(_WIDTH, 0), max_pixels=max_pixels)
        if self.get(_NUM_SAMPLES, 1) > 4:
            raise UnreadableImageError(
                f"{path} has {self.get(_NUM_SAMPLES, 1)} channels; save it as greyscale.", reason="not_a_radiograph"
            )
        tile_pixels = self.get(_TILE_WIDTH, 0) * self.get(_TILE_LENGTH, 0)
        if tile_pixels > min(max_pixels, _MAX_TILE_PIXELS):
            raise UnreadableImageError(
                f"{path} states tiles of {tile_pixels} pixels; save it again without tiles.", reason="too_large"
            )


def read_tiff_directory(data: bytes) -> TiffDirectory:
    """Read the first directory of a TIFF file, or of EXIF metadata.

    Args:
        data: The file.

    Raises:
        ValueError: If the directory has more tags than any image, or values longer than the file: many tags may name
            the same bytes, of which each reader makes as many copies.
        struct.error: If it lies beyond the end of the file.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("A TIFF file begins with II or MM.")
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    position = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)[0]
    values, ambiguous, following = _read_directory(data, position, order=order, is_big=is_big)
    return TiffDirectory(
        values, has_next=_has_image(data, following, order=order, is_big=is_big), ambiguous=frozenset(ambiguous)
    )


def _has_image(data: bytes, position: int, *, order: str, is_big: bool) -> bool:
    """Return whether another image than a thumbnail stands in the chain of directories."""
    for _ in range(_MAX_THUMBNAILS):
        if not 0 < position < len(data):
            return False
        try:
            values, _, position = _read_directory(data, position, order=order, is_big=is_big)
        except (ValueError, struct.error):
            return True
        if not values.get(_SUBFILE_TYPE, (0,))[0] & _REDUCED:
            return True
    return 0 < position < len(data)


def _read_directory(
    data: bytes, position: int, *, order: str, is_big: bool
) -> tuple[dict[int, tuple[int, ...]], set[int], int]:
    """Read a directory: the values of its tags, the ambiguous tags, and where the next directory begins."""
    num_entries = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, position)[0]
    if num_entries > _MAX_ENTRIES:
        raise ValueError(f"A TIFF directory has at most {_MAX_ENTRIES} tags. Received: {num_entries}.")
    position += 8 if is_big else 2
    entry, room = (f"{order}HHQ", 8) if is_big else (f"{order}HHI", 4)
    values: dict[int, tuple[int, ...]] = {}
    ambiguous: set[int] = set()
    total = 0
    for _ in range(num_entries):
        tag, kind, count = struct.unpack_from(entry, data, position)
        position += struct.calcsize(entry)
        size = count * _TYPE_BYTES.get(kind, 1)
        total += size
        if total > len(data):
            raise ValueError("The values of a TIFF directory are longer than the file.")
        start = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, position)[0] if size > room else position
        position += room
        if kind in _TYPE_FORMATS and 0 < count <= 4:
            value = struct.unpack_from(f"{order}{count * _TYPE_FORMATS[kind]}", data, start)
            if values.setdefault(tag, value) != value:
                ambiguous.add(tag)
    following = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, position)[0]
    return values, ambiguous, following


def decode_tiff(data: bytes, directory: TiffDirectory, *, path: Path) -> GreyImage:
    """Decode a TIFF file of signed, floating point or many-channel 16-bit samples, or compressed by JPEG 2000.

    Args:
        data: The whole file.
        directory: Its directory, checked.
        path: Name used in error messages.

    Raises:
        UnreadableImageError: If it is a colour photograph, or of another kind.
    """
    # Imported by the first such file: others do not need it.
    import tifffile

    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # It logs what it finds wrong with a file, although it goes on or raises.
    try:
        with tifffile.TiffFile(BytesIO(data)) as tiff:
            page = tiff.pages.first
            # Before it makes room for them: what it understands of the directory may be more than what was checked.
            if page.size > directory.num_samples:
                raise ValueError(f"The TIFF directory states {directory.num_samples} samples and {page.size}.")
            samples = page.asarray(maxworkers=1)
            photometric, axes = int(page.photometric), page.axes
    finally:
        logger.setLevel(level)
    if axes == "SYX":
        samples, axes = np.moveaxis(samples, 0, -1), "YXS"
    samples = orient(samples, directory.orientation)
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and axes == "YX":
        # The negative of signed and floating point numbers has the opposite order too.
        return GreyImage(to_unsigned(samples.max() - samples if photometric == _WHITE_IS_ZERO else samples), None)
    num_colours = {_BLACK_IS_ZERO: 1, _RGB: 3}.get(photometric)
    if axes != "YXS" or num_colours is None or samples.dtype not in (np.uint8, np.uint16):
        raise UnreadableImageError(
            f"{path} is an unsupported kind of TIFF; save it as 8-bit or 16-bit greyscale.", reason="not_a_radiograph"
        )
    samples = to_unsigned(samples)
    channels = samples[..., :num_colours]
    # TIFF 6.0, section 18: 1 and 2 are opacity, 0 is anything.
    if samples.shape[2] == num_colours + 1 and directory.get(_EXTRA_SAMPLES, 0) in (1, 2):
        channels = blend_with_black(channels, samples[..., num_colours:])
    if num_colours == 1:
        return GreyImage(channels[..., 0].copy(), None)
    return to_grey(channels, maximum=np.iinfo(channels.dtype).max, path=path)


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright.

    Args:
        pixels: Shape `(height, width)` or `(height, width, channels)`.
        orientation: By TIFF 6.0, section 8, and EXIF 2.3, tag 274.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    vertical, horizontal = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(
        orientation, (1, 1)
    )
    return np.ascontiguousarray(pixels[::vertical, ::horizontal])
