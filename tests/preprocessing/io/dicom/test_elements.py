"""Values and encodings of DICOM files that the standard does not foresee, and that hospitals have."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom import uid

from boneage.preprocessing.io.dicom.dataset import is_dicom
from boneage.preprocessing.io.dicom.read import read_dicom_header
from boneage.preprocessing.io.read import read_radiograph

NUMBER = "1111111111111111"  # Stands where only a number can be written, until it is overwritten in the file.
IMAGE_8 = np.add.outer(np.arange(32) * 4, np.arange(40) * 3).astype(np.uint8)
IMAGE_12 = IMAGE_8.astype(np.uint16) * 16 + 5


@pytest.mark.parametrize("photometric", ["", None, "monochrome2", " MONOCHROME2"])
def test_read_dicom_photometric_interpretation_of_another_spelling(write_dicom, photometric):
    path = write_dicom(IMAGE_8, PhotometricInterpretation=photometric)
    np.testing.assert_array_equal(read_radiograph(path).pixels, IMAGE_8, strict=True)


def test_read_dicom_photometric_interpretation_in_lower_case_is_not_ignored(write_dicom):
    path = write_dicom(IMAGE_8, PhotometricInterpretation="monochrome1")
    np.testing.assert_array_equal(read_radiograph(path).pixels, 255 - IMAGE_8, strict=True)


def overwrite(path, new):
    """Write text over the number that the element was written with."""
    number = NUMBER[: len(new)].encode()
    whole = path.read_bytes()
    assert whole.count(number)
    path.write_bytes(whole.replace(number, new.encode()))
    return path


@pytest.mark.parametrize(
    ("keyword", "text", "spacing_mm"),
    [
        ("PixelSpacing", "0,1430\\0,143", (0.143, 0.143)),
        ("ImagerPixelSpacing", "0,1430\\0,143", (0.143, 0.143)),
        ("PixelSpacing", "one\\another", None),
        ("PixelSpacing", "0.143\\", None),
        ("PixelSpacing", "nan\\nan", None),
        ("EstimatedRadiographicMagnificationFactor", "1,05", None),
    ],
)
def test_read_dicom_numbers_that_are_none(write_dicom, keyword, text, spacing_mm):
    path = overwrite(write_dicom(IMAGE_8, **{keyword: NUMBER[: len(text)]}), text)
    radiograph = read_radiograph(path)
    assert radiograph.pixel_spacing_mm == (spacing_mm and pytest.approx(spacing_mm))
    np.testing.assert_array_equal(radiograph.pixels, IMAGE_8, strict=True)


def test_read_dicom_window_with_a_decimal_comma(write_dicom):
    expected = read_radiograph(write_dicom(IMAGE_8, WindowCenter="90.5", WindowWidth=101)).pixels
    path = overwrite(write_dicom(IMAGE_8, WindowCenter="1111", WindowWidth=101), "90,5")
    np.testing.assert_array_equal(read_radiograph(path).pixels, expected, strict=True)


@pytest.mark.parametrize(
    ("keyword", "representation", "value"),
    [
        ("PixelSpacing", "UT", "0.2\\0.2"),
        ("PixelSpacing", "LO", ["0.2", "0.2"]),
        ("PixelSpacing", "FD", [0.2, 0.2]),
        ("PixelSpacing", "UN", b"0.2\\0.2 "),
        ("Rows", "IS", "32"),
        ("NumberOfFrames", "LO", "1"),
        ("NumberOfFrames", "DS", "1.0"),
    ],
)
def test_read_dicom_other_value_representations(write_dicom, keyword, representation, value):
    path = write_dicom(IMAGE_8, PixelSpacing=[0.2, 0.2])
    dataset = pydicom.dcmread(path)
    dataset.add_new(keyword, representation, value)
    dataset.save_as(path)
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, IMAGE_8, strict=True)
    assert radiograph.pixel_spacing_mm == pytest.approx((0.2, 0.2))


def test_read_dicom_big_endian_without_a_header(write_dicom):
    path = write_dicom(IMAGE_12, bits_stored=12, syntax=uid.ExplicitVRBigEndian, PatientSex="F")
    whole = path.read_bytes()
    path.write_bytes(whole[144 + struct.unpack_from("<I", whole, 140)[0] :])
    assert is_dicom(path.read_bytes()[:132])
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, IMAGE_12, strict=True)
    assert (radiograph.sex, read_dicom_header(path).sex) == ("female", "female")


def test_read_dicom_big_endian_bytes_in_words(write_dicom):
    path = write_dicom(IMAGE_8, syntax=uid.ExplicitVRBigEndian)
    dataset = pydicom.dcmread(path)
    dataset["PixelData"].VR = "OW"
    dataset.PixelData = IMAGE_8.reshape(-1, 2)[:, ::-1].tobytes()
    dataset.save_as(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, IMAGE_8, strict=True)
