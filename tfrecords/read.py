"""Read a record folder as a `tf.data` pipeline: parallel, deterministic, cached where it fits."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
import tensorflow as tf

from tfrecords.info import RecordsError, read_info, split_info
from tfrecords.schema import FIELDS, SEXES, Field, male_from_sex

# Serialised records are shuffled through a window where a split is too large to keep decoded.
SHUFFLE_WINDOW = 4096


def read_records(
    folder: str | Path,
    *,
    split: str,
    input_size: int,
    batch_size: int,
    shuffle_seed: int | None = None,
    skip_epochs: int = 0,
    worker: int = 0,
    num_workers: int = 1,
    ids: Collection[str] | None = None,
    deterministic: bool = True,
) -> tf.data.Dataset:
    """Read one split as batches.

    Args:
        folder: The record folder.
        split: `"train"`, `"validation"` or `"test"`.
        input_size: Side of the images in pixels; records of another size are resized (bilinear, antialiased).
        batch_size: Records in a batch.
        shuffle_seed: With a seed the records come in an endless stream of full batches, newly shuffled each epoch;
            without one they come once, in their order, the last batch smaller.
        skip_epochs: Number of epochs of that stream to leave out, so that a resumed run sees what it would have seen.
        worker: Number of the worker that reads: of each batch of that stream it gets its equal part alone.
        num_workers: Number of workers; must divide `batch_size`.
        ids: Reads only these records, each of which must be in the split.
        deterministic: Whether the order is the same in each run.

    Returns:
        A dataset of dictionaries: `id` string `(batch,)`, `image` uint8 `(batch, size, size, 1)`, `male` float32
        `(batch, 1)` (1 male, 0 female), `bone_age_months` float32 `(batch, 1)`, NaN where missing.

    Raises:
        RecordsError: If the folder or the split is not there, or a split is too small for one batch.
    """
    described = split_info(read_info(folder), split, folder=folder)
    num_records = described["num_records"]
    files = [str(Path(folder) / shard["file"]) for shard in described["shards"]]
    options = tf.data.Options()
    options.deterministic = deterministic
    records = tf.data.TFRecordDataset(files, num_parallel_reads=min(len(files), 4)).with_options(options)
    if ids is not None:
        num_records, records = len(ids), records.filter(_tell_by_id(ids))

    def decode(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return decode_record(serialized, input_size=input_size)

    # A quarter of the memory: the network needs the rest. Not of what is free: a resumed run must decide alike.
    cached = num_records * input_size**2 < psutil.virtual_memory().total / 4
    if cached:
        records = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).cache()
    if shuffle_seed is not None:
        used = num_records - num_records % batch_size
        if not used:
            raise RecordsError(
                f"{folder}: split {split!r} has {num_records} records, too few for a batch of {batch_size}; "
                "lower `batch_size`."
            )
        # All workers must shuffle alike, also where the memory of one of them is too small to keep the split.
        window = num_records if cached and num_workers == 1 else min(num_records, SHUFFLE_WINDOW)
        records = records.shuffle(window, seed=shuffle_seed, reshuffle_each_iteration=True)
        records = records.take(used).repeat().skip(skip_epochs * used)
        if num_workers > 1:
            records = records.shard(num_workers, worker)
    if not cached:
        records = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    batches = records.batch(batch_size // num_workers)
    if shuffle_seed is None:
        # A TFRecord file does not tell its length; told it, Keras knows where an epoch ends.
        batches = batches.apply(tf.data.experimental.assert_cardinality(-(-num_records // batch_size)))
    return batches.prefetch(tf.data.AUTOTUNE)


def _tell_by_id(ids: Collection[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return what tells whether a serialised record is one of these."""
    wanted = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(list(ids), [True] * len(ids)), False)
    features = {"id": next(_feature(field) for field in FIELDS if field.name == "id")}
    return lambda serialized: wanted.lookup(tf.io.parse_single_example(serialized, features)["id"])


@contextlib.contextmanager
def name_damage(folder: str | Path) -> Iterator[None]:
    """Turn TensorFlow's complaint about a damaged or missing shard, met while reading, into one line.

    Raises:
        RecordsError: In place of TensorFlow's error.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise RecordsError(
            f"{folder}: a shard is damaged or missing; `boneage records {folder} --verify` tells which."
        ) from error


def decode_record(serialized: tf.Tensor, *, input_size: int) -> dict[str, tf.Tensor]:
    """Decode one serialised record into what a network needs.

    Args:
        serialized: A `tf.train.Example`, scalar string.
        input_size: Side of the image in pixels.

    Returns:
        `id`, `image`, `male`, `bone_age_months` as in `read_records`, without the batch axis.
    """
    wanted = ("image", "id", "sex", "bone_age_months")
    parsed = tf.io.parse_single_example(
        serialized, {field.name: _feature(field) for field in FIELDS if field.name in wanted}
    )
    image = tf.io.decode_png(parsed["image"], channels=1)
    side = tf.shape(image)[0]
    image = tf.cond(side == input_size, lambda: image, lambda: resize(image, input_size=input_size))
    table = tf.lookup.KeyValueTensorInitializer(SEXES, [male_from_sex(sex) for sex in SEXES])
    return {
        "id": parsed["id"],
        "image": tf.ensure_shape(image, (input_size, input_size, 1)),
        "male": tf.reshape(tf.lookup.StaticHashTable(table, -1.0).lookup(parsed["sex"]), (1,)),
        "bone_age_months": tf.reshape(parsed["bone_age_months"], (1,)),
    }


def _feature(field: Field) -> tf.io.FixedLenFeature:
    dtype = {"bytes": tf.string, "string": tf.string, "float": tf.float32, "int": tf.int64}[field.kind]
    shape = () if field.length == 1 else (field.length,)
    return tf.io.FixedLenFeature(shape, dtype, default_value=float("nan") if field.optional else None)


def resize(image: tf.Tensor, *, input_size: int) -> tf.Tensor:
    """Resize a square image to `input_size` with a bilinear (triangle) filter that does not alias.

    Args:
        image: Shape `(size, size, 1)`, uint8.
        input_size: Side of the result in pixels.

    Returns:
        Shape `(input_size, input_size, 1)`, uint8. Pillow's `BILINEAR` on float pixels gives the same within rounding.
    """
    resized = tf.image.resize(image, (input_size, input_size), method="bilinear", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)
