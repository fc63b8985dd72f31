import dataclasses

import pytest

from boneage.inference.messages import explain_warning
from boneage.inference.statements import (
    list_statements,
    name_interval,
    state_by_sex,
    state_centile,
    state_interval,
    state_score,
    state_sex,
    state_sex_in_image,
    state_side,
    tells_sex,
)
from boneage.preprocessing.io.read import read_radiograph


@pytest.fixture(scope="module")
def reading(hand_reader, write_hand):
    path = write_hand()
    return hand_reader.read(read_radiograph(path), path=path, sex="female", chronological_age_months=120)


@pytest.mark.parametrize(
    ("laterality", "side", "text"),
    [
        ("left", None, "left by the header"),
        (None, "left", "thumb lies right: taken for a left hand"),
        (None, "right", "thumb lies left: taken for a right hand, mirrored"),
        ("left", "right", "left by the header; thumb lies left: taken for a right hand, mirrored"),
        (None, None, "unknown"),
    ],
)
def test_state_side(laterality, side, text):
    assert state_side(laterality, side) == text


def test_state_side_names_the_letter():
    assert state_side("left", "left", "left") == (
        "left by the header; letter L on the film; thumb lies right: taken for a left hand"
    )


def test_state_interval_and_ages_by_sex(reading):
    one = dataclasses.replace(reading, low_months=165.4, high_months=188.6)
    assert state_interval(one) == "13 years 9 months to 15 years 9 months"
    both = dataclasses.replace(one, high_months=240.0, predictions={"female": 181.2, "male": 199.9})
    assert state_interval(both) == "13 years 9 months or more, for both sexes"
    assert state_by_sex(both) == "as female 15 years 1 month, as male 16 years 8 months"
    assert state_interval(dataclasses.replace(one, low_months=float("nan"))) == "none with this model"
    assert name_interval({"interval": {"coverage_share": 0.9}}) == "90% interval"
    assert name_interval({}) == "Interval"


def test_state_sex_and_what_the_image_says_of_it(reading):
    assert state_sex(reading) == "female, as given"
    both = dataclasses.replace(reading, predictions={"female": 120.0, "male": 130.0})
    assert state_sex(both) == "female, predicted from the image"
    assert state_sex(dataclasses.replace(both, sex=None)) == "unknown: the bone age is the mean for both sexes"
    for probability, text in ((0.07, "female, probability 93%"), (0.9999, "male, probability 99%")):
        assert state_sex_in_image(dataclasses.replace(reading, male_probability=probability)) == text
    assert state_sex_in_image(reading) == "not predicted with this model"


@pytest.mark.parametrize("probability", [0.496, 0.4999, 0.5, 0.504])
def test_no_sex_is_named_where_whole_percents_are_even(reading, probability):
    even = dataclasses.replace(reading, predictions={"female": 120.0, "male": 130.0}, male_probability=probability)
    assert state_sex_in_image(even) == "the image does not tell: either is as probable"
    assert state_sex(even) == "female, assumed: the image does not tell"
    assert state_sex(dataclasses.replace(even, predictions={"female": 120.0})) == "female, as given"


def test_tells_sex_on_both_sides_of_even():
    assert [tells_sex(probability) for probability in (0.48, 0.494, 0.506, 0.52, float("nan"))] == [True] * 5
    assert not tells_sex(0.4951) and not tells_sex(0.5049)


def test_a_score_stands_beside_its_reference_or_says_why_it_is_missing(reading):
    brush = "Brush Foundation (Greulich and Pyle 1959)"
    known = dataclasses.replace(reading.comparison, sds=-0.63, missing="")
    scored = dataclasses.replace(reading, comparison=known)
    assert state_score(scored) == f"-0.6 by {brush}"
    assert state_centile(scored) == f"27th by {brush}"
    for sds, text in ((-9.7, "below the 1st"), (9.7, "above the 99th"), (-0.8, "21st"), (-1.2, "12th"), (-2, "2nd")):
        extreme = dataclasses.replace(reading, comparison=dataclasses.replace(known, sds=float(sds)))
        assert state_centile(extreme) == f"{text} by {brush}"
    outside = dataclasses.replace(reading, comparison=dataclasses.replace(known, missing="age_outside_table"))
    assert state_score(outside) == f"none: the chronological age is outside the table {brush}"


def test_list_statements_names_the_age_only_where_it_may(reading):
    assert dict(list_statements(reading, metadata={}, with_age=True))["Chronological age"] == "10 years 0 months"
    without = dict(list_statements(reading, metadata={}, with_age=False))
    assert not {"Chronological age", "Difference"} & set(without)
    assert without["Determination"] == reading.comparison.determination


def test_header_and_image_that_disagree_about_the_side_are_a_warning(hand_reader, write_hand):
    for laterality, warnings in (("L", ()), ("R", ("side_looks_wrong",)), ("", ())):
        path = write_hand(ImageLaterality=laterality)
        reading = hand_reader.read(read_radiograph(path), path=path, sex="female")
        assert reading.warnings == warnings
    assert explain_warning("side_looks_wrong").isascii()
