"""Golden pixels for every step from stored to displayed DICOM values, worked out by hand."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph


def table(*entries, first_value=0, bits):
    """An item of a lookup table sequence (PS3.3 C.11.1 and C.11.2)."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first_value, bits]
    item.LUTData = list(entries)
    item["LUTData"].VR = "US"
    return item


def row(*values, dtype=np.uint8):
    return np.array([values], dtype)


WORDS = {"dtype": np.uint16}
SIGNED = {"dtype": np.int16}

# A column each: stored values, bits stored, elements, displayed values worked out by hand.
GOLDEN = {
    "as stored, 8 bits": (row(0, 7, 255), 8, {}, row(0, 7, 255)),
    "as stored, 12 bits": (row(0, 7, 4095, **WORDS), 12, {}, row(0, 7, 4095, **WORDS)),
    "as stored, 16 bits": (row(0, 65535, **WORDS), 16, {}, row(0, 65535, **WORDS)),
    "8 bits in words": (row(0, 200, **WORDS), 8, {}, row(0, 200)),
    "signed": (row(-2048, 0, 2047, **SIGNED), 12, {}, row(0, 2048, 4095, **WORDS)),
    "signed, 8 bits": (row(-128, 0, 127, dtype=np.int8), 8, {}, row(0, 128, 255)),
    "unused bits filled": (row(0xF007, 0x8FFF, **WORDS), 12, {}, row(7, 4095, **WORDS)),
    "lowest is white": (
        row(0, 7, 4095, **WORDS),
        12,
        {"PhotometricInterpretation": "MONOCHROME1"},
        row(4095, 4088, 0, **WORDS),
    ),
    "lowest is white, said twice": (
        row(0, 255),
        8,
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        row(255, 0),
    ),
    "lowest is white, signed": (
        row(-2048, 2047, **SIGNED),
        12,
        {"PhotometricInterpretation": "MONOCHROME1"},
        row(4095, 0, **WORDS),
    ),
    # Rescaled values are 2 x - 100, from -100 to 410; shown over their whole range they are the stored ones again.
    "rescaled": (row(0, 7, 255), 8, {"RescaleSlope": 2, "RescaleIntercept": -100}, row(0, 7, 255)),
    "rescaled downwards": (row(0, 7, 255), 8, {"RescaleSlope": -1, "RescaleIntercept": 0}, row(255, 248, 0)),
    # Values 9, 10, 20, 60, 110, 111 in a window from 60.5 - 50.5 = 10 to 60.5 + 49.5 = 110.
    "linear window": (
        row(9, 10, 20, 60, 110, 111),
        8,
        {"WindowCenter": 60.5, "WindowWidth": 101},
        row(0, 0, 26, 128, 255, 255),  # 25.5 and 127.5 round to even
    ),
    # The same values from stored 2 x + 10, so that the window is seen to follow the rescale.
    "linear window after rescale": (
        row(0, 5, 25, 50, 60),
        8,
        {"RescaleSlope": 2, "RescaleIntercept": 10, "WindowCenter": 60.5, "WindowWidth": 101},
        row(0, 26, 128, 255, 255),
    ),
    # From 60 - 50 = 10 to 60 + 50 = 110.
    "exactly linear window": (
        row(9, 10, 20, 60, 110, 111),
        8,
        {"WindowCenter": 60, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"},
        row(0, 0, 26, 128, 255, 255),
    ),
    # 255 / (1 + exp(-4 (x - 60) / 100)): exp(2) = 7.389, so 30.4, 127.5, 224.6; far below, nothing overflows.
    "sigmoid window": (
        row(10, 60, 110, **WORDS),
        8,
        {"WindowCenter": 60, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
        row(30, 128, 225),
    ),
    "steep sigmoid window": (
        row(-32768, 59, 61, 32767, **SIGNED),
        16,
        {"WindowCenter": 60, "WindowWidth": 0.001, "VOILUTFunction": "SIGMOID"},
        row(0, 0, 65535, 65535, **WORDS),
    ),
    "window of one value": (row(99, 100, 101), 8, {"WindowCenter": 100, "WindowWidth": 1}, row(0, 255, 255)),
    "first of two windows": (
        row(9, 60, 111),
        8,
        {"WindowCenter": [60.5, 200], "WindowWidth": [101, 2]},
        row(0, 128, 255),
    ),
    "window of no width": (row(0, 7, 255), 8, {"WindowCenter": 0, "WindowWidth": 0}, row(0, 7, 255)),
    "empty window": (row(0, 7, 255), 8, {"WindowCenter": None, "WindowWidth": None}, row(0, 7, 255)),
    "window, then lowest is white": (
        row(9, 60, 111),
        8,
        {"WindowCenter": 60.5, "WindowWidth": 101, "PhotometricInterpretation": "MONOCHROME1"},
        row(255, 128, 0),
    ),
    "display table": (
        row(99, 100, 101, 102, 103, 200),
        8,
        {"VOILUTSequence": [table(0, 1000, 3000, 4095, first_value=100, bits=12)]},
        row(0, 0, 1000, 3000, 4095, 4095, **WORDS),
    ),
    "display table goes before a window": (
        row(0, 1),
        8,
        {"VOILUTSequence": [table(50, 60, bits=8)], "WindowCenter": 1, "WindowWidth": 1},
        row(50, 60),
    ),
    "display table on rescaled values": (
        row(0, 1, 2, **WORDS),
        12,
        {"RescaleSlope": 10, "RescaleIntercept": -10, "VOILUTSequence": [table(*range(0, 42, 2), bits=8)]},
        row(0, 0, 20),
    ),
    "display table of one byte per entry, longer than a byte counts": (
        row(0, 255, 256, 999, **WORDS),
        12,
        {"VOILUTSequence": [table(*([0] * 256), *([9] * 743), 200, bits=8)]},
        row(0, 0, 9, 200),
    ),
    "display table with an entry beyond its depth, then lowest is white": (
        row(0, 1),
        8,
        {"VOILUTSequence": [table(0, 5000, bits=12)], "PhotometricInterpretation": "MONOCHROME1"},
        row(4095, 0, **WORDS),
    ),
    "modality table": (
        row(9, 10, 11, 12, 13),
        8,
        {"ModalityLUTSequence": [table(0, 30000, 65535, first_value=10, bits=16)]},
        row(0, 0, 30000, 65535, 65535, **WORDS),
    ),
    "modality table, then a window": (
        row(0, 1, 2),
        8,
        {
            "ModalityLUTSequence": [table(0, 128, 255, bits=8)],
            "WindowCenter": 128,
            "WindowWidth": 2,
            "VOILUTFunction": "LINEAR_EXACT",
        },
        row(0, 128, 255),
    ),
    "padding becomes background": (
        row(0, 1, 255),
        8,
        {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0},
        row(0, 254, 0),
    ),
    "range of padding becomes background": (
        row(-2000, -1999, -1000, 0, **SIGNED),
        12,
        {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500},
        row(0, 0, 3047, 2047, **WORDS),
    ),
}


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)
@pytest.mark.parametrize(("stored", "bits_stored", "elements", "displayed"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_pixels(write_dicom, stored, bits_stored, elements, displayed, syntax):
    path = write_dicom(stored, bits_stored=bits_stored, syntax=syntax, **elements)
    np.testing.assert_array_equal(read_radiograph(path).pixels, displayed, strict=True)


def test_display_table_of_impossible_depth_is_refused(write_dicom):
    with pytest.raises(UnreadableImageError) as caught:
        read_radiograph(write_dicom(row(0, 1), VOILUTSequence=[table(0, 1, bits=32)]))
    assert caught.value.reason == "damaged_image"


def test_longest_display_table_counts_its_entries_as_zero(write_dicom):
    longest = table(0, bits=16)
    longest.LUTDescriptor = [0, 0, 16]
    longest.add_new("LUTData", "OW", np.arange(65535, -1, -1, dtype="<u2").tobytes())
    path = write_dicom(row(0, 300, 65535, **WORDS), VOILUTSequence=[longest])
    np.testing.assert_array_equal(read_radiograph(path).pixels, row(65535, 65235, 0, **WORDS), strict=True)


def test_display_table_of_packed_bytes(write_dicom):
    packed = table(0, 0, 0, 0, bits=8)
    packed.LUTData = bytes([5, 6, 7, 8])
    packed["LUTData"].VR = "OW"
    path = write_dicom(row(0, 1, 2, 3), VOILUTSequence=[packed])
    np.testing.assert_array_equal(read_radiograph(path).pixels, row(5, 6, 7, 8), strict=True)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian], ids=["little", "big"])
def test_display_table_of_words(write_dicom, syntax):
    words = table(0, 0, 0, bits=12)
    words.LUTData = struct.pack("<3H" if syntax.is_little_endian else ">3H", 5, 600, 4000)
    words["LUTData"].VR = "OW"
    path = write_dicom(row(0, 1, 2, **WORDS), bits_stored=12, syntax=syntax, VOILUTSequence=[words])
    np.testing.assert_array_equal(read_radiograph(path).pixels, row(5, 600, 4000, **WORDS), strict=True)


SMOOTH = np.add.outer(np.arange(32) * 4, np.arange(40) * 3)
LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLossless, uid.JPEGLosslessSV1]


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_compression_loses_nothing(write_dicom, bits, syntax):
    pixels = (SMOOTH << (bits - 8)).astype(np.uint8 if bits == 8 else np.uint16) | np.uint8(1)
    path = write_dicom(pixels, bits_stored=bits, syntax=syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_radiograph(path).pixels, pixels, strict=True)


@pytest.mark.parametrize(
    "name",
    ["MR_small_bigendian", "MR_small_implicit", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"],
)
def test_pydicoms_own_files_agree_however_they_are_written(name):
    original = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    stored = np.frombuffer(original.PixelData, "<i2").reshape(64, 64).astype(float)
    # A window of 1600 around 600: from -200 to 1399.
    expected = np.rint(np.clip((stored + 200) / 1599, 0, 1) * 65535).astype(np.uint16)
    assert (original.WindowCenter, original.WindowWidth) == (600, 1600)
    radiograph = read_radiograph(get_testdata_file(f"{name}.dcm", download=False))
    np.testing.assert_array_equal(radiograph.pixels, expected, strict=True)
    assert radiograph.pixel_spacing_mm == (0.3125, 0.3125) and radiograph.sex == "female"
