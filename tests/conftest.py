"""What all tests share: a writer of small DICOM files, and where the pictures of the documentation go."""

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate


def pytest_addoption(parser):
    parser.addoption("--pictures", type=Path, help="folder for the pictures that browser tests take")


@pytest.fixture(scope="session")
def write_dicom(tmp_path_factory):
    """A function that writes a small radiograph as a DICOM file and gives its path."""

    def write(pixels, *, bits_stored=None, syntax=uid.ExplicitVRLittleEndian, remove=(), **elements):
        """Write pixels; `elements` are set last, so that a header may claim what its pixels do not keep."""
        path = tmp_path_factory.mktemp("dicom") / "radiograph.dcm"
        with disable_value_validation():
            dataset = _dataset(pixels, bits_stored=bits_stored or 8 * pixels.itemsize, syntax=syntax)
            for keyword, value in elements.items():
                setattr(dataset, keyword, value)
            for keyword in remove:
                delattr(dataset, keyword)
            dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def _dataset(pixels, *, bits_stored, syntax):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.itemsize, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        dataset.PixelData = encapsulate([_jpeg_lossless(pixels, bits=bits_stored)])
        dataset["PixelData"].is_undefined_length = True
    elif syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        dataset.compress(syntax, pixels, generate_instance_uid=False)
    else:
        content = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
        content += b"\0" * (len(content) % 2)
        dataset.PixelData = encapsulate([content]) if syntax.is_encapsulated else content
        dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    return dataset


def _jpeg_lossless(pixels, *, bits):
    """Compress as ITU-T T.81 annex H does with predictor 1; every difference category has a 5-bit code, its number."""
    stream = ""
    for y, x in np.ndindex(*pixels.shape):
        predicted = pixels[y, x - 1] if x else pixels[y - 1, x] if y else 2 ** (bits - 1)
        difference = int(pixels[y, x]) - int(predicted)
        category = abs(difference).bit_length()
        stream += f"{category:05b}"
        if category:
            stream += f"{difference if difference > 0 else difference + 2**category - 1:0{category}b}"
    stream += "1" * (-len(stream) % 8)
    body = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, bits, *pixels.shape, 1, 1, 0x11, 0)
    codes = struct.pack(">HHB16B17B", 0xFFC4, 36, 0, 0, 0, 0, 0, 17, *[0] * 11, *range(17))
    scan = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + codes + scan + body + b"\xff\xd9"
