"""Files changed at random: none crashes a decoder, takes long, needs much memory, or meets another error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

SECONDS = 30
GREY = np.add.outer(np.arange(32) * 4, np.arange(40) * 3).astype(np.uint8)
GREY_16 = GREY.astype(np.uint16) * 16 + 5
NATIVE = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
COMPRESSED = [uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless]


def write_plain_dicom(folder, write_dicom):
    table = {"WindowCenter": 900, "WindowWidth": 700, "PixelSpacing": [0.1, 0.125], "PatientAge": "010Y"}
    for syntax in NATIVE:
        write_dicom(GREY_16, bits_stored=12, syntax=syntax, **table).rename(folder / syntax.keyword)
    deflated = write_dicom(GREY_16, bits_stored=12, syntax=uid.DeflatedExplicitVRLittleEndian)
    deflated.rename(folder / "deflated")
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 1}
    write_dicom(GREY, PixelData=3 * GREY.tobytes(), **colours).rename(folder / "colour")
    bare = (folder / NATIVE[1].keyword).read_bytes()
    (folder / "bare").write_bytes(bare[bare.index(b"\x08\x00\x16\x00") :])


def write_compressed_dicom(folder, write_dicom):
    for syntax in COMPRESSED:
        write_dicom(GREY_16, bits_stored=12, syntax=syntax).rename(folder / syntax.keyword)


def write_tiff(folder, _):
    tifffile = pytest.importorskip("tifffile")
    for name, pixels, options in (
        ("plain", GREY_16, {}),
        ("signed", GREY_16.astype(np.int16), {"compression": "zlib"}),
        ("float", GREY_16.astype(np.float32), {"tile": (16, 16), "predictor": 3, "compression": "zlib"}),
        ("jpeg2000", GREY_16, {"compression": "jpeg2000"}),
        ("big", GREY, {"bigtiff": True, "compression": "packbits"}),
        ("alpha", np.dstack([GREY_16] * 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ):
        tifffile.imwrite(folder / name, pixels, **{"photometric": "minisblack", "resolution": (100, 90), **options})
    Image.fromarray(GREY).save(folder / "lzw", "TIFF", compression="tiff_lzw")


def write_pictures(folder, _):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, pixels, options in (
        ("png", GREY, {"format": "PNG", "exif": exif, "dpi": (100, 90)}),
        ("png16", GREY_16, {"format": "PNG"}),
        ("palette", GREY, {"format": "PNG"}),
        ("alpha", np.dstack([GREY] * 4), {"format": "PNG"}),
        ("jpeg", np.dstack([GREY] * 3), {"format": "JPEG", "exif": exif}),
        ("progressive", GREY, {"format": "JPEG", "progressive": True}),
        ("bmp", GREY, {"format": "BMP"}),
        ("jp2", np.dstack([GREY] * 3), {"format": "JPEG2000"}),
    ):
        image = Image.fromarray(pixels)
        (image.convert("P") if name == "palette" else image).save(folder / name, **options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("write", [write_plain_dicom, write_compressed_dicom, write_tiff, write_pictures])
def test_read_radiograph_changed_files(tmp_path, write_dicom, write, seed):
    write(tmp_path, write_dicom)
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, f"--seconds={SECONDS / 2}", f"--seed={seed}"],
        capture_output=True,
        text=True,
        timeout=20 * SECONDS,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    assert int(done.stdout.split()[0]) > 100
