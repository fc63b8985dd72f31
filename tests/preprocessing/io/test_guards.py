"""Small files made to cost much memory or time: refused before, or within a bound."""

import struct
import time
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_dataset

from boneage.preprocessing.io.codestreams import CodestreamSize, read_jpeg_2000_size, read_jpeg_size
from boneage.preprocessing.io.dicom.read import read_dicom_header
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import decode_radiograph, read_radiograph

GREY = np.add.outer(np.arange(32) * 4, np.arange(40) * 3).astype(np.uint8)
PIXEL_DATA = b"\xe0\x7f\x10\x00"  # In little endian.
MAX_SECONDS = 15.0  # One to four on a slow machine; without its guard each file takes a minute or more.


@pytest.fixture(autouse=True)
def limited_time():
    started = time.thread_time()
    yield
    assert time.thread_time() - started < MAX_SECONDS


def refuse(data, *, reason, max_pixels=10_000):
    with pytest.raises(UnreadableImageError) as caught:
        decode_radiograph(data, path="hostile", max_pixels=max_pixels)
    assert caught.value.reason == reason
    return str(caught.value)


def deflate(path, content, *, meta_bytes=0):
    """Write a deflated DICOM file; its header may be longer than the start of the file that a format is told by."""
    meta = pydicom.dcmread(path).file_meta
    meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    if meta_bytes:
        meta.PrivateInformationCreatorUID, meta.PrivateInformation = "1.2.3", bytes(meta_bytes)
    buffer = BytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, meta)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return bytes(128) + b"DICM" + buffer.getvalue() + deflater.compress(content) + deflater.flush()


def data_set(path):
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    dataset = pydicom.dcmread(path)
    del dataset.file_meta
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("meta_bytes", [0, 5000])
def test_deflated_file_is_inflated_within_bounds(write_dicom, tmp_path, meta_bytes):
    path = write_dicom(GREY, PatientSex="F")
    content = data_set(path)
    whole = deflate(path, content, meta_bytes=meta_bytes)
    np.testing.assert_array_equal(decode_radiograph(whole, path="deflated").pixels, GREY, strict=True)
    # An element of 100 MB before the pixels, in a file of 100 kB.
    bomb = deflate(path, struct.pack("<HH2sxxI", 8, 1, b"OB", 10**8) + bytes(10**8) + content, meta_bytes=meta_bytes)
    assert len(bomb) < 2 * 10**5
    assert "too large when inflated" in refuse(bomb, reason="too_large")
    (tmp_path / "whole.dcm").write_bytes(whole)
    assert read_dicom_header(tmp_path / "whole.dcm").sex == "female"
    (tmp_path / "bomb.dcm").write_bytes(bomb)
    assert read_dicom_header(tmp_path / "bomb.dcm").sex is None


def test_deflated_file_in_a_deflated_file_is_refused(write_dicom):
    path = write_dicom(GREY)
    refuse(deflate(path, deflate(path, data_set(path))), reason="damaged_image")


def before_pixels(path, inserted):
    whole = path.read_bytes()
    at = whole.index(PIXEL_DATA)
    return whole[:at] + inserted + whole[at:]


EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def test_sequence_of_empty_items_is_refused(write_dicom, tmp_path):
    sequence = struct.pack("<HH2sxxI", 0x0040, 0x0275, b"SQ", 0xFFFFFFFF) + EMPTY_ITEM * 10**6 + END_OF_SEQUENCE
    data = before_pixels(write_dicom(GREY), sequence)
    assert "more elements than a radiograph" in refuse(data, reason="damaged_image")
    path = tmp_path / "items.dcm"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match="more elements than a radiograph"):
        read_dicom_header(path)


def test_table_for_display_of_empty_items_is_refused(write_dicom):
    items = EMPTY_ITEM * 10**6
    refuse(
        before_pixels(write_dicom(GREY), struct.pack("<HH2sxxI", 0x0028, 0x3010, b"SQ", len(items)) + items),
        reason="damaged_image",
    )


