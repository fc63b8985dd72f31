"""PNG, JPEG and TIFF files: every pixel value, and every kind of bad file."""

import hashlib
import pickle
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from preprocessing.radiograph import UnreadableImage
from preprocessing.read import RADIOGRAPH_SUFFIXES, pixel_hash, read_radiograph

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11
GREY_16 = GREY.astype(np.uint16) * 256 + 7  # The low byte proves that no bit is lost.

TIFF_WHITE_IS_ZERO, TIFF_COLOUR, TIFF_PRINT = 0, 2, 5
PNG_GREY, PNG_COLOUR, PNG_PALETTE, PNG_GREY_ALPHA, PNG_COLOUR_ALPHA = 0, 2, 3, 4, 6


def png(pixels, *, colour_type, bits=None, size=None, extra=b"", lost=0):
    """Write a PNG file byte by byte (RFC 2083), since no library writes all the kinds that can be met."""
    height, width = size or pixels.shape[:2]
    bits = bits or 8 * pixels.itemsize
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(f">u{pixels.itemsize}"))
    compressed = zlib.compress(rows)
    header = struct.pack(">2I5B", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", compressed[: len(compressed) - lost])
        + chunk(b"IEND", b"")
    )


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(pixels, *, photometric):
    """Write an uncompressed little-endian TIFF file byte by byte (TIFF 6.0, sections 2 to 6)."""
    height, width, num_channels = *pixels.shape[:2], pixels[0, 0].size
    strip = pixels.astype(f"<u{pixels.itemsize}").tobytes()
    bits_at = 8 + len(strip)  # Header, strip, bits per sample, directory.
    bits = struct.pack("<4H", *4 * [8 * pixels.itemsize])
    fields = [(256, 1, width), (257, 1, height), (258, num_channels, bits_at if num_channels > 1 else bits[0])]
    fields += [(259, 1, 1), (262, 1, photometric), (273, 1, 8), (277, 1, num_channels), (278, 1, height)]
    fields += [(279, 1, len(strip))]
    entries = [struct.pack("<2H2I", tag, 3, count, value) for tag, count, value in fields]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", bits_at + len(bits)) + strip + bits + directory


def pillow(pixels, file_format, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def with_alpha(pixels, num_channels):
    """Repeat grey pixels in each channel and add a transparency that hides some of them."""
    alpha = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    alpha[0] = 0
    return np.dstack([pixels] * num_channels + [alpha])


def exif_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


PALETTE = chunk(b"PLTE", bytes(level for index in range(256) for level in 3 * [255 - index]))

FILES = {
    "png 8 bit": (png(GREY, colour_type=PNG_GREY), GREY),
    "png 16 bit": (png(GREY_16, colour_type=PNG_GREY), GREY_16),
    "png 8 bit alpha": (png(with_alpha(GREY, 1), colour_type=PNG_GREY_ALPHA), GREY),
    "png 16 bit alpha": (png(with_alpha(GREY_16, 1), colour_type=PNG_GREY_ALPHA), GREY_16),
    "png 8 bit colour": (png(np.dstack([GREY] * 3), colour_type=PNG_COLOUR), GREY),
    "png 16 bit colour": (png(np.dstack([GREY_16] * 3), colour_type=PNG_COLOUR), GREY_16),
    "png 8 bit colour alpha": (png(with_alpha(GREY, 3), colour_type=PNG_COLOUR_ALPHA), GREY),
    "png 16 bit colour alpha": (png(with_alpha(GREY_16, 3), colour_type=PNG_COLOUR_ALPHA), GREY_16),
    "png palette": (png(GREY, colour_type=PNG_PALETTE, extra=PALETTE), 255 - GREY),
    "png palette with transparency": (
        png(GREY, colour_type=PNG_PALETTE, extra=PALETTE + chunk(b"tRNS", bytes(range(256)))),
        255 - GREY,
    ),
    "png 1 bit": (
        png(np.array([[0b10100000]], np.uint8), colour_type=PNG_GREY, bits=1, size=(1, 4)),
        np.array([[255, 0, 255, 0]], np.uint8),
    ),
    "tiff 8 bit": (pillow(GREY, "TIFF"), GREY),
    "tiff 16 bit": (pillow(GREY_16, "TIFF"), GREY_16),
    "tiff 16 bit big endian": (pillow(GREY_16.astype(">u2"), "TIFF"), GREY_16),
    "tiff 8 bit lzw": (pillow(GREY, "TIFF", compression="tiff_lzw"), GREY),
    "tiff 16 bit deflate": (pillow(GREY_16, "TIFF", compression="tiff_deflate"), GREY_16),
    "tiff 8 bit white is zero": (tiff(GREY, photometric=TIFF_WHITE_IS_ZERO), 255 - GREY),
    "tiff 16 bit white is zero": (tiff(GREY_16, photometric=TIFF_WHITE_IS_ZERO), 65535 - GREY_16),
    "tiff 8 bit colour": (tiff(np.dstack([GREY] * 3), photometric=TIFF_COLOUR), GREY),
    "tiff 16 bit colour": (tiff(np.dstack([GREY_16] * 3), photometric=TIFF_COLOUR), GREY_16),
    "tiff turned": (pillow(GREY_16, "TIFF", exif=exif_orientation(6)), np.rot90(GREY_16, -1)),
    "png turned": (pillow(GREY, "PNG", exif=exif_orientation(3)), np.rot90(GREY, 2)),
}


@pytest.mark.parametrize(("data", "expected"), FILES.values(), ids=FILES.keys())
def test_pixels_are_those_of_the_file(tmp_path, data, expected):
    path = tmp_path / "radiograph"
    path.write_bytes(data)
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, expected, strict=True)
    assert radiograph.pixels.flags.writeable and radiograph.pixels.dtype.isnative
    assert radiograph.source_sha256 == hashlib.sha256(data).hexdigest()


