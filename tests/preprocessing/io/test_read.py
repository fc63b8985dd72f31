"""Reading a radiograph from any file: what it tells, what it refuses, and nothing else."""

import pickle
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import RADIOGRAPH_SUFFIXES, hash_pixels, read_radiograph

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11
GREY_16 = GREY.astype(np.uint16) * 256 + 7  # The low byte proves that no bit is lost.


def pillow(pixels, file_format, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


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


def test_missing_file_folder_and_forbidden_file(tmp_path):
    for path, part in ((tmp_path / "nowhere.png", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(UnreadableImageError, match=part) as caught:
            read_radiograph(path)
        assert caught.value.reason == "missing_file"
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(UnreadableImageError, match="cannot be opened") as caught:
        read_radiograph(loop)
    assert caught.value.reason == "missing_file"


def test_max_pixels_bounds_pixels_and_bytes(tmp_path):
    path = tmp_path / "radiograph.png"
    path.write_bytes(pillow(GREY, "PNG"))
    assert read_radiograph(path, max_pixels=24).pixels.size == 24
    with pytest.raises(UnreadableImageError, match="4 x 6 pixels, more than max_pixels=23") as caught:
        read_radiograph(path, max_pixels=23)
    assert caught.value.reason == "too_large"
    with path.open("r+b") as file:
        file.truncate(2**25)  # Sparse: it takes no room on the disk.
    with pytest.raises(UnreadableImageError, match="more bytes than") as caught:
        read_radiograph(path, max_pixels=24)
    assert caught.value.reason == "too_large"


def test_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.png is empty; copy it again.", reason="empty_file")))
    assert (str(error), error.reason) == ("a.png is empty; copy it again.", "empty_file")


def test_pixel_hash_tells_content_apart_and_ignores_layout():
    assert hash_pixels(GREY) == hash_pixels(np.asfortranarray(GREY)) == hash_pixels(GREY.copy())
    others = [GREY.T, GREY.reshape(6, 4), GREY.astype(np.uint16), GREY + np.uint8(1)]
    assert len({hash_pixels(pixels) for pixels in [GREY, *others]}) == 5


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
    except UnreadableImageError as error:
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
    except UnreadableImageError as error:
        assert error.reason != "missing_file"