def test_millions_of_empty_elements_are_refused(write_dicom):
    elements = b"".join(struct.pack("<HH2sH", 0x0029, number, b"LO", 0) for number in range(65536))
    refuse(before_pixels(write_dicom(GREY), elements), reason="damaged_image")


def test_items_in_items_are_refused(write_dicom):
    nested = struct.pack("<HH2sxxI", 0x0040, 0x0275, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    refuse(before_pixels(write_dicom(GREY), nested * 20_000), reason="damaged_image")


HUGE = 20_000
JPEG_2000 = imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, codecformat="j2k")
HUGE_JPEG_2000 = JPEG_2000[:8] + struct.pack(">2I", HUGE, HUGE) + JPEG_2000[16:]
JPEG = imagecodecs.jpeg8_encode(GREY, lossless=True, level=100)
FRAME = JPEG.index(b"\xff\xc3")
HUGE_JPEG = JPEG[: FRAME + 5] + struct.pack(">2H", HUGE, HUGE) + JPEG[FRAME + 9 :]


def box(kind, content, *, long=False):
    return (
        struct.pack(">I4s", 1 if long else 8 + len(content), kind)
        + (struct.pack(">Q", 16 + len(content)) if long else b"")
        + content
    )


def in_boxes(codestream):
    """Boxes of all forms, longer than the start of the frame that a codestream is sought in."""
    return (
        box(b"jP  ", b"\r\n\x87\n")
        + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        + box(b"free", bytes(5000), long=True)
        + box(b"xml ", b"\xff\x4f\xff\x51" + struct.pack(">2H4I", 47, 0, *GREY.shape[::-1], 0, 0) + bytes(40))
        + box(b"jp2c", codestream, long=True)
    )


FRAMES = {
    "JPEG 2000": (uid.JPEG2000Lossless, JPEG_2000, HUGE_JPEG_2000),
    "JPEG 2000 in boxes": (uid.JPEG2000Lossless, in_boxes(JPEG_2000), in_boxes(HUGE_JPEG_2000)),
    "JPEG": (uid.JPEGLossless, JPEG, HUGE_JPEG),
    "JPEG with fill bytes": (
        uid.JPEGLossless,
        JPEG[:2] + b"\xff" * 999 + JPEG[2:],
        HUGE_JPEG[:2] + b"\xff" * 999 + HUGE_JPEG[2:],
    ),
    "JPEG with a comment that holds a frame": (
        uid.JPEGLossless,
        JPEG[:2] + b"\xff\xfe" + struct.pack(">H", 2 + 19) + JPEG[FRAME : FRAME + 19] + JPEG[2:],
        HUGE_JPEG[:2] + b"\xff\xfe" + struct.pack(">H", 2 + 19) + JPEG[FRAME : FRAME + 19] + HUGE_JPEG[2:],
    ),
}


@pytest.mark.parametrize(("syntax", "sound", "huge"), FRAMES.values(), ids=FRAMES.keys())
def test_size_that_a_codestream_states_is_found_behind_anything(write_dicom, syntax, sound, huge):
    path = write_dicom(GREY)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([sound])
    dataset.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY)
    dataset.PixelData = encapsulate([huge])
    dataset.save_as(path)
    assert "disagree on the size" in refuse(path.read_bytes(), reason="damaged_image")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 10**6,
        b"\xff\xd8" + b"\xff\x01" * 10**6,
        b"\xff\xd8\xff\xda" + JPEG[FRAME:],
        b"\xff\xd8" + b"\xff\xe0\0\2" * 10**5 + JPEG[2:],
    ],
)
def test_read_jpeg_size_none(data):
    assert read_jpeg_size(data) is None
    assert read_jpeg_size(JPEG) == CodestreamSize(32, 40, 1, 8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        JPEG_2000[:40],
        in_boxes(JPEG_2000)[:5000],
        box(b"free", b"") * 10**5 + box(b"jp2c", JPEG_2000),
        struct.pack(">I4sQ", 1, b"free", 0) + bytes(100),
        struct.pack(">I4sQ", 0, b"free", 0) + bytes(100),
        box(b"jp2c", b"something else, and long enough"),
    ],
)
def test_read_jpeg_2000_size_none(data):
    assert read_jpeg_2000_size(data) is None
    assert read_jpeg_2000_size(in_boxes(JPEG_2000)) == CodestreamSize(32, 40, 1, 8)


