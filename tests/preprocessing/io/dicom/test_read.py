"""What a DICOM file tells besides its pixels, every bad file, and nothing personal let out."""

import logging
import re
import struct
import traceback
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from boneage.preprocessing.io.dicom.exposure import read_exposure
from boneage.preprocessing.io.dicom.read import DicomHeader, read_dicom_header
from boneage.preprocessing.io.radiograph import UnreadableImageError, resolve_sex
from boneage.preprocessing.io.read import read_radiograph

NAME, PATIENT_ID, BIRTH_DATE = "Quillfeather^Zebediah", "MRN-7718293", "20120229"
NUMBER = "1111111111111111"  # Stands where only a number can be written, until it is overwritten in the file.
IMAGE_8 = np.add.outer(np.arange(32) * 4, np.arange(40) * 3).astype(np.uint8)
IMAGE_12 = IMAGE_8.astype(np.uint16) * 16 + 5
LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLossless]


def test_file_without_prefix_is_read(write_dicom):
    path = write_dicom(IMAGE_12, bits_stored=12)
    whole = path.read_bytes()
    meta_length = struct.unpack_from("<I", whole, 140)[0]
    for start in (132, 144 + meta_length):  # Without the preamble, then without the file meta information too.
        path.write_bytes(whole[start:])
        np.testing.assert_array_equal(read_radiograph(path).pixels, IMAGE_12, strict=True)
        assert read_dicom_header(path).sop_instance_uid == "1.2.826.0.1.3680043.8.498.1"


def test_preamble_may_pretend_to_be_a_tiff(write_dicom):
    path = write_dicom(IMAGE_8)
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    np.testing.assert_array_equal(read_radiograph(path).pixels, IMAGE_8, strict=True)


@pytest.mark.parametrize(
    ("elements", "spacing_mm"),
    [
        ({}, None),
        ({"PixelSpacing": [0.143, 0.144]}, (0.143, 0.144)),
        ({"PixelSpacing": [0.15, 0.14]}, (0.14, 0.14)),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.1, 0.1)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 1.25}, (0.08, 0.08)),
        ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.1]}, (0.15, 0.15)),
        ({"PixelSpacing": None, "NominalScannedPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
        ({"PixelSpacing": [0, 0]}, None),
    ],
)
def test_pixel_spacing(write_dicom, elements, spacing_mm):
    assert read_radiograph(write_dicom(IMAGE_8, **elements)).pixel_spacing_mm == (
        spacing_mm and pytest.approx(spacing_mm)
    )


BORN, STUDIED = {"PatientBirthDate": "20100115"}, {"StudyDate": "20200715"}  # 3834 days: 125.96 months.


@pytest.mark.parametrize(
    ("elements", "months"),
    [
        ({}, None),
        ({"PatientAge": "010Y"}, 120),
        ({"PatientAge": "125M"}, 125),
        ({"PatientAge": "052W"}, 52 * 7 / 30.4375),
        ({"PatientAge": "365D"}, 365 / 30.4375),
        ({"PatientAge": ""}, None),
        (BORN | STUDIED, 3834 / 30.4375),
        (BORN, None),
        ({"PatientBirthDate": "20210101", **STUDIED}, None),
        ({"PatientAge": "010Y", **BORN, **STUDIED}, 3834 / 30.4375),
        ({"PatientAge": "006Y", "PatientBirthDate": "19000101", **STUDIED}, 72),
        ({"PatientAge": "016Y", **BORN, **STUDIED}, 192),
    ],
)
def test_chronological_age(write_dicom, elements, months):
    path = write_dicom(IMAGE_8, **elements)
    expected = months and pytest.approx(months)
    assert read_radiograph(path).chronological_age_months == expected
    assert read_dicom_header(path).chronological_age_months == expected


@pytest.mark.parametrize(
    ("elements", "sex", "laterality"),
    [
        ({}, None, None),
        ({"PatientSex": "F", "ImageLaterality": "L"}, "female", "left"),
        ({"PatientSex": "M", "Laterality": "R"}, "male", "right"),
        ({"PatientSex": "O", "ImageLaterality": "U"}, None, None),
        ({"PatientSex": "", "ImageLaterality": "", "Laterality": "L"}, None, "left"),
        ({"PatientSex": " m"}, "male", None),
        ({"PatientSex": "MALE"}, "male", None),
        ({"PatientSex": "f"}, "female", None),
    ],
)
def test_sex_and_laterality(write_dicom, elements, sex, laterality):
    path = write_dicom(IMAGE_8, **elements)
    radiograph, header = read_radiograph(path), read_dicom_header(path)
    assert (radiograph.sex, radiograph.laterality) == (header.sex, header.laterality) == (sex, laterality)


