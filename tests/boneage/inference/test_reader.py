"""The loaded model: one radiograph in any form, several, folders and tables, and from several threads."""

import concurrent.futures
import io
import pickle
import re

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

import boneage
from boneage.bundles.bundle import BundleError, load_bundle
from boneage.inference.loading import load
from boneage.preprocessing.sources.cells import UnreadableTableError
from boneage.preprocessing.sources.listing import SourceNotFoundError
from boneage.preprocessing.synthetic import draw_radiograph


@pytest.fixture(scope="module")
def pixels():
    """Half black and half white: 50 months for a girl, 60 for a boy."""
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:, 10:] = 255
    return pixels


@pytest.fixture
def file(tmp_path, half):
    path = tmp_path / "half.png"
    path.write_bytes(half)
    return path


@pytest.mark.parametrize(
    "convert",
    [
        lambda pixels: pixels,
        lambda pixels: pixels.astype(np.uint16) * 257,
        lambda pixels: pixels.astype(">u2"),
        lambda pixels: np.dstack([pixels] * 3),
        Image.fromarray,
        lambda pixels: Image.fromarray(pixels).convert("RGB"),
        lambda pixels: Image.fromarray(pixels).convert("P"),
        lambda pixels: Image.fromarray(pixels.astype(np.uint16) * 257),
    ],
    ids=["uint8", "uint16", "big-endian", "colours", "Pillow", "Pillow RGB", "Pillow palette", "Pillow 16 bits"],
)
def test_predict_image_in_memory(reader, pixels, file, convert):
    from_file = reader.predict(file, sex="female")
    reading = reader.predict(convert(pixels), sex="female")
    assert reading.bone_age_months == from_file.bone_age_months == pytest.approx(50, abs=0.5)
    assert np.array_equal(reading.crop, from_file.crop)


def test_predict_file_and_its_bytes(reader, file, half):
    for form in (file, str(file), half, bytearray(half), memoryview(half)):
        assert reader.predict(form, sex="M").bone_age_months == pytest.approx(60, abs=0.5)


def test_predict_pydicom_dataset(reader, write_dicom, pixels):
    path = write_dicom(pixels, PatientSex="M", PatientAge="060M", PatientName="Nobody^Known")
    dataset = pydicom.dcmread(path)
    before = dataset.to_json()
    reading = reader.predict(dataset)
    assert (reading.sex, reading.bone_age_months) == ("male", pytest.approx(60, abs=0.5))
    assert reading.sds == reader.predict(path).sds and not np.isnan(reading.sds)
    assert dataset.to_json() == before
    assert reader.predict(dataset, sex="female").reasons == ("sex_conflict",)
    bare = pydicom.Dataset()
    bare.PatientName = "Nobody^Known"
    rejected = reader.predict(bare)
    assert rejected.reasons == ("damaged_image",) and "Nobody" not in rejected.detail


def test_predict_unreadable_is_a_reading_with_reasons(reader, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    assert reader.predict(tmp_path / "empty.png").reasons == ("empty_file",)
    reading = reader.predict(b"no picture")
    assert (reading.accepted, reading.reasons, reading.picture, reading.crop) == (False, ("not_an_image",), None, None)
    assert np.isnan(reading.bone_age_months) and "convert it" in reading.detail
    colours = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert reader.predict(colours).reasons == ("not_a_radiograph",)


def test_predict_no_hand_has_reasons_and_pictures(hand_reader):
    reading = hand_reader.predict(np.zeros((100, 80), np.uint8))
    assert not reading.accepted and reading.picture is not None
    assert repr(reading).startswith("Reading(rejected, too_dark")


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4)), "uint8 or uint16.*float64"),
        (np.zeros((2, 4, 4), np.uint8), r"shape.*\(2, 4, 4\); give several images as a list"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (None, "Received: NoneType"),
        ({"a": 1}, "Received: dict"),
    ],
)
def test_predict_refuses_what_is_no_image(reader, image, problem):
    with pytest.raises(ValueError, match=problem):
        reader.predict(image)


def test_predict_refuses_what_it_does_not_understand(reader, pixels, tmp_path):
    with pytest.raises(SourceNotFoundError, match="no such file"):
        reader.predict(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="'femal'"):
        reader.predict(pixels, sex="femal")
    with pytest.raises(ValueError, match="`tta` must be one of"):
        reader.predict(pixels, tta="twelve")
    with pytest.raises(ValueError, match=r"`sex` must be one value, or one for each of 2 images\. Received: 3"):
        reader.predict([pixels, pixels], sex=["F", "F", "M"])


