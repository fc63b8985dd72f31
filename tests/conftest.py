"""What all tests share: a writer of small DICOM files, the built wheel, where the documentation's pictures go."""

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

ROOT = Path(__file__).parents[1]


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


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of what a fresh clone would hold: what was built here before must not get into the wheel."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="session")
def build_wheel(checkout, tmp_path_factory):
    """A function that builds the wheel of a folder of the checkout and gives its path."""

    def build(name):
        folder = tmp_path_factory.mktemp("wheel")
        _uv("build", "--quiet", "--wheel", "--out-dir", folder, checkout / name)
        return next(folder.glob("*.whl"))

    return build


@pytest.fixture(scope="session")
def wheel(build_wheel):
    """The wheel of the package."""
    return build_wheel(".")


@pytest.fixture(scope="session")
def install(tmp_path_factory):
    """A function that installs a wheel into a fresh environment, with the tested versions, and gives its programs."""

    def install_wheel(wheel, *, extra=None):
        folder = tmp_path_factory.mktemp("environment") / "venv"
        _uv("venv", "--quiet", "--python", sys.executable, folder)
        package = f"{wheel}[{extra}]" if extra else wheel
        constraints = ("--constraint", ROOT / "constraints.txt")
        _uv("pip", "install", "--quiet", "--python", folder / "bin/python", *constraints, package)
        return folder / "bin"

    return install_wheel


def _uv(*words):
    """Run uv; the test is skipped where it cannot reach the package index."""
    done = subprocess.run([sys.executable, "-m", "uv", *map(str, words)], capture_output=True, text=True)
    if re.search(r"Failed to fetch|error sending request|network was disabled", done.stderr):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1].strip()}")
    assert done.returncode == 0, done.stderr
