"""Decode the pixels of a DICOM image to the words that it stores.

imagecodecs decodes all compressed pixels, so that no package that happens to be installed changes one. It is called
directly: pydicom's own decoders take the unused bits of compressed words for a part of the value, and decode sizes that
the codestream alone states.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import expand_ybr422
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from boneage.preprocessing.io.codestreams import (
    CodestreamSize,
    find_jpeg_2000,
    read_jpeg_2000_size,
    read_jpeg_size,
)

NATIVE_SYNTAXES = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
# The four processes of ITU-T T.81 that DICOM names (PS3.5 A.4.1): sequential of 8 and 12 bits, lossless of 2 to 16.
JPEG_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1})
JPEG_LS_SYNTAXES = frozenset({JPEGLSLossless, JPEGLSNearLossless})
JPEG_2000_SYNTAXES = frozenset({JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K})
SYNTAXES = NATIVE_SYNTAXES | JPEG_SYNTAXES | JPEG_LS_SYNTAXES | JPEG_2000_SYNTAXES | {RLELossless}
"""The transfer syntaxes that can be decoded."""


class DecodingError(ValueError):
    """Pixels that contradict the header; the message is part of a sentence."""


@dataclass(frozen=True)
class PixelFormat:
    """The image pixel description of PS3.3 C.7.6.3, of one frame.

    Attributes:
        height: Rows.
        width: Columns.
        num_samples: Samples of each pixel, 1 or 3.
        bits_allocated: Bits of the word that holds a sample, 8 or 16.
        bits_stored: Bits of the sample itself.
        shift: Bits of the word below the sample.
        signed: Whether the sample is a two's complement.
        photometric: Photometric interpretation, in upper case.
        by_plane: Whether colours follow each other plane by plane rather than pixel by pixel.
        syntax: Transfer syntax.
    """

    height: int
    width: int
    num_samples: int
    bits_allocated: int
    bits_stored: int
    shift: int
    signed: bool
    photometric: str
    by_plane: bool
    syntax: UID


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Decoded pixels.

    Attributes:
        words: Shape `(height, width)` or, of colour images as RGB, `(height, width, 3)`.
        shift: Bits of each word below the sample.
    """

    words: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width *channels"]
    shift: int


def decode_pixels(dataset: Dataset, pixel_format: PixelFormat) -> StoredPixels:
    """Decode the one frame of a DICOM image.

    Args:
        dataset: The data set, with its pixels.
        pixel_format: What its header says of them.

    Raises:
        DecodingError: If the pixels contradict the header, or are cut off.
    """
    if pixel_format.syntax in NATIVE_SYNTAXES:
        return StoredPixels(_decode_native(dataset, pixel_format), pixel_format.shift)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if pixel_format.syntax == RLELossless:
        return StoredPixels(_decode_rle(frame, pixel_format), pixel_format.shift)
    decode, read_size = _codec(pixel_format.syntax)
    size = read_size(frame)
    if size is None or size.bits > pixel_format.bits_allocated:
        raise DecodingError("its compressed pixels state no size that fits")
    shape = pixel_format.height, pixel_format.width, pixel_format.num_samples
    if (size.height, size.width, size.num_samples) != shape:
        raise DecodingError("header and compressed pixels disagree on the size")
    samples = decode(frame, pixel_format)
    if samples.shape != (shape if pixel_format.num_samples > 1 else shape[:2]):
        raise DecodingError("its compressed pixels have another size than they state")
    # Encoders compress whole words or, more often, the samples alone, which then begin at the lowest bit.
    shift = pixel_format.shift if size.bits > pixel_format.bits_stored else 0
    return StoredPixels(samples.view(f"u{samples.itemsize}"), shift)


