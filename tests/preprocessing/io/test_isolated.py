"""Reading in child processes: a file that takes its decoder down is one unreadable file."""

import os
import signal
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from boneage.preprocessing.io import isolated
from boneage.preprocessing.io.isolated import decode_isolated, read_isolated
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)


def crash(*_):
    signal.raise_signal(signal.SIGSEGV)


def hang(*_):
    time.sleep(60)


def exhaust(*_):
    raise MemoryError


def vanish(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), GREY)
    return path


def test_read_isolated_gives_what_reading_here_gives(png, write_dicom, monkeypatch):
    dicom = write_dicom(np.arange(24, dtype=np.uint16).reshape(4, 6), bits_stored=12, PatientSex="F")
    monkeypatch.chdir(png.parent)
    for path in (png, dicom, png.name):
        here = read_radiograph(path)
        for there in (read_isolated(path), decode_isolated(png.parent.joinpath(path).read_bytes(), path=path)):
            np.testing.assert_array_equal(there.pixels, here.pixels, strict=True)
            assert there.header == here.header
            assert (there.sex, there.source_sha256) == (here.sex, here.source_sha256)


def test_read_isolated_names_the_file_in_errors(tmp_path):
    with pytest.raises(UnreadableImageError, match=r"none\.png does not exist") as caught:
        read_isolated(tmp_path / "none.png")
    assert caught.value.reason == "missing_file"
    with pytest.raises(UnreadableImageError, match=r"a\.png is not a PNG") as caught:
        decode_isolated(b"none", path="a.png")
    assert caught.value.reason == "not_an_image"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(crash, "damaged_image"), (vanish, "too_large"), (exhaust, "too_large"), (hang, "too_slow")],
)
def test_read_isolated_survives_its_decoder(failure, reason, png, monkeypatch):
    read_isolated(png)
    with monkeypatch.context() as patch:
        patch.setattr(isolated, "read_radiograph", failure)
        if failure is hang:
            patch.setattr(isolated, "MAX_SECONDS", 1.0)
        with pytest.raises(UnreadableImageError, match=r"1\.png") as caught:
            read_isolated(png)
    assert caught.value.reason == reason
    np.testing.assert_array_equal(read_isolated(png).pixels, GREY)


def test_read_isolated_takes_threads_at_once(png):
    pixels = []
    threads = [threading.Thread(target=lambda: pixels.append(read_isolated(png).pixels)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pixels) == 3
    assert all((read == GREY).all() for read in pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_read_isolated_limits_the_memory(tmp_path, write_dicom, monkeypatch):
    monkeypatch.setattr(isolated, "MAX_MEMORY_BYTES", 2**25)
    monkeypatch.setattr(isolated, "_children", isolated._Children())
    pixels = np.zeros((8000, 8000), np.uint8)
    cv2.imwrite(str(tmp_path / "large.png"), pixels)
    for path in (tmp_path / "large.png", write_dicom(pixels)):
        with pytest.raises(UnreadableImageError, match="needs too much memory") as caught:
            read_isolated(path)
        assert caught.value.reason == "too_large"
    isolated._children.close()
