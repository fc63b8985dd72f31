"""The `tf.data` reader: values, order, sizes, and the endless stream that a resumed run goes on with."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from boneage.base.files import write_json
from boneage.tfrecords.info import RecordsError
from boneage.tfrecords.reader import decode_record, read_records, resize
from boneage.tfrecords.schema import encode, group_key
from boneage.tfrecords.writer import INFO_FILE

SIZE = 8
IDS = [f"{number:02d}" for number in range(7)]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (len(IDS), SIZE, SIZE), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_record, write_records, pixels):
    """Seven records to train on in four shards, one without label to validate on."""
    train = [
        make_record(
            id,
            pixels=pixels[index],
            sex="male" if index % 2 else "female",
            bone_age_months=10.0 * index + 1,
            chronological_age_months=None if index == 2 else 9.0 * index,
        )
        for index, id in enumerate(IDS)
    ]
    validation = [make_record("unlabelled", bone_age_months=None)]
    return write_records(tmp_path_factory.mktemp("read") / "records", {"train": train, "validation": validation})


@pytest.fixture(params=["kept decoded", "too large to keep"])
def memory(request, monkeypatch):
    """Run a test with memory for the decoded split and without."""
    if request.param == "too large to keep":
        monkeypatch.setattr("boneage.tfrecords.reader.memory_bytes", lambda: 0)


def read_ids(folder, *, num_batches=-1, **options):
    """Ids of the first batches, one list for each batch."""
    settings = {"split": "train", "input_size": SIZE, "batch_size": 2} | options
    batches = read_records(folder, **settings).take(num_batches)
    return [[id.decode() for id in batch["id"]] for batch in batches.as_numpy_iterator()]


def test_values(folder, memory, pixels):
    batches = read_records(folder, split="train", input_size=SIZE, batch_size=3)
    assert batches.cardinality() == 3
    found = list(batches.as_numpy_iterator())
    assert [len(batch["id"]) for batch in found] == [3, 3, 1]
    together = {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}
    order = [IDS.index(id.decode()) for id in together.pop("id")]
    assert sorted(order) == list(range(len(IDS)))
    assert together.pop("group").tolist() == [IDS[index].encode() for index in order]
    np.testing.assert_array_equal(together["image"], pixels[order][..., None])
    np.testing.assert_array_equal(together["male"], np.float32([[index % 2] for index in order]))
    np.testing.assert_array_equal(together["bone_age_months"], np.float32([[10 * index + 1] for index in order]))
    ages = np.float32([[np.nan if index == 2 else 9 * index] for index in order])
    np.testing.assert_array_equal(together.pop("chronological_age_months"), ages)
    assert together.pop("label_weight").tolist() == [1] * len(IDS)
    dtypes = {key: values.dtype for key, values in together.items()}
    assert dtypes == {"image": np.uint8, "male": np.float32, "bone_age_months": np.float32}


def test_shapes_are_known_before_reading(folder):
    element = read_records(folder, split="train", input_size=SIZE, batch_size=2).element_spec
    shapes = {key: spec.shape.as_list() for key, spec in element.items()}
    expected = {"id": [], "group": [], "image": [SIZE, SIZE, 1], "male": [1], "bone_age_months": [1]}
    expected["chronological_age_months"] = [1]
    expected["label_weight"] = []
    assert shapes == {key: [None, *shape] for key, shape in expected.items()}


@pytest.mark.parametrize(
    ("num_readers", "sd", "weight"), [(None, None, 1), (1, None, 1), (3, None, 3), (3, 0.0, 4.5), (3, 12.0, 1.5)]
)
def test_label_weight_is_that_of_the_readers(num_readers, sd, weight, make_record):
    record = make_record(num_readers=num_readers, reader_sd_months=sd)
    found = decode_record(encode(record), input_size=SIZE)["label_weight"]
    assert float(found) == pytest.approx(weight)


def test_group_is_the_key_of_the_schema(make_record):
    for group in (None, 0, 12):
        record = make_record(group=group)
        key = decode_record(encode(record), input_size=SIZE)["group"].numpy().decode()
        assert key == group_key(record.id, group)


@pytest.mark.parametrize("version", [2, 3])
def test_folder_of_earlier_version_is_read(version, tmp_path, make_record, write_records):
    folder = write_records(tmp_path / "records", {"train": [make_record("a"), make_record("b")]})
    info = json.loads((folder / INFO_FILE).read_text())
    write_json(folder / INFO_FILE, {**info, "schema_version": version})
    (batch,) = read_records(folder, split="train", input_size=SIZE, batch_size=2).as_numpy_iterator()
    assert batch["group"].tolist() == batch["id"].tolist() == [b"a", b"b"]


def test_missing_label_is_nan(folder):
    (batch,) = read_records(folder, split="validation", input_size=SIZE, batch_size=4).as_numpy_iterator()
    assert batch["id"].tolist() == [b"unlabelled"]
    assert np.isnan(batch["bone_age_months"]).all()


def test_order_is_always_the_same(folder, memory):
    assert read_ids(folder) == read_ids(folder)
    assert sorted(id for ids in read_ids(folder) for id in ids) == IDS


def test_reads_only_the_records_that_are_asked_for(folder, memory):
    ids = ["05", "01", "03"]
    batches = read_records(folder, split="train", input_size=SIZE, batch_size=2, ids=ids)
    assert batches.cardinality() == 2
    found = read_ids(folder, ids=ids)
    assert [len(ids_of_shard) for ids_of_shard in found] == [2, 1]
    assert sorted(id for ids_of_shard in found for id in ids_of_shard) == sorted(ids)
    epochs = read_ids(folder, ids=ids, batch_size=3, shuffle_seed=5, num_batches=4)
    assert [sorted(epoch) for epoch in epochs] == [sorted(ids)] * 4
    with pytest.raises(RecordsError, match="has 3 records, too few for a batch of 4"):
        read_ids(folder, ids=ids, batch_size=4, shuffle_seed=5)


def test_one_record_eagerly(make_record, pixels):
    record = decode_record(encode(make_record(pixels=pixels[0])), input_size=SIZE)
    np.testing.assert_array_equal(record["image"][..., 0], pixels[0])
    assert record["male"].numpy().tolist() == [0.0]


@pytest.mark.parametrize(("size", "input_size"), [(37, 16), (16, 37), (40, 20), (9, 8), (64, 7)])
def test_resize_equals_pillow(size, input_size):
    image = np.random.default_rng(size).integers(0, 256, (size, size), np.uint8)
    resized = resize(image[..., None], input_size=input_size)
    assert resized.dtype == tf.uint8
    assert resized.shape == (input_size, input_size, 1)
    expected = Image.fromarray(image.astype(np.float32)).resize((input_size, input_size), Image.Resampling.BILINEAR)
    difference = resized[..., 0].numpy().astype(int) - np.rint(np.asarray(expected)).astype(int)
    assert np.abs(difference).max() <= 1


def test_records_of_another_size_are_resized(folder, pixels):
    (batch,) = read_records(folder, split="train", input_size=5, batch_size=7).as_numpy_iterator()
    for id, image in zip(batch["id"], batch["image"], strict=True):
        np.testing.assert_array_equal(image, resize(pixels[int(id)][..., None], input_size=5))


def test_stream_is_endless_and_newly_shuffled_each_epoch(folder, memory):
    batches = read_ids(folder, shuffle_seed=5, num_batches=12)
    assert [len(ids) for ids in batches] == [2] * 12
    epochs = [[id for ids in batches[start : start + 3] for id in ids] for start in range(0, 12, 3)]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # The record that one epoch leaves out is not always the same.
    assert set().union(*epochs) == set(IDS)


def test_seed_decides_the_stream(folder, memory):
    first = read_ids(folder, shuffle_seed=5, num_batches=9)
    assert read_ids(folder, shuffle_seed=5, num_batches=9) == first
    assert read_ids(folder, shuffle_seed=6, num_batches=9) != first


@pytest.mark.parametrize("skip_epochs", [1, 3])
def test_skipped_epochs_leave_the_rest_as_it_was(folder, memory, skip_epochs):
    whole = read_ids(folder, shuffle_seed=5, num_batches=15)
    later = read_ids(folder, shuffle_seed=5, skip_epochs=skip_epochs, num_batches=15 - 3 * skip_epochs)
    assert later == whole[3 * skip_epochs :]


def test_stream_does_not_depend_on_memory(folder, monkeypatch):
    monkeypatch.setattr("boneage.tfrecords.reader.SHUFFLE_WINDOW", 3)  # smaller than the split
    decoded = read_ids(folder, shuffle_seed=5, num_batches=9)
    monkeypatch.setattr("boneage.tfrecords.reader.memory_bytes", lambda: 0)
    assert read_ids(folder, shuffle_seed=5, num_batches=9) == decoded


def test_split_too_small_for_a_batch(folder):
    with pytest.raises(RecordsError, match=r"'train' has 7 records, too few for a batch of 8; lower `batch_size`"):
        read_records(folder, split="train", input_size=SIZE, batch_size=8, shuffle_seed=0)


def test_unknown_split_or_folder(folder, tmp_path):
    with pytest.raises(RecordsError, match=r"no split 'test'\. It has: train, validation"):
        read_records(folder, split="test", input_size=SIZE, batch_size=2)
    with pytest.raises(RecordsError, match="boneage prepare"):
        read_records(tmp_path, split="train", input_size=SIZE, batch_size=2)