def test_run_lengths_beyond_the_image_are_refused(write_dicom):
    # Each two bytes would become 128.
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 10**6
    path = write_dicom(GREY, syntax=uid.RLELossless)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([frame])
    dataset.save_as(path)
    refuse(path.read_bytes(), reason="damaged_image")


def tiff_of_directories(num_directories):
    buffer = BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF")
    data = buffer.getvalue()
    at = struct.unpack_from("<I", data, 4)[0]
    length = 2 + 12 * struct.unpack_from("<H", data, at)[0]
    directory = data[at : at + length]
    data += bytes(len(data) % 2)
    starts = [len(data) + number * (length + 4) for number in range(num_directories)]
    chain = b"".join(directory + struct.pack("<I", following) for following in [*starts[1:], 0])
    return data[:4] + struct.pack("<I", starts[0]) + data[8:] + chain


def test_chain_of_thousands_of_tiff_directories_is_refused():
    np.testing.assert_array_equal(decode_radiograph(tiff_of_directories(1), path="one").pixels, GREY)
    refuse(tiff_of_directories(30_000), reason="multi_frame")


def with_tags(num_tags, size):
    """A TIFF whose tags all name the same bytes."""
    entries = b"".join(struct.pack("<HHII", 40_000 + number, 1, size, 8) for number in range(num_tags))
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + struct.pack("<H", num_tags) + entries + bytes(4)


def test_tiff_tags_that_share_their_values_are_refused():
    refuse(with_tags(900, 10**6), reason="damaged_image")
    refuse(with_tags(20_000, 8), reason="damaged_image")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_metadata_whose_tags_share_their_values_are_dropped(file_format):
    size = 10**6 if file_format == "PNG" else 30_000
    buffer = BytesIO()
    Image.fromarray(GREY).save(buffer, file_format, exif=b"Exif\0\0" + with_tags(900, size), quality=95)
    assert decode_radiograph(buffer.getvalue(), path="exif").pixels.shape == GREY.shape


def add_tags(data, *tags):
    """Add the numbers of tags to a little-endian TIFF, behind those that it has."""
    at = struct.unpack_from("<I", data, 4)[0]
    num_entries = struct.unpack_from("<H", data, at)[0]
    entries = data[at + 2 : at + 2 + 12 * num_entries]
    entries += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", num_entries + len(tags)) + entries + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def tiff(pixels, **options):
    buffer = BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", metadata=None, **options)
    return buffer.getvalue()


def test_tiff_of_huge_tiles_is_refused():
    refuse(add_tags(tiff(GREY), (322, 2**20), (323, 2**20)), reason="too_large")


@pytest.mark.parametrize("pixels", [GREY, GREY.astype(np.int16)])
def test_tiff_that_states_its_size_twice_is_refused(pixels):
    data = tiff(pixels)
    # The same value twice is no contradiction.
    np.testing.assert_array_equal(
        decode_radiograph(add_tags(data, (257, len(GREY))), path="same").pixels,
        decode_radiograph(data, path="once").pixels,
    )
    refuse(add_tags(data, (257, 10**9)), reason="damaged_image")
    refuse(add_tags(data, (257, 1)), reason="damaged_image")


def test_tiff_of_great_depth_is_refused():
    # ImageDepth of SGI's volumes, which only some decoders know.
    refuse(add_tags(tiff(GREY.astype(np.int16)), (32997, 2**30)), reason="damaged_image")
