"""Compressed pixels, compared with what other encoders wrote and other decoders read."""

import shutil
import subprocess

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from boneage.preprocessing.io.dicom.decoders import JPEG_SYNTAXES
from boneage.preprocessing.io.read import read_radiograph

LIBJPEG = "pylibjpeg"
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="needs DCMTK's dcmcjpeg")


def draw(bits):
    """A gradient with noise, a saturated corner and a black one, as a radiograph has them."""
    rows, columns = np.mgrid[:73, :58]
    noise = np.random.default_rng(0).normal(0, 0.01, rows.shape)
    grey = (np.sin(rows / 11) + np.cos(columns / 8) + 2) / 4 * 0.9 + noise
    pixels = np.clip(np.rint(grey * (2**bits - 1)), 0, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)
    pixels[:9, :9], pixels[-9:, -9:] = 2**bits - 1, 0
    return pixels


def write_jpeg(write_dicom, pixels, *, bits, syntax, **options):
    frame = imagecodecs.jpeg8_encode(pixels, bitspersample=bits, **options)
    return write_dicom(pixels, bits_stored=bits, syntax=syntax, PixelData=encapsulate([frame]))


def decode_by_libjpeg(path):
    dataset = pydicom.dcmread(path)
    return get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, decoding_plugin=LIBJPEG)[0]


def read_by_dcmtk(path, folder):
    """The radiograph, after DCMTK has decompressed it."""
    subprocess.run(["dcmdjpeg", path, folder / "decompressed.dcm"], check=True)
    return read_radiograph(folder / "decompressed.dcm").pixels


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_of_every_predictor(write_dicom, bits, predictor):
    pixels = draw(bits)
    path = write_jpeg(
        write_dicom, pixels, bits=bits, syntax=uid.JPEGLossless, lossless=True, predictor=predictor, level=100
    )
    np.testing.assert_array_equal(read_radiograph(path).pixels, pixels, strict=True)
    np.testing.assert_array_equal(decode_by_libjpeg(path), pixels)


@pytest.mark.parametrize(("bits", "syntax"), [(8, uid.JPEGBaseline8Bit), (12, uid.JPEGExtended12Bit)])
def test_lossy_jpeg_differs_from_another_decoder_by_rounding_alone(write_dicom, bits, syntax):
    pixels = draw(bits)
    path = write_jpeg(write_dicom, pixels, bits=bits, syntax=syntax, level=95)
    read = read_radiograph(path).pixels
    assert read.dtype == pixels.dtype
    assert np.abs(read.astype(int) - decode_by_libjpeg(path)).max() <= (1 if bits == 8 else 2)
    assert np.abs(read.astype(int) - pixels).mean() < 2**bits / 200


@needs_dcmtk
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("flags", [["+e1"], ["+el", "+sv", "4"], ["+el", "+sv", "1", "+pt", "2"]], ids=" ".join)
def test_what_dcmtk_compresses(write_dicom, tmp_path, bits, signed, flags):
    pixels = draw(bits)
    stored = pixels if not signed else (pixels.astype(int) - 2 ** (bits - 1)).astype(f"i{pixels.itemsize}")
    path = tmp_path / "compressed.dcm"
    subprocess.run(["dcmcjpeg", *flags, write_dicom(stored, bits_stored=bits), path], check=True)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID in JPEG_SYNTAXES
    read = read_radiograph(path).pixels
    assert read.dtype == pixels.dtype
    # A point transform of 2 drops the lowest two bits (ITU-T T.81 H.1.2.1).
    assert np.abs(read.astype(int) - pixels).max() <= (3 if "+pt" in flags else 0)


@needs_dcmtk
@pytest.mark.parametrize(("flag", "bits"), [("+eb", 8), ("+ee", 8), ("+ee", 12)])
def test_what_dcmtk_compresses_with_losses(write_dicom, tmp_path, flag, bits):
    pixels = draw(bits)
    path = tmp_path / "compressed.dcm"
    subprocess.run(["dcmcjpeg", flag, write_dicom(pixels, bits_stored=bits), path], check=True)
    read = read_radiograph(path).pixels
    assert read.dtype == pixels.dtype
    assert np.abs(read.astype(int) - pixels).mean() < 2**bits / 100
    np.testing.assert_array_equal(read, read_by_dcmtk(path, tmp_path))


@needs_dcmtk
@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_example_files_of_pydicom(tmp_path, name):
    path = get_testdata_file(name, download=False)
    np.testing.assert_array_equal(read_radiograph(path).pixels, read_by_dcmtk(path, tmp_path))


def test_samples_of_eight_bits_may_be_announced_as_words(write_dicom):
    pixels = draw(8)
    frame = imagecodecs.jpeg8_encode(pixels, lossless=True, level=100)
    path = write_dicom(pixels.astype(np.uint16), bits_stored=8, syntax=uid.JPEGLossless, PixelData=encapsulate([frame]))
    np.testing.assert_array_equal(read_radiograph(path).pixels, pixels, strict=True)