def _decode_native(dataset: Dataset, pixel_format: PixelFormat) -> np.ndarray:
    """Take uncompressed pixels, of which PS3.5 8.1.1 and PS3.3 C.7.6.3.1.2 state the order."""
    shape = pixel_format.height, pixel_format.width, pixel_format.num_samples
    num_bytes = pixel_format.bits_allocated // 8
    data, is_big = dataset.PixelData, pixel_format.syntax == ExplicitVRBigEndian
    halved = pixel_format.photometric == "YBR_FULL_422"
    size = int(np.prod(shape)) * num_bytes
    expected = size // 3 * 2 if halved else size
    if len(data) < expected:
        raise DecodingError("it contains fewer pixels than its header states")
    if is_big and num_bytes == 1 and dataset["PixelData"].VR == "OW":
        # PS3.5 8.1.1: bytes in words are swapped like the words.
        data = np.frombuffer(data[: expected + expected % 2], ">u2").astype("<u2").tobytes()
    data = expand_ybr422(data[:expected], pixel_format.bits_allocated) if halved else data[:expected]
    samples = np.frombuffer(data, f"{'>' if is_big else '<'}u{num_bytes}").astype(f"u{num_bytes}")
    if pixel_format.by_plane and not halved:
        samples = samples.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)
    return _to_rgb(samples.reshape(shape), pixel_format)


def _decode_rle(frame: bytes, pixel_format: PixelFormat) -> np.ndarray:
    """Decode run lengths (PS3.5 annex G), to no more bytes than the header states."""
    import imagecodecs

    shape = pixel_format.num_samples, pixel_format.height, pixel_format.width
    dtype = np.dtype(f"<u{pixel_format.bits_allocated // 8}")
    size = int(np.prod(shape)) * dtype.itemsize
    data = imagecodecs.dicomrle_decode(frame, dtype, out=size)
    if len(data) != size:
        raise DecodingError("it contains fewer pixels than its header states")
    return _to_rgb(np.frombuffer(data, dtype).reshape(shape).transpose(1, 2, 0), pixel_format)


def _codec(
    syntax: UID,
) -> tuple[Callable[[bytes, PixelFormat], np.ndarray], Callable[[bytes], CodestreamSize | None]]:
    """Give the decoder of a transfer syntax, and the function that reads the size beforehand."""
    if syntax in JPEG_SYNTAXES:
        return _decode_jpeg, read_jpeg_size
    if syntax in JPEG_LS_SYNTAXES:
        return _decode_jpeg_ls, read_jpeg_size
    return _decode_jpeg_2000, read_jpeg_2000_size


def _decode_jpeg(frame: bytes, pixel_format: PixelFormat) -> np.ndarray:
    # imagecodecs is imported by the first compressed file: others do not need it.
    import imagecodecs

    lossless = pixel_format.syntax not in (JPEGBaseline8Bit, JPEGExtended12Bit)
    # A marker of JFIF or Adobe names the colours of lossy JPEG; without one, libjpeg takes them for YCbCr, and the
    # header is right. "RGB" leaves the samples as they are.
    named = b"JFIF\0" in frame[:64] or b"Adobe" in frame[:1024]
    as_they_are = pixel_format.num_samples > 1 and (lossless or (pixel_format.photometric == "RGB" and not named))
    colours = "RGB" if as_they_are else None
    samples: np.ndarray = imagecodecs.jpeg8_decode(frame, colorspace=colours, outcolorspace=colours)
    return _to_rgb(samples, pixel_format) if lossless else samples


def _decode_jpeg_ls(frame: bytes, pixel_format: PixelFormat) -> np.ndarray:
    import imagecodecs

    return _to_rgb(imagecodecs.jpegls_decode(frame), pixel_format)


def _decode_jpeg_2000(frame: bytes, pixel_format: PixelFormat) -> np.ndarray:
    import imagecodecs

    # Without its boxes, which the standard forbids here (PS3.5 A.4.4) and which may state another size.
    return _to_rgb(imagecodecs.jpeg2k_decode(frame[find_jpeg_2000(frame) :]), pixel_format)


def _to_rgb(samples: np.ndarray, pixel_format: PixelFormat) -> np.ndarray:
    """Return grey samples without their axis of channels, and colours as RGB."""
    if pixel_format.num_samples == 1:
        return samples.reshape(samples.shape[:2])
    if pixel_format.photometric in ("YBR_FULL", "YBR_FULL_422"):
        return np.asarray(convert_color_space(samples, "YBR_FULL", "RGB"))
    return samples
