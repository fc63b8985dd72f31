"""The schema of a record, and the encoding of a `Record` as bytes and back.

Records are serialised `tf.train.Example` messages. The message is built with protobuf alone, from the published field
numbers, so that records can be written and verified where TensorFlow is not installed.

Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
"""

import dataclasses
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from boneage.base.errors import BoneAgeError

SCHEMA_VERSION = 4
# Version 3 has no `num_readers` and `reader_sd_months`, version 2 no `group` either; everything else is the same.
READABLE_VERSIONS = (2, 3, SCHEMA_VERSION)
SPLITS = ("train", "validation", "test")
SEXES = ("female", "male")


@dataclasses.dataclass(frozen=True)
class Field:
    """One feature of the schema.

    Args:
        name: Name of the feature in the `tf.train.Example`.
        kind: `"bytes"`, `"string"` (UTF-8 bytes), `"float"` (float32) or `"int"` (int64).
        length: Number of values.
        optional: Whether the feature may be missing.
        unit: Unit of the values, empty where there is none.
        description: One line for people.
    """

    name: str
    kind: str
    length: int
    optional: bool
    unit: str
    description: str


FIELDS = (
    Field("image", "bytes", 1, False, "", "the prepared radiograph: square, 8-bit grey, bright bone, encoded as PNG"),
    Field("id", "string", 1, False, "", "the radiograph's id, unique in the folder"),
    Field("group", "int", 1, True, "", "number of the patient, equal for copies too; missing: a patient of its own"),
    Field("sex", "string", 1, False, "", "`female` or `male`"),
    Field("bone_age_months", "float", 1, True, "months", "the reader's bone age"),
    Field("num_readers", "int", 1, True, "", "number of readers whose readings the bone age joins"),
    Field("reader_sd_months", "float", 1, True, "months", "standard deviation between these readers"),
    Field("chronological_age_months", "float", 1, True, "months", "age of the child on the day of the radiograph"),
    Field("pixel_spacing_mm", "float", 1, True, "mm", "side of one pixel of `image`, after resizing"),
    Field("source_sha256", "string", 1, False, "", "SHA-256 of the source file's bytes"),
    Field("pixel_sha256", "string", 1, False, "", "SHA-256 of the source's decoded pixels: equal for duplicates"),
    Field("original_size_px", "int", 2, False, "pixels", "height and width of the source"),
    Field("crop_box_px", "int", 4, False, "pixels", "left, top, right, bottom in the source; right, bottom exclusive"),
    Field("rotation_degrees", "float", 1, False, "degrees", "turn applied to the source, counter-clockwise positive"),
    Field("mirrored", "int", 1, False, "", "1 if a right hand was mirrored into a left one after the turn, else 0"),
    Field("mask_score", "float", 1, True, "", "trust in the hand mask, 0 to 1; missing without a segmenter"),
    Field(
        "decisions", "string", 1, True, "", "JSON: prompts, scores, landmarks, gate and review; missing without a hand"
    ),
    Field("fingerprint", "string", 1, False, "", "fingerprint of the preprocessing that made `image`"),
)


class SchemaError(BoneAgeError):
    """A record that does not fit the schema, or bytes that are not a record."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One prepared radiograph and its labels. The fields are those of `FIELDS`; None means missing."""

    image: bytes
    id: str
    sex: str
    source_sha256: str
    pixel_sha256: str
    original_size_px: tuple[int, int]
    crop_box_px: tuple[int, int, int, int]
    rotation_degrees: float
    mirrored: int
    fingerprint: str
    group: int | None = None
    bone_age_months: float | None = None
    num_readers: int | None = None
    reader_sd_months: float | None = None
    chronological_age_months: float | None = None
    pixel_spacing_mm: float | None = None
    mask_score: float | None = None
    decisions: str | None = None


def group_key(id: str, group: int | None) -> str:
    """Return a key that is equal for the records of one patient in a folder, whether they have a group or not.

    Radiographs of one patient are not independent: resamples, folds and comparisons are by this key.

    Args:
        id: Id of the record.
        group: Its group; None makes it a group of its own.

    Example:
        >>> group_key("1377", 5), group_key("1377", None)
        ('group:5', '1377')
    """
    # No id contains a colon, see `boneage.preprocessing.sources.listing.is_safe_id`.
    return id if group is None else f"group:{group}"


