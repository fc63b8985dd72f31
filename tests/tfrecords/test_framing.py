"""The TFRecord file format: the same bytes as TensorFlow's, and no damage that goes unnoticed."""

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.tfrecords.framing import FRAME_BYTES, DamagedShardError, frame_record, read_frame_at, read_frames

CONTENTS = [b"first", b"", bytes(range(40))]
WHOLE = b"".join(map(frame_record, CONTENTS))
ENDS = [sum(len(frame_record(content)) for content in CONTENTS[:number]) for number in range(4)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("framing") / "train-00000-of-00001.tfrecord"


def test_tensorflow_reads_and_writes_the_same(tmp_path):
    import tensorflow as tf

    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for content in CONTENTS:
            writer.write(content)
    assert theirs.read_bytes() == WHOLE
    ours.write_bytes(WHOLE)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(ours))] == list(read_frames(ours)) == CONTENTS


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_every_file_comes_back_as_it_was(path, contents):
    frames = [frame_record(content) for content in contents]
    path.write_bytes(b"".join(frames))
    assert list(read_frames(path)) == contents
    assert [len(frame) for frame in frames] == [len(content) + FRAME_BYTES for content in contents]


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, len(WHOLE) - 1), flipped=st.integers(1, 255))
def test_damage_is_found_wherever_it_is(path, position, flipped):
    damaged = bytearray(WHOLE)
    damaged[position] ^= flipped
    path.write_bytes(damaged)
    offset = max(end for end in ENDS if end <= position)
    with pytest.raises(DamagedShardError, match=rf"train-00000-of-00001\.tfrecord: damaged at byte {offset};"):
        list(read_frames(path))


@pytest.mark.parametrize("length", [length for length in range(len(WHOLE)) if length not in ENDS])
def test_truncated_file_is_found(path, length):
    path.write_bytes(WHOLE[:length])
    with pytest.raises(DamagedShardError, match="damaged at byte"):
        list(read_frames(path))


def test_impossible_length_allocates_nothing(path):
    length = struct.pack("<Q", 2**62)
    crc = google_crc32c.value(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # The mask of the format's description.
    path.write_bytes(length + struct.pack("<I", masked) + b"data")
    with pytest.raises(DamagedShardError, match="damaged at byte 0"):
        list(read_frames(path))


def test_one_record_by_its_offset(path):
    path.write_bytes(WHOLE)
    with path.open("rb") as file:
        assert [read_frame_at(file, offset) for offset in reversed(ENDS[:3])] == CONTENTS[::-1]
        with pytest.raises(DamagedShardError, match="damaged at byte 1"):
            read_frame_at(file, 1)
        with pytest.raises(DamagedShardError, match=f"ends before byte {len(WHOLE)}"):
            read_frame_at(file, len(WHOLE))
