"""Pixels of unusual DICOM files, judged by DCMTK, an implementation of its own."""

import shutil
import subprocess

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph

pytestmark = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="needs DCMTK's dcmj2pnm")

ROWS, COLUMNS = np.mgrid[:64, :48]
GREY_12 = np.rint((np.sin(ROWS / 9) + np.cos(COLUMNS / 7) + 2) / 4 * 4095).astype(np.uint16)
GREY_8 = (GREY_12 >> 4).astype(np.uint8)
OVERLAY = ((ROWS // 8 + COLUMNS // 8) % 2).astype(np.uint16)

# Words that store 12 bits beside an overlay (PS3.5 8.1.2), and the high bit of each.
WORDS = {
    "overlay above": (GREY_12 | OVERLAY << 12, 11),
    "overlay in the highest bit": (GREY_12 | OVERLAY << 15, 11),
    "high bit 15": (GREY_12 << 4, 15),
    "overlay below": (GREY_12 << 4 | OVERLAY, 15),
    "overlays above and below": (GREY_12 << 2 | OVERLAY << 14 | OVERLAY, 13),
}
CONVERSIONS = {
    "as it is": None,
    "implicit": ["dcmconv", "+ti"],
    "big endian": ["dcmconv", "+tb"],
    "deflated": ["dcmconv", "+td"],
    "bare implicit": ["dcmconv", "-F", "+ti"],
    "bare explicit": ["dcmconv", "-F", "+te"],
    "bare big endian": ["dcmconv", "-F", "+tb"],
    "run lengths": ["dcmcrle"],
    "JPEG lossless": ["dcmcjpeg", "+e1"],
    "JPEG-LS": ["dcmcjpls", "+el"],
    "raw JPEG-LS": ["dcmcjpls", "+el", "+pr"],
}


def run(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def judge(path, tmp_path, *, options=("-O",)):
    """The grey values that DCMTK shows, as shares of white."""
    if pydicom.dcmread(path, force=True).file_meta.get("TransferSyntaxUID") in uid.JPEGLSTransferSyntaxes:
        run("dcmdjpls", path, tmp_path / "plain.dcm")
        path = tmp_path / "plain.dcm"
    run("dcmj2pnm", "+opw", *options, path, tmp_path / "shown.pgm")
    return cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED) / 65535


@pytest.mark.parametrize("command", CONVERSIONS.values(), ids=CONVERSIONS.keys())
@pytest.mark.parametrize(("words", "high_bit"), WORDS.values(), ids=WORDS.keys())
def test_read_radiograph_bits_beside_the_sample(write_dicom, tmp_path, words, high_bit, command):
    path = write_dicom(words, bits_stored=12, HighBit=high_bit)
    if command:
        run(*command, path, tmp_path / "converted.dcm")
        path = tmp_path / "converted.dcm"
    pixels = read_radiograph(path).pixels
    np.testing.assert_array_equal(pixels, GREY_12, strict=True)
    assert np.abs(pixels / 4095 - judge(path, tmp_path)).max() < 1 / 4095


@pytest.mark.parametrize(("words", "high_bit"), WORDS.values(), ids=WORDS.keys())
def test_read_radiograph_jpeg_2000_of_whole_words(write_dicom, words, high_bit):
    # DCMTK has no decoder for it; the truth is what was encoded.
    frame = imagecodecs.jpeg2k_encode(words, level=0, codecformat="j2k", reversible=True)
    path = write_dicom(words, bits_stored=12, HighBit=high_bit)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    dataset.PixelData = encapsulate([frame])
    dataset.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY_12, strict=True)


@pytest.mark.parametrize("command", CONVERSIONS.values(), ids=CONVERSIONS.keys())
def test_read_radiograph_signed_words_with_a_window(write_dicom, tmp_path, command):
    path = write_dicom(
        GREY_12.astype(np.int16) - 2048,
        bits_stored=12,
        WindowCenter=100,
        WindowWidth=1500,
        PhotometricInterpretation="MONOCHROME1",
    )
    if command:
        run(*command, path, tmp_path / "converted.dcm")
        path = tmp_path / "converted.dcm"
    shown = judge(path, tmp_path, options=("+Wi", "1"))
    assert np.abs(read_radiograph(path).pixels / 4095 - shown).max() < 1 / 1000


COLOURS = {
    "RGB": ({"PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, np.dstack([GREY_8] * 3)),
    "RGB by plane": ({"PhotometricInterpretation": "RGB", "PlanarConfiguration": 1}, np.stack([GREY_8] * 3)),
    "YBR_FULL": (
        {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0},
        np.dstack([GREY_8, np.full_like(GREY_8, 128), np.full_like(GREY_8, 128)]),
    ),
    "YBR_FULL_422": (
        {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0},
        np.dstack([GREY_8[:, ::2], GREY_8[:, 1::2], *[np.full_like(GREY_8[:, ::2], 128)] * 2]),
    ),
    "lower case": ({"PhotometricInterpretation": "rgb", "PlanarConfiguration": 0}, np.dstack([GREY_8] * 3)),
}
COLOUR_CONVERSIONS = {name: CONVERSIONS[name] for name in ("as it is", "big endian", "deflated", "run lengths")}
COLOUR_CONVERSIONS |= {
    "JPEG lossless": CONVERSIONS["JPEG lossless"],
    "JPEG RGB": ["dcmcjpeg", "+eb", "+q", "100", "+cr"],
}
COLOUR_CONVERSIONS |= {"JPEG-LS": CONVERSIONS["JPEG-LS"], "JPEG": ["dcmcjpeg", "+eb", "+q", "100"]}


# DCMTK does not compress colours that are subsampled or misspelt.
COLOUR_CASES = [
    pytest.param(*colour, command, id=f"{name}, {conversion}")
    for name, colour in COLOURS.items()
    for conversion, command in COLOUR_CONVERSIONS.items()
    if not command or command[0] == "dcmconv" or name not in ("YBR_FULL_422", "lower case")
]


@pytest.mark.parametrize(("elements", "content", "command"), COLOUR_CASES)
def test_read_radiograph_grey_stored_in_colour(write_dicom, tmp_path, elements, content, command):
    path = write_dicom(GREY_8, SamplesPerPixel=3, PixelData=content.tobytes(), **elements)
    if command:
        run(*command, path, tmp_path / "converted.dcm")
        path = tmp_path / "converted.dcm"
    pixels = read_radiograph(path).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - GREY_8).max() <= (3 if command and "+eb" in command else 0)


def palette(*entries, bits):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, data in zip(("Red", "Green", "Blue"), entries, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = data.astype(f"<u{bits // 8}").tobytes()
    return elements


def test_read_radiograph_palette_of_bytes(write_dicom):
    path = write_dicom(GREY_8, **palette(*[np.arange(255, -1, -1)] * 3, bits=8))
    np.testing.assert_array_equal(read_radiograph(path).pixels, 255 - GREY_8, strict=True)


def test_read_radiograph_palette_of_many_colours(write_dicom):
    path = write_dicom(GREY_8, **palette(*(np.roll(np.arange(256), shift) for shift in (0, 80, 160)), bits=8))
    with pytest.raises(UnreadableImageError, match="colour photograph"):
        read_radiograph(path)


def test_read_radiograph_palette(write_dicom, tmp_path):
    path = write_dicom(GREY_8, **palette(*[np.arange(255, -1, -1) * 257] * 3, bits=16))
    run("dcmj2pnm", "+opw", "+G", path, tmp_path / "shown.pgm")
    shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED)
    pixels = read_radiograph(path).pixels
    np.testing.assert_array_equal(pixels, (255 - GREY_8.astype(np.uint16)) * 257, strict=True)
    assert np.abs(pixels.astype(int) - shown).max() <= 257


@pytest.mark.parametrize(
    ("elements", "spacing_mm"),
    [
        ({"PixelSpacing": [0.25, 0.2]}, 0.2),
        ({"ImagerPixelSpacing": [0.25, 0.2]}, 0.2),
        ({"PixelSpacing": [0.2, 0.25]}, 0.2),
        ({"PixelAspectRatio": [5, 4]}, None),
        ({"PixelAspectRatio": [4, 5]}, None),
        # The calibrated spacing counts, whatever the detector's.
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.25, 0.2]}, 0.2),
        ({"PixelSpacing": [0.25, 0.2], "PixelAspectRatio": [1, 1]}, 0.2),
    ],
)
def test_read_radiograph_pixels_that_are_not_square(write_dicom, tmp_path, elements, spacing_mm):
    path = write_dicom(GREY_12, bits_stored=12, **elements)
    radiograph = read_radiograph(path)
    height, width = radiograph.pixels.shape
    shown = judge(path, tmp_path, options=("-O", "+Sxv", width))
    assert shown.shape == (height, width)
    assert radiograph.pixel_spacing_mm == (None if spacing_mm is None else (spacing_mm, spacing_mm))
    # The two interpolate differently.
    assert np.abs(radiograph.pixels / 4095 - shown).mean() < 0.02