def test_jpeg_stays_within_its_loss(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
    for pixels in (smooth, np.dstack([smooth] * 3)):
        path = tmp_path / "radiograph.jpg"
        path.write_bytes(pillow(pixels, "JPEG", quality=95))
        read = read_radiograph(path).pixels
        assert read.shape == (32, 24) and read.dtype == np.uint8
        assert np.abs(read.astype(int) - smooth).max() <= 4


def test_ordinary_files_tell_nothing_of_the_child(tmp_path):
    path = tmp_path / "radiograph.png"
    path.write_bytes(pillow(GREY, "PNG", dpi=(72, 72)))
    radiograph = read_radiograph(str(path))
    told = (
        radiograph.pixel_spacing_mm,
        radiograph.sex,
        radiograph.chronological_age_months,
        radiograph.laterality,
    )
    assert told == (None, None, None, None)


def test_damaged_metadata_beside_sound_pixels_is_no_matter(tmp_path):
    path = tmp_path / "radiograph.jpg"
    path.write_bytes(pillow(GREY, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"))
    assert read_radiograph(path).pixels.shape == (4, 6)


def noisy(levels, *, share=1.0):
    """Grey pixels stored in colour, red brighter by `levels` in a share of the image."""
    image = np.full((20, 20, 3), 100, np.uint8)
    image.reshape(-1, 3)[: int(400 * share), 0] += levels
    return image


@pytest.mark.parametrize("pixels", [noisy(5), noisy(100, share=0.01)], ids=["chroma noise", "coloured mark"])
def test_a_trace_of_colour_is_allowed(tmp_path, pixels):
    path = tmp_path / "radiograph.png"
    path.write_bytes(pillow(pixels, "PNG"))
    assert (read_radiograph(path).pixels == 100).all()


BAD_FILES = {
    "zero bytes": (b"", "empty_file"),
    "text": (b"case,bone age\n1377,180\n", "not_an_image"),
    "gif": (pillow(GREY, "GIF"), "not_an_image"),
    "png signature only": (png(GREY, colour_type=PNG_GREY)[:8], "damaged_image"),
    "png cut in its pixels": (png(GREY_16, colour_type=PNG_GREY)[:70], "damaged_image"),
    "png without its end": (png(GREY, colour_type=PNG_GREY)[:-12], "damaged_image"),
    "png with a flipped bit": (
        png(GREY, colour_type=PNG_GREY)[:60] + b"\0\0" + png(GREY, colour_type=PNG_GREY)[62:],
        "damaged_image",
    ),
    "16 bit colour png that ends early": (
        png(np.dstack([GREY_16] * 3), colour_type=PNG_COLOUR, lost=20),
        "damaged_image",
    ),
    "png of no size": (png(GREY, colour_type=PNG_GREY, size=(0, 6)), "damaged_image"),
    "png that claims 900 million pixels": (png(GREY, colour_type=PNG_GREY, size=(30_000, 30_000)), "too_large"),
    "png that claims 121 million pixels": (png(GREY, colour_type=PNG_GREY, size=(11_000, 11_000)), "too_large"),
    "jpeg cut short": (pillow(np.tile(GREY, (20, 20)), "JPEG")[:-200], "damaged_image"),
    "tiff cut short": (pillow(GREY, "TIFF")[:-5], "damaged_image"),
    "tiff with several pages": (
        pillow(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]),
        "multi_frame",
    ),
    "moving png": (pillow(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "multi_frame"),
    "colour photograph": (pillow(noisy(60), "PNG"), "not_a_radiograph"),
    "16 bit colour photograph": (png(noisy(60).astype(np.uint16) * 257, colour_type=PNG_COLOUR), "not_a_radiograph"),
    "print colours": (tiff(np.dstack([GREY] * 4), photometric=TIFF_PRINT), "not_a_radiograph"),
    "floating point tiff": (pillow(GREY.astype(np.float32), "TIFF"), "not_a_radiograph"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file_is_refused_in_one_line(tmp_path, data, reason):
    path = tmp_path / "named_as_an_image.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        read_radiograph(path)
    assert caught.value.reason == reason
    message = str(caught.value)
    assert str(path) in message and ";" in message and "\n" not in message and len(message) < len(str(path)) + 130


def test_missing_file_folder_and_forbidden_file(tmp_path):
    for path, part in ((tmp_path / "nowhere.png", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(UnreadableImage, match=part) as caught:
            read_radiograph(path)
        assert caught.value.reason == "missing_file"
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(UnreadableImage, match="cannot be opened") as caught:
        read_radiograph(loop)
    assert caught.value.reason == "missing_file"


def test_max_pixels_bounds_pixels_and_bytes(tmp_path):
    path = tmp_path / "radiograph.png"
    path.write_bytes(pillow(GREY, "PNG"))
    assert read_radiograph(path, max_pixels=24).pixels.size == 24
    with pytest.raises(UnreadableImage, match="4 x 6 pixels, more than max_pixels=23") as caught:
        read_radiograph(path, max_pixels=23)
    assert caught.value.reason == "too_large"
    with path.open("r+b") as file:
        file.truncate(2**25)  # Sparse: it takes no room on the disk.
    with pytest.raises(UnreadableImage, match="more bytes than") as caught:
        read_radiograph(path, max_pixels=24)
    assert caught.value.reason == "too_large"


def test_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(UnreadableImage("a.png is empty; copy it again.", reason="empty_file")))
    assert (str(error), error.reason) == ("a.png is empty; copy it again.", "empty_file")


def test_pixel_hash_tells_content_apart_and_ignores_layout():
    assert pixel_hash(GREY) == pixel_hash(np.asfortranarray(GREY)) == pixel_hash(GREY.copy())
    others = [GREY.T, GREY.reshape(6, 4), GREY.astype(np.uint16), GREY + np.uint8(1)]
    assert len({pixel_hash(pixels) for pixels in [GREY, *others]}) == 5


def test_the_format_comes_from_the_content(tmp_path):
    path = tmp_path / "radiograph.dcm"
    path.write_bytes(pillow(GREY, "PNG"))
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY)
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"} <= RADIOGRAPH_SUFFIXES


grey_arrays = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
)


@settings(deadline=None)
@given(pixels=grey_arrays, file_format=st.sampled_from(["PNG", "TIFF"]))
def test_every_grey_image_comes_back(tmp_path_factory, pixels, file_format):
    path = tmp_path_factory.getbasetemp() / "round_trip"
    path.write_bytes(pillow(pixels, file_format))
    np.testing.assert_array_equal(read_radiograph(path).pixels, pixels, strict=True)


WHOLE_FILES = [
    pillow(GREY, "PNG"),
    pillow(GREY_16, "TIFF"),
    pillow(GREY, "TIFF", compression="tiff_lzw"),
    pillow(np.tile(GREY, (5, 5)), "JPEG"),
]


@settings(deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused_or_whole(tmp_path_factory, data):
    whole = data.draw(st.sampled_from(WHOLE_FILES))
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole)
    expected = read_radiograph(path).pixels
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        # A few last bytes may matter to nobody, such as the padding of a TIFF or the end mark of a JPEG.
        np.testing.assert_array_equal(read_radiograph(path).pixels, expected)
    except UnreadableImage as error:
        assert error.reason in {"empty_file", "not_an_image", "damaged_image"}


@settings(deadline=None)
@given(data=st.data())
def test_a_changed_byte_meets_no_other_error(tmp_path_factory, data):
    changed = bytearray(data.draw(st.sampled_from(WHOLE_FILES)))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(changed)
    try:
        assert read_radiograph(path, max_pixels=10_000).pixels.ndim == 2
    except UnreadableImage as error:
        assert error.reason != "missing_file"
