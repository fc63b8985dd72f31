"""Records to bytes and back, and the same bytes as TensorFlow would write and read."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.tfrecords.schema import (
    FIELDS,
    SEXES,
    Record,
    SchemaError,
    decode,
    encode,
    group_key,
    male_from_sex,
)

REQUIRED = [field.name for field in FIELDS if not field.optional]
OPTIONAL = [field.name for field in FIELDS if field.optional]

text = st.text(st.characters(codec="utf-8"))
float32 = st.floats(width=32, allow_nan=False)
int64 = st.integers(-(2**63), 2**63 - 1)
records = st.builds(
    Record,
    image=st.binary(),
    id=text,
    sex=st.sampled_from(SEXES),
    source_sha256=text,
    pixel_sha256=text,
    original_size_px=st.tuples(int64, int64),
    crop_box_px=st.tuples(int64, int64, int64, int64),
    rotation_degrees=float32,
    mirrored=int64,
    fingerprint=text,
    group=st.none() | int64,
    bone_age_months=st.none() | float32,
    chronological_age_months=st.none() | float32,
    pixel_spacing_mm=st.none() | float32,
    mask_score=st.none() | float32,
    decisions=st.none() | text,
)


@settings(deadline=None)
@given(records)
def test_every_record_comes_back_as_it_was(record):
    assert decode(encode(record)) == record


@settings(deadline=None)
@given(records)
def test_equal_records_give_equal_bytes(record):
    assert encode(dataclasses.replace(record)) == encode(record)


def test_fields_describe_the_record():
    assert {field.name for field in FIELDS} == {field.name for field in dataclasses.fields(Record)}
    may_be_missing = {field.name for field in dataclasses.fields(Record) if field.default is None}
    assert may_be_missing == set(OPTIONAL)


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "without optional fields"])
def test_tensorflow_reads_and_writes_the_same(make_record, is_full):
    import tensorflow as tf

    examples = {"string": "{}", "int": 7, "float": 0.5}
    full = {field.name: examples[field.kind] for field in FIELDS if field.optional}
    record = make_record(**(full if is_full else dict.fromkeys(full)))
    example = tf.train.Example.FromString(encode(record))
    lists = {"bytes": "bytes_list", "string": "bytes_list", "float": "float_list", "int": "int64_list"}
    kinds = {field.name: field.kind for field in FIELDS}
    found = {
        name: tuple(value.decode() if kinds[name] == "string" else value for value in feature_list.value)
        for name, feature in example.features.feature.items()
        for feature_list in [getattr(feature, lists[kinds[name]])]
    }
    given_values = {name: value for name, value in dataclasses.asdict(record).items() if value is not None}
    assert found == {name: value if isinstance(value, tuple) else (value,) for name, value in given_values.items()}
    assert decode(example.SerializeToString()) == record


def test_months_are_kept_as_float32(make_record):
    assert decode(encode(make_record(bone_age_months=168.93))).bone_age_months == np.float32(168.93)


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_field_may_be_missing(make_record, name):
    data = encode(make_record(**{name: None}))
    assert name.encode() not in data
    assert getattr(decode(data), name) is None


@pytest.mark.parametrize("name", [name for name in REQUIRED if name not in ("id", "sex")])
def test_required_field_must_be_there(make_record, name):
    with pytest.raises(SchemaError, match=f"1520: required field `{name}` is missing"):
        encode(make_record(**{name: None}))


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [("original_size_px", (20, 16, 1), 2), ("crop_box_px", (0, 2, 16), 4), ("image", (), 1)],
)
def test_wrong_length_is_named(make_record, name, value, needed):
    with pytest.raises(SchemaError, match=f"1520: `{name}` needs {needed} values. Received: {len(value)}"):
        encode(make_record(**{name: value}))


@pytest.mark.parametrize("sex", ["F", "Female", "", None])
def test_unknown_sex_is_refused(make_record, sex):
    with pytest.raises(SchemaError, match=r"1520: `sex` must be 'female' or 'male'\. Received: "):
        encode(make_record(sex=sex))
    with pytest.raises(ValueError, match=r"`sex` must be 'female' or 'male'\. Received: "):
        male_from_sex(sex)


def test_group_key_of_a_group_is_no_id():
    assert group_key("7", 7) == group_key("8", 7) != group_key("7", None) != group_key("8", None)


def test_male_is_one_and_female_is_zero():
    assert [male_from_sex(sex) for sex in ("female", "male")] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"female", b"femail", "1520: `sex` must be"),
        (b"\x041520", b"\x04\xff520", "`id` is not UTF-8 text"),
        (b"fingerprint", b"fingerPrint", "`fingerprint` needs 1 values. Received: 0"),
    ],
    ids=["sex", "text", "name"],
)
def test_bytes_that_do_not_fit_the_schema_are_refused(make_record, old, new, message):
    data = encode(make_record())
    assert data.count(old) == 1
    with pytest.raises(SchemaError, match=message):
        decode(data.replace(old, new))


def test_bytes_that_are_no_record_are_refused():
    with pytest.raises(SchemaError, match="not a record"):
        decode(b"\xff")
    with pytest.raises(SchemaError, match="`image` needs 1 values"):
        decode(b"")
