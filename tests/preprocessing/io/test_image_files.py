"""Every kind of image file: each pixel value of the good ones, and the reason for each bad one."""

import hashlib
import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph

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
    """Repeat grey pixels in each channel and add a transparency that hides the last row, as white paper is hidden."""
    alpha = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    alpha[-1] = 0
    return np.dstack([pixels] * num_channels + [alpha])


def last_row_black(pixels):
    return np.vstack([pixels[:-1], np.zeros_like(pixels[-1:])])


def exif_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def written_by_tifffile(pixels, dtype, **options):
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.asarray(pixels).astype(dtype), **{"photometric": "minisblack", **options})
    return buffer.getvalue()


def with_thumbnails(pixels, number, *, reduced=True):
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(pixels, photometric="minisblack")
        for _ in range(number):
            writer.write(pixels[::2, ::2].copy(), photometric="minisblack", subfiletype=int(reduced))
    return buffer.getvalue()


def stretched(pixels):
    return np.rint(pixels / pixels.max() * 65535).astype(np.uint16)


LARGE_16 = np.tile(GREY_16, (10, 8))
PALETTE = chunk(b"PLTE", bytes(level for index in range(256) for level in 3 * [255 - index]))

FILES = {
    "png 8 bit": (png(GREY, colour_type=PNG_GREY), GREY),
    "png 16 bit": (png(GREY_16, colour_type=PNG_GREY), GREY_16),
    "png 8 bit alpha": (png(with_alpha(GREY, 1), colour_type=PNG_GREY_ALPHA), last_row_black(GREY)),
    "png 16 bit alpha": (png(with_alpha(GREY_16, 1), colour_type=PNG_GREY_ALPHA), last_row_black(GREY_16)),
    "png 8 bit colour": (png(np.dstack([GREY] * 3), colour_type=PNG_COLOUR), GREY),
    "png 16 bit colour": (png(np.dstack([GREY_16] * 3), colour_type=PNG_COLOUR), GREY_16),
    "png 8 bit colour alpha": (png(with_alpha(GREY, 3), colour_type=PNG_COLOUR_ALPHA), last_row_black(GREY)),
    "png 16 bit colour alpha": (
        png(with_alpha(GREY_16, 3), colour_type=PNG_COLOUR_ALPHA),
        last_row_black(GREY_16),
    ),
    "png palette": (png(GREY, colour_type=PNG_PALETTE, extra=PALETTE), 255 - GREY),
    "png palette with transparency": (
        png(GREY, colour_type=PNG_PALETTE, extra=PALETTE + chunk(b"tRNS", bytes(range(256)))),
        ((255 - GREY.astype(int)) * GREY / 255 + 0.5).astype(np.uint8),
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
    "tiff with a thumbnail": (with_thumbnails(GREY_16, 1), GREY_16),
    "tiff signed with thumbnails": (with_thumbnails(GREY.astype(np.int16) * 16, 2), GREY.astype(np.uint16) * 16),
    "tiff turned": (pillow(GREY_16, "TIFF", exif=exif_orientation(6)), np.rot90(GREY_16, -1)),
    "png with a transparent grey level": (
        png(GREY_16, colour_type=PNG_GREY, extra=chunk(b"tRNS", struct.pack(">H", GREY_16[1, 2]))),
        np.where(GREY_16[1, 2] == GREY_16, 0, GREY_16).astype(np.uint16),
    ),
    "png with a transparent grey level of 8 bits": (
        png(GREY, colour_type=PNG_GREY, extra=chunk(b"tRNS", struct.pack(">H", GREY[1, 2]))),
        np.where(GREY[1, 2] == GREY, 0, GREY).astype(np.uint8),
    ),
    "png transparent everywhere": (png(np.dstack([GREY, 0 * GREY]), colour_type=PNG_GREY_ALPHA), GREY),
    "png half transparent": (
        png(np.dstack([GREY, 0 * GREY + 51]), colour_type=PNG_GREY_ALPHA),
        np.uint8(GREY / 5 + 0.5),
    ),
    "tiff signed": (pillow(GREY.astype(np.int16) * 16, "TIFF"), GREY.astype(np.uint16) * 16),
    "tiff signed, below zero": (pillow(GREY.astype(np.int16) - 100, "TIFF"), GREY.astype(np.uint16)),
    "tiff signed bytes": (written_by_tifffile(GREY.astype(int) - 128, np.int8), GREY.astype(np.uint16)),
    "tiff signed, white is zero": (
        written_by_tifffile(GREY.astype(int) - 128, np.int16, photometric="miniswhite"),
        253 - GREY.astype(np.uint16),
    ),
    "tiff 32 bit": (pillow(GREY.astype(np.int32) * 256, "TIFF"), GREY.astype(np.uint16) * 256),
    "tiff 32 bit of a large range": (written_by_tifffile(GREY.astype(int) * 65535, np.uint32), stretched(GREY)),
    "tiff of float32": (written_by_tifffile(GREY / 253, np.float32), stretched(GREY)),
    "tiff of float32 below zero": (written_by_tifffile(GREY / 253 - 0.5, np.float32), stretched(GREY)),
    "tiff of float16": (written_by_tifffile(GREY, np.float16), GREY.astype(np.uint16)),
    "tiff of float64": (written_by_tifffile(GREY, np.float64, compression="zlib"), GREY.astype(np.uint16)),
    "tiff 16 bit alpha": (
        written_by_tifffile(with_alpha(GREY_16, 1), np.uint16, photometric="minisblack", extrasamples=["unassalpha"]),
        last_row_black(GREY_16),
    ),
    "tiff 16 bit by plane": (
        written_by_tifffile(np.stack([GREY_16] * 3), np.uint16, photometric="rgb", planarconfig="separate"),
        GREY_16,
    ),
    "tiff of JPEG 2000": (written_by_tifffile(LARGE_16, np.uint16, compression="jpeg2000"), LARGE_16),
    "tiff of JPEG 2000 tiles": (
        written_by_tifffile(LARGE_16, np.uint16, compression="jpeg2000", tile=(16, 16)),
        LARGE_16,
    ),
    "tiff 16 bit colour, turned": (
        written_by_tifffile(np.dstack([GREY_16] * 3), np.uint16, photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
        np.rot90(GREY_16, -1),
    ),
    "big tiff": (written_by_tifffile(GREY_16, np.uint16, bigtiff=True), GREY_16),
    "bmp": (pillow(GREY, "BMP"), GREY),
    "bmp colour": (pillow(np.dstack([GREY] * 3), "BMP"), GREY),
    "bmp of 32 bits": (pillow(with_alpha(GREY, 3), "BMP"), GREY),  # The format has no opacity.
    "jpeg 2000": (imagecodecs.jpeg2k_encode(GREY, level=0, reversible=True, codecformat="jp2"), GREY),
    "jpeg 2000 codestream": (imagecodecs.jpeg2k_encode(GREY_16, level=0, reversible=True, codecformat="j2k"), GREY_16),
    "jpeg 2000 of 12 bits": (
        imagecodecs.jpeg2k_encode(GREY_16 // 16, level=0, reversible=True, bitspersample=12),
        GREY_16 // 16,
    ),
    "jpeg 2000 colour": (pillow(np.dstack([GREY] * 3), "JPEG2000", irreversible=False), GREY),
    "jpeg 2000 alpha": (pillow(with_alpha(GREY, 1), "JPEG2000", irreversible=False), last_row_black(GREY)),
    "jpeg 2000 colour alpha": (pillow(with_alpha(GREY, 3), "JPEG2000", irreversible=False), last_row_black(GREY)),
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


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_read_radiograph_print_colours(tmp_path, mode, file_format):
    smooth = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
    path = tmp_path / "radiograph"
    options = {"quality": 95} if file_format == "JPEG" else {}
    # Pillow makes print colours of screen colours without black ink, so grey is equal in the other three.
    Image.fromarray(smooth).convert("RGB").convert(mode).save(path, file_format, **options)
    assert np.abs(read_radiograph(path).pixels.astype(int) - smooth).max() <= 5


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {"dpi": (150, 300)}),
        ("TIFF", {"dpi": (150, 300)}),
        ("BMP", {"dpi": (150, 300)}),
        ("JPEG", {"dpi": (150, 300), "quality": 100}),
        ("PNG", {"dpi": (150, 300), "exif": exif_orientation(6)}),
        ("TIFF", {"dpi": (150, 300), "exif": exif_orientation(8)}),
    ],
)
def test_read_radiograph_resolution_that_is_not_square(tmp_path, file_format, options):
    smooth = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
    path = tmp_path / "radiograph"
    path.write_bytes(pillow(smooth, file_format, **options))
    # Half as many pixels to an inch across as down: a pixel is half as high as wide.
    turns = {6: -1, 8: 1}.get(options.get("exif", {}).get(0x0112), 0)
    read = np.rot90(read_radiograph(path).pixels, -turns)
    assert read.shape == (32, 48)
    assert np.abs(read[:, 1:-1:2].astype(int) - smooth[:, :-1]).max() <= 3


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
    "tiff with a second image half as large": (with_thumbnails(GREY, 1, reduced=False), "multi_frame"),
    "tiff with more thumbnails than anybody needs": (with_thumbnails(GREY, 5), "multi_frame"),
    "moving png": (pillow(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "multi_frame"),
    "colour photograph": (pillow(noisy(60), "PNG"), "not_a_radiograph"),
    "16 bit colour photograph": (png(noisy(60).astype(np.uint16) * 257, colour_type=PNG_COLOUR), "not_a_radiograph"),
    "16 bit print colours": (tiff(np.dstack([GREY_16] * 4), photometric=TIFF_PRINT), "not_a_radiograph"),
    "tiff of many channels": (
        written_by_tifffile(np.dstack([GREY] * 7), np.uint8, planarconfig="contig"),
        "not_a_radiograph",
    ),
    "jpeg 2000 cut short": (
        imagecodecs.jpeg2k_encode(np.tile(GREY, (20, 20)), level=0, reversible=True)[:-200],
        "damaged_image",
    ),
    "bmp cut short": (pillow(GREY, "BMP")[:-20], "damaged_image"),
    "text that begins like a bmp": (b"BMI of the child: 17.5 kg/m2", "not_an_image"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_file_is_refused_in_one_line(tmp_path, data, reason):
    path = tmp_path / "named_as_an_image.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError) as caught:
        read_radiograph(path)
    assert caught.value.reason == reason
    message = str(caught.value)
    assert str(path) in message and ";" in message and "\n" not in message and len(message) < len(str(path)) + 130