@pytest.mark.parametrize(("text", "shown"), [("W", "W"), ("1", "1"), ("Jane Doe", "?"), ("M\\F", "?")])
def test_sex_that_is_not_understood_is_kept_and_settled_by_nobody(write_dicom, text, shown):
    path = write_dicom(IMAGE_8, PatientSex=text)
    radiograph = read_radiograph(path)
    assert (radiograph.sex, radiograph.unknown_sex, read_dicom_header(path).sex) == (None, shown, None)
    for sex in (None, "female", "male"):
        with pytest.raises(UnreadableImageError, match=f"PatientSex is '{re.escape(shown)}', which is not") as caught:
            resolve_sex(radiograph, sex, path=path)
        assert caught.value.reason == "sex_unknown"


def test_resolve_sex_finds_every_contradiction(write_dicom):
    for text in ("M", "m", "male", "MALE", " M"):
        path = write_dicom(IMAGE_8, PatientSex=text)
        radiograph = read_radiograph(path)
        assert resolve_sex(radiograph, None, path=path) == resolve_sex(radiograph, "male", path=path) == "male"
        with pytest.raises(UnreadableImageError, match="the header says male, the request says female") as caught:
            resolve_sex(radiograph, "female", path=path)
        assert caught.value.reason == "sex_conflict"


@pytest.mark.parametrize("word", ["ANONYMOUS", "anonymous", "Anonymized", "REMOVED", "unknown", "^^^"])
def test_word_for_everybody_is_no_patient(write_dicom, word):
    header = read_dicom_header(write_dicom(IMAGE_8, PatientID=word, StudyInstanceUID="1.2.3"))
    assert header.patient is None and header.study is not None


def test_header_groups_files_by_patient(write_dicom):
    patients = [
        read_dicom_header(write_dicom(IMAGE_8, **elements)).patient
        for elements in (
            {"PatientID": PATIENT_ID, "PatientName": NAME},
            {"PatientID": f"{PATIENT_ID} ", "PatientName": ""},
            {"PatientID": PATIENT_ID, "IssuerOfPatientID": "elsewhere"},
            {"PatientID": "MRN-1"},
            {"PatientID": "", "PatientName": NAME},
        )
    ]
    assert patients[0] == patients[1]
    assert len(set(patients)) == 4 and patients[4] is None
    assert len(patients[0]) == 64 and PATIENT_ID not in patients[0]


def test_header_reads_no_pixels(write_dicom):
    path = write_dicom(IMAGE_8, PatientSex="F")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(IMAGE_8.tobytes())])
    assert read_dicom_header(path) == DicomHeader(
        sop_instance_uid="1.2.826.0.1.3680043.8.498.1",
        patient=None,
        study=None,
        sex="female",
        chronological_age_months=None,
        laterality=None,
    )