def male_from_sex(sex: str) -> float:
    """Convert sex to the input of the networks: 1.0 for `"male"`, 0.0 for `"female"`.

    Only here and in `sex_from_male` is sex converted to a number and back.

    Raises:
        ValueError: If `sex` is neither.
    """
    if sex not in SEXES:
        raise ValueError(f"`sex` must be 'female' or 'male'. Received: {sex!r}.")
    return float(sex == "male")


def sex_from_male(male: float) -> str:
    """Convert that number, or the probability of a boy, to the likelier sex: `"male"` above 0.5, else `"female"`."""
    return "male" if male > 0.5 else "female"


def _example_class() -> Any:
    """Build the message class of `tf.train.Example` in a descriptor pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(name: str, parent: Any = file.message_type) -> Any:
        made = parent.add()
        made.name = name
        return made

    def add(owner: Any, name: str, number: int, kind: int, *, repeated: bool = False, type_name: str = "") -> Any:
        label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        made = owner.field.add(name=name, number=number, type=kind, label=label)
        if type_name:
            made.type_name = type_name
        return made

    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        add(message(name), "value", 1, kind, repeated=True)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        member = add(
            feature, name.lower().replace("list", "_list"), number, field.TYPE_MESSAGE, type_name=f".tensorflow.{name}"
        )
        member.oneof_index = 0
    features = message("Features")
    entry = message("FeatureEntry", features.nested_type)
    entry.options.map_entry = True
    add(entry, "key", 1, field.TYPE_STRING)
    add(entry, "value", 2, field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    add(features, "feature", 1, field.TYPE_MESSAGE, repeated=True, type_name=".tensorflow.Features.FeatureEntry")
    add(message("Example"), "features", 1, field.TYPE_MESSAGE, type_name=".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()
_LISTS = {"bytes": "bytes_list", "string": "bytes_list", "float": "float_list", "int": "int64_list"}


def encode(record: Record) -> bytes:
    """Serialise a record as a `tf.train.Example`; equal records give equal bytes.

    Raises:
        SchemaError: If a required field is missing, a list has the wrong length, or the sex is unknown.
    """
    if record.sex not in SEXES:
        raise SchemaError(f"{record.id}: `sex` must be 'female' or 'male'. Received: {record.sex!r}.")
    example = _Example()
    for field in FIELDS:
        value = getattr(record, field.name)
        if value is None:
            if not field.optional:
                raise SchemaError(f"{record.id}: required field `{field.name}` is missing.")
            continue
        values = list(value) if isinstance(value, tuple) else [value]
        if len(values) != field.length:
            raise SchemaError(f"{record.id}: `{field.name}` needs {field.length} values. Received: {len(values)}.")
        if field.kind == "string":
            values = [text.encode() for text in values]
        getattr(example.features.feature[field.name], _LISTS[field.kind]).value.extend(values)
    data: bytes = example.SerializeToString(deterministic=True)
    return data


def decode(data: bytes) -> Record:
    """Read a record from the bytes that `encode` wrote.

    Raises:
        SchemaError: If the bytes are not a `tf.train.Example` or do not fit the schema.
    """
    example = _Example()
    try:
        example.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError is in a different module in each implementation
        raise SchemaError(f"not a record: {error}") from error
    found: dict[str, Any] = {}
    for field in FIELDS:
        values = list(getattr(example.features.feature[field.name], _LISTS[field.kind]).value)
        if not values and field.optional:
            continue
        if len(values) != field.length:
            raise SchemaError(f"`{field.name}` needs {field.length} values. Received: {len(values)}.")
        if field.kind == "string":
            try:
                values = [value.decode() for value in values]
            except UnicodeDecodeError as error:
                raise SchemaError(f"`{field.name}` is not UTF-8 text: {error}.") from error
        found[field.name] = values[0] if field.length == 1 else tuple(values)
    if found["sex"] not in SEXES:
        raise SchemaError(f"{found['id']}: `sex` must be 'female' or 'male'. Received: {found['sex']!r}.")
    return Record(**found)