def test_predict_list_is_in_its_order(reader, pixels, file):
    readings = reader.predict(
        [pixels, file, b"none", 255 - pixels], sex=["F", "M", None, "F"], chronological_age_months=60
    )
    assert [reading.sex for reading in readings] == ["female", "male", None, "female"]
    assert [reading.accepted for reading in readings] == [True, True, False, True]
    assert readings[1].sds == reader.predict(file, sex="M", chronological_age_months=60).sds
    assert reader.predict([]) == []


def test_predict_folder_is_the_table_of_predict(write_bundle, drawn, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    frame = load(bundle).predict(drawn)
    pd.testing.assert_frame_equal(frame, boneage.predict(drawn, bundle=bundle, workers=1))
    assert frame["accepted"].all() and len(frame) == 40


def test_predict_table_keeps_rows_and_index(reader, file, tmp_path):
    absent = tmp_path / "absent.png"
    table = pd.DataFrame(
        {
            "file": [file, file, absent, file, None],
            "sex": ["F", "male", "F", "huh", "F"],
            "chronological_age_months": [60, None, 60, 60, 60],
        },
        index=list("edcba"),
    )
    frame = reader.predict(table)
    assert list(frame.index) == list("edcba")
    assert frame["bone_age_months"].tolist() == pytest.approx([50, 60, *[np.nan] * 3], abs=0.5, nan_ok=True)
    assert frame["reasons"].tolist() == ["", "", "missing_file", "sex_unknown", "no_id"]
    assert frame["sds"].notna().tolist() == [True, False, False, False, False]
    assert reader.predict(table[["file"]], sex="M")["sex"].tolist()[:2] == ["male", "male"]
    with pytest.raises(UnreadableTableError, match="a column is missing"):
        reader.predict(table[["sex"]])


def test_predict_in_threads_is_as_alone(hand_reader):
    images = [
        draw_radiograph(12 * (4 + number), sex="male", seed=number, size_px=(256, 205)).pixels for number in (1, 2)
    ]
    alone = [hand_reader.predict(image, sex="male") for image in images]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: hand_reader.predict(image, sex="male"), images * 4))
    for reading, expected in zip(together, alone * 4, strict=True):
        assert reading.bone_age_months == expected.bone_age_months
        assert np.array_equal(reading.crop, expected.crop)


def test_repr_names_the_result(reader, pixels):
    assert repr(reader) == f"Reader(frames (known) {reader.age_bundle.metadata['sha256']['model.onnx'][:12]}, " + (
        "mean absolute error 7.2 months)"
    )
    assert re.fullmatch(
        r"Reading\(50\.\d months, interval 38\.\d to 62\.\d months, female\)", repr(reader.predict(pixels, sex="F"))
    )


def test_repr_html_shows_pictures_and_texts(reader, pixels):
    page = reader.predict(pixels, sex="F", chronological_age_months=60)._repr_html_()
    assert page.count("data:image/png;base64,") == 2 and len(page) < 200_000
    for text in ("Bone age 50.", "Interval: 3 years", "Standard deviation score", "not a medical device"):
        assert text in page
    rejected = reader.predict(b"no picture")._repr_html_()
    assert "Rejected: not_an_image" in rejected and "Use PNG" in rejected and "<img" not in rejected


def test_plot_is_a_figure(reader, pixels):
    for image in (pixels, b"no picture"):
        file = io.BytesIO()
        reader.predict(image, sex="F").plot().savefig(file)
        assert Image.open(file).width > 400


def test_load_again_keeps_the_networks_until_a_file_changes(write_bundle, tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    first, second = load(folder), load(str(folder))
    assert second.age_bundle is first.age_bundle
    (folder / "model.onnx").rename(tmp_path / "model.onnx")
    (folder / "metadata.json").unlink()
    folder.rmdir()
    write_bundle(folder, scale=200.0)
    assert load(folder).digest != first.digest
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="checksum"):
        load(folder)


def test_load_twice_at_once_loads_once(write_bundle, tmp_path, monkeypatch):
    loaded = []

    def count(*args, **options):
        loaded.append(args)
        return load_bundle(*args, **options)

    monkeypatch.setattr("boneage.inference.loading.load_bundle", count)
    folder = write_bundle(tmp_path / "bundle")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        readers = list(threads.map(load, [folder] * 4))
    assert len(loaded) == 1 and len({id(reader.age_bundle) for reader in readers}) == 1
    boneage.predict(folder / "metadata.json", bundle=folder, sex="F")
    assert len(loaded) == 1


def test_load_registered_model(write_bundle, tmp_path, monkeypatch):
    folder = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr("boneage.registry.fetch.fetch_bundle", lambda name: folder)
    assert load("models:/boneage@champion").age_bundle.folder == folder


def test_reader_goes_to_other_processes(reader, pixels):
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.predict(pixels, sex="F").bone_age_months == reader.predict(pixels, sex="F").bone_age_months
