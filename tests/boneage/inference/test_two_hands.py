"""Films of two hands, drawn: both are read where there is a gap between them, and named by their thumbs."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.inference.predict import predict
from boneage.inference.two_hands import divide_film, read_hands
from boneage.preprocessing.io.radiograph import Radiograph
from boneage.preprocessing.process import analyse_hand


def _film(pixels):
    return Radiograph(np.ascontiguousarray(pixels), None, None, None, None, "0" * 64)


@pytest.fixture
def read(hand_reader):
    """Reads a film, by a model that answers 500 x mean grey."""

    def answer(pixels, *, sex="female"):
        return read_hands(functools.partial(hand_reader.read, path=Path("film")), _film(pixels), sex=sex)

    return answer


@pytest.mark.parametrize("quarter_turns", range(4))
def test_read_hands_reads_both_at_any_rotation(left_hand, both_hands, read, quarter_turns):
    alone = read(left_hand)
    left, right = read(np.rot90(both_hands, quarter_turns)).hands
    assert (left.part.laterality, right.part.laterality) == ("left", "right")
    assert (left.hand.pose.side, right.hand.pose.side) == ("left", "right")
    assert right.other is None
    for reading in (left, right):
        assert reading.warnings[0] == "two_hands"
        assert reading.bone_age_months == pytest.approx(alone.bone_age_months, abs=6)
    # Nothing of the film is lost or read twice.
    assert left.part.pixels.size + right.part.pixels.size == both_hands.size


def test_read_hands_names_the_hands_by_their_thumbs_not_by_their_place(both_hands, read):
    apart = np.hstack([both_hands[:, both_hands.shape[1] // 2 :], both_hands[:, : both_hands.shape[1] // 2]])
    left, right = read(apart).hands
    # The left part of the film now shows the hand with its thumb on the left, which is the right one.
    assert np.array_equal(right.part.pixels, apart[:, : right.part.pixels.shape[1]])
    assert left.hand.pose.side == "left"


def test_read_hands_reads_black_bone_and_other_bit_depths(both_hands, read):
    dark = read(255 - both_hands)
    deep = read(both_hands.astype(np.uint16) * 16)
    assert [len(reading.hands) for reading in (dark, deep)] == [2, 2]


def test_read_hands_leaves_a_film_of_one_hand_as_it_is(left_hand, read, hand_reader):
    reading = read(left_hand)
    plain = hand_reader.read(_film(left_hand), path=Path("film"), sex="female")
    assert (reading.part, reading.other, reading.warnings) == (None, None, plain.warnings)
    assert reading.bone_age_months == plain.bone_age_months


def _shrink(pixels):
    """A hand that is a quarter shorter, on a film of the same height."""
    small = cv2.resize(pixels, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, pixels.shape[0] - small.shape[0], 0, 0, 0, cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("case", ["two left hands", "overlapping", "another person's", "one cut off"])
def test_read_hands_rejects_what_are_not_two_whole_hands(left_hand, both_hands, read, case):
    mirrored, width = left_hand[:, ::-1], left_hand.shape[1]
    overlap = width // 3
    film = {
        "two left hands": np.hstack([left_hand, left_hand]),
        "overlapping": np.hstack(
            [left_hand[:, :-overlap], np.maximum(left_hand[:, -overlap:], mirrored[:, :overlap]), mirrored[:, overlap:]]
        ),
        "another person's": np.hstack([left_hand, _shrink(mirrored)]),
        "one cut off": both_hands[:, : -width // 3],
    }[case]
    rejected = read(film)
    assert rejected.reasons


def test_read_hands_reads_both_for_the_sex_predicted_from_both(both_hands, hand_reader):
    shares = iter([0.9, 0.4])  # that the child is male, by the left part and by the right one
    with_sex = dataclasses.replace(hand_reader, sex_bundle=hand_reader.age_bundle)

    def read(radiograph, *, sex, male_probability=None):
        reading = hand_reader.read(radiograph, path=Path("film"), sex=sex)
        if not reading.accepted:
            return reading
        share = next(shares) if male_probability is None else male_probability
        return with_sex.read(radiograph, path=Path("film"), sex=sex, male_probability=share)

    left, right = read_hands(read, _film(both_hands), sex=None).hands
    assert (left.sex, right.sex) == ("male", "male")
    assert (left.male_probability, right.male_probability) == pytest.approx((0.65, 0.65))
    assert right.warnings == ("two_hands", "sex_from_image")
    # Intervals still reach 12 months below the answer for girls and 9 above that for boys, who are 10 months older.
    assert right.bone_age_months - right.low_months == pytest.approx(22)
    assert right.high_months - right.bone_age_months == pytest.approx(9)


def test_divide_film_needs_the_raw_mask(both_hands, hand_reader):
    hand = analyse_hand(_film(both_hands), hand_reader.config)
    assert len(divide_film(_film(both_hands), hand)) == 2
    without = dataclasses.replace(hand, segmentation=dataclasses.replace(hand.segmentation, candidates=()))
    assert divide_film(_film(both_hands), without) == []


def test_predict_gives_the_left_hand_a_row_with_the_right_one_in_it(both_hands, left_hand, hand_reader, tmp_path):
    source = tmp_path / "films"
    source.mkdir()
    Image.fromarray(both_hands).save(source / "both.png")
    Image.fromarray(left_hand).save(source / "one.png")
    maps, observations = tmp_path / "maps", tmp_path / "fhir"
    frame = predict(
        source,
        bundle=hand_reader.age_bundle.folder,
        sex="female",
        occlusion_maps=maps,
        fhir=observations,
        out=tmp_path / "out.csv",
    ).set_index("id")
    row = frame.loc["both"]
    assert (row["accepted"], row["hand"], row["warnings"]) == (True, "left", "two_hands")
    assert row["right_bone_age_months"] == pytest.approx(row["bone_age_months"], abs=6)
    assert row["right_interval"] == f"{row['right_low_months']:.1f} to {row['right_high_months']:.1f} months"
    assert len(row["reports"].split(";")) == len(set(row["reports"].split(";"))) == 2
    assert np.isnan(frame.loc["one", "right_bone_age_months"])
    assert (frame.loc["one", "hand"], frame.loc["one", "warnings"]) == ("", "")
    # One hand below the other.
    assert [cv2.imread(str(maps / f"{name}.png")).shape[:2] for name in ("both", "one")] == [(768, 768), (384, 768)]


def test_predict_writes_a_report_of_each_hand(both_hands, hand_reader, write_dicom, tmp_path):
    uids = {f"{name}InstanceUID": f"1.2.3.{number}" for number, name in enumerate(("Study", "Series", "SOP"))}
    # The header names the hand that was asked for, and the film shows both.
    path = write_dicom(both_hands, PatientSex="F", ImageLaterality="L", **uids)
    folders = {name: tmp_path / name for name in ("dicom", "fhir")}
    row = predict(path, bundle=hand_reader.age_bundle.folder, **folders).iloc[0]
    assert (row["hand"], row["detail"]) == ("left", "")
    described = sorted(pydicom.dcmread(file).SeriesDescription for file in folders["dicom"].iterdir())
    assert described == [
        "Bone age, left hand of two",
        "Bone age, picture, left hand of two",
        "Bone age, picture, right hand of two",
        "Bone age, right hand of two",
    ]
    sides = {}
    for file in folders["dicom"].iterdir():
        made = pydicom.dcmread(file)
        if made.Modality == "SR":
            (group,) = made.ContentSequence[-1].ContentSequence
            site = next(
                item for item in group.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "363698007"
            )
            side = site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning
            numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
            sides[side] = float(numbers[0].MeasuredValueSequence[0].NumericValue)
        else:
            assert made.Laterality == ("L" if "left" in made.SeriesDescription else "R")
    values = row["bone_age_months"], row["right_bone_age_months"]
    assert sides == pytest.approx(dict(zip(("Left", "Right"), values, strict=True)), abs=0.05)
    observations = [json.loads(file.read_bytes()) for file in folders["fhir"].iterdir()]
    assert {made["bodySite"]["text"]: made["valueQuantity"]["value"] for made in observations} == pytest.approx(
        dict(zip(("Left hand of two", "Right hand of two"), values, strict=True)), abs=0.05
    )
    for made in observations:
        assert any("Left and right are told by the thumbs" in note["text"] for note in made["note"])


def test_command_line_names_both_hands(both_hands, hand_reader, tmp_path, capsys):
    Image.fromarray(both_hands).save(tmp_path / "both.png")
    with pytest.raises(SystemExit):
        sys_argv = ["boneage", "predict", str(tmp_path / "both.png"), "--sex", "F"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [*sys_argv, "--bundle", str(hand_reader.age_bundle.folder)])
            main()
    told = capsys.readouterr().out
    months = r"\d+\.\d months \(\d+\.\d years\), between \d+ and \d+"
    assert re.search(rf"both: left hand {months}; right hand {months}; two hands, told apart by their thumbs", told)