BAD = {
    "no pixels": ({"remove": ["PixelData"]}, "no_pixels"),
    "empty pixels": ({"PixelData": b""}, "no_pixels"),
    "several frames": ({"NumberOfFrames": 2, "PixelData": 2 * IMAGE_8.tobytes()}, "multi_frame"),
    "colour": (
        {
            "SamplesPerPixel": 3,
            "PhotometricInterpretation": "RGB",
            "PixelData": np.dstack([IMAGE_8 // 2 + 120, IMAGE_8 // 2, IMAGE_8.T.reshape(32, 40) // 3]).tobytes(),
        },
        "not_a_radiograph",
    ),
    "palette without its colours": ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged_image"),
    "unknown colours": ({"PhotometricInterpretation": "CMYK"}, "not_a_radiograph"),
    "raw detector values": ({"PresentationIntentType": "FOR PROCESSING"}, "for_processing"),
    "raw detector values by class": (
        {"SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
        "for_processing",
    ),
    "raw detector values with a window": (
        {"PresentationIntentType": "for processing ", "WindowCenter": 100, "WindowWidth": 200},
        "for_processing",
    ),
    "high bit below the sample": ({"HighBit": 5}, "damaged_image"),
    "high bit beyond the word": ({"HighBit": 8}, "damaged_image"),
    "pixels ten times as high as wide": ({"PixelSpacing": [1, 0.1]}, "damaged_image"),
    "32 bits": ({"BitsAllocated": 32}, "not_a_radiograph"),
    "rows and columns beyond reason": ({"Rows": 60_000, "Columns": 60_000}, "too_large"),
    "no rows": ({"Rows": 0}, "damaged_image"),
    "fewer pixels than claimed": ({"Rows": 33}, "damaged_image"),
    "more bits stored than allocated": ({"BitsStored": 12}, "damaged_image"),
    "film of many frames": ({"syntax": uid.MPEG2MPML}, "unsupported_encoding"),
    "fewer compressed pixels than claimed": ({"syntax": uid.RLELossless, "Rows": 33}, "damaged_image"),
}


@pytest.mark.parametrize(("options", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_file_is_refused_in_one_line(write_dicom, options, reason):
    path = write_dicom(IMAGE_8, **options)
    with pytest.raises(UnreadableImageError) as caught:
        read_radiograph(path)
    assert caught.value.reason == reason
    message = str(caught.value)
    assert str(path) in message and ";" in message and "\n" not in message and len(message) < len(str(path)) + 130


@pytest.mark.parametrize("syntax", LOSSLESS[1:], ids=lambda syntax: syntax.keyword)
def test_size_inside_the_compressed_pixels_is_checked_before_decoding(write_dicom, syntax):
    for claims in ({"Rows": 31}, {"Columns": 41}):
        with pytest.raises(UnreadableImageError, match="disagree on the size") as caught:
            read_radiograph(write_dicom(IMAGE_8, syntax=syntax, **claims))
        assert caught.value.reason == "damaged_image"


def test_read_dicom_for_processing_with_a_table_for_display(write_dicom):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], bytes(range(255, -1, -1))
    table["LUTData"].VR = "OW"
    path = write_dicom(IMAGE_8, PresentationIntentType="FOR PROCESSING", VOILUTSequence=[table])
    np.testing.assert_array_equal(read_radiograph(path).pixels, 255 - IMAGE_8, strict=True)


def test_header_of_something_else_is_refused(tmp_path):
    path = tmp_path / "notes.dcm"
    path.write_text("age;sex")
    for wrong, reason in ((path, "not_an_image"), (tmp_path / "nowhere.dcm", "missing_file")):
        with pytest.raises(UnreadableImageError) as caught:
            read_dicom_header(wrong)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"PatientBirthDate": f"{BIRTH_DATE} {NAME}", "PatientAge": f"{PATIENT_ID} {NAME}"},
        {"StudyDate": NAME, "PatientSex": NAME, "ImageLaterality": PATIENT_ID, "SOPInstanceUID": NAME},
        {"WindowCenter": NUMBER, "WindowWidth": 100},
        {"PixelSpacing": [NUMBER, NUMBER]},
        {"PhotometricInterpretation": NAME},
        {"SpecificCharacterSet": NAME},
        {"Rows": 5},
        {"PixelData": IMAGE_8.tobytes() + NAME.encode()},
    ],
    ids=lambda elements: "+".join(elements) or "sound",
)
def test_nothing_personal_leaves(write_dicom, caplog, capfd, elements):
    caplog.set_level(logging.DEBUG)
    personal = {"PatientName": NAME, "PatientID": PATIENT_ID, "PatientBirthDate": BIRTH_DATE, "StudyDate": "20230301"}
    with warnings.catch_warnings():
        # pydicom complains of values that the standard forbids; they are the point of the test.
        warnings.simplefilter("ignore", UserWarning)
        path = write_dicom(IMAGE_8, **(personal | elements))
    path.write_bytes(path.read_bytes().replace(NUMBER.encode(), NAME[: len(NUMBER)].encode()))
    caplog.clear()
    let_out = []
    for read in (read_radiograph, read_dicom_header, read_exposure):
        try:
            let_out.append(repr(read(path)))
        except UnreadableImageError as error:
            let_out.append("".join(traceback.format_exception(error)))
    let_out += [caplog.text, *capfd.readouterr()]
    for secret in (*NAME.split("^"), PATIENT_ID, BIRTH_DATE):
        assert not any(secret in text for text in let_out)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless], ids=["plain", "compressed"])
def test_the_header_comes_with_the_radiograph_and_holds_no_pixels(write_dicom, syntax):
    path = write_dicom(IMAGE_8, syntax=syntax, PatientName=NAME, StudyInstanceUID="1.2.3")
    header = read_radiograph(path).header
    assert header == pydicom.dcmread(path, stop_before_pixels=True)
    assert str(header.PatientName) == NAME
    assert "PixelData" not in header and getattr(header, "_pixel_array", None) is None


@pytest.fixture(scope="module")
def whole_files(write_dicom):
    """Sound files, plain and compressed, as bytes."""
    plain = write_dicom(IMAGE_12, bits_stored=12, WindowCenter=900, WindowWidth=700, PatientID=PATIENT_ID)
    compressed = [write_dicom(IMAGE_12, bits_stored=12, syntax=syntax) for syntax in LOSSLESS]
    return [path.read_bytes() for path in (plain, *compressed)]


@settings(deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused_or_whole(tmp_path_factory, whole_files, data):
    whole = data.draw(st.sampled_from(whole_files))
    path = tmp_path_factory.getbasetemp() / "cut.dcm"
    path.write_bytes(whole)
    expected = read_radiograph(path).pixels
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    for read in (read_radiograph, read_dicom_header):
        try:
            result = read(path)
        except UnreadableImageError as error:
            assert error.reason in {"empty_file", "not_an_image", "damaged_image", "no_pixels"}
        else:
            # The last bytes may be padding or an end mark.
            assert read is read_dicom_header or np.array_equal(result.pixels, expected)


@settings(deadline=None)
@given(data=st.data())
def test_a_changed_byte_meets_no_other_error(tmp_path_factory, whole_files, data):
    changed = bytearray(data.draw(st.sampled_from(whole_files)))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.dcm"
    path.write_bytes(changed)
    for read in (read_radiograph, read_dicom_header):
        try:
            read(path)
        except UnreadableImageError as error:
            assert error.reason not in {"missing_file", "empty_file"}
