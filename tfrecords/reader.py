"""Read a record folder as a `tf.data` pipeline: parallel, deterministic, cached in memory if it fits."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from boneage.base.limits import memory_bytes
from boneage.tfrecords.info import RecordsError, read_info, split_info
from boneage.tfrecords.label_weights import READER_SD_MONTHS, weigh_label
from boneage.tfrecords.schema import FIELDS, SEXES, Field, male_from_sex

# Size of the shuffle buffer in records. The same on every machine, whatever its memory: it decides the order.
SHUFFLE_WINDOW = 4096
_BUFFER_BYTES = 1 << 18
# An optional integer that is missing.
MISSING_INT = -1
Traced = TypeVar("Traced", bound=Callable[..., Any])


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
        shuffle_seed: Seed of an endless stream of full batches, reshuffled each epoch (default: one pass in order, the
            last batch smaller).
        skip_epochs: Number of epochs of that stream to skip, so that a resumed run reads the same batches.
        worker: Index of the worker that reads; it gets its equal share of each batch of that stream.
        num_workers: Number of workers; must divide `batch_size`.
        ids: Ids of the records to read, all of which must be in the split (default: all records).
        deterministic: Whether the order is the same in each run.

    Returns:
        A dataset of dictionaries: `id` and `group` string `(batch,)`, the latter by
        `boneage.tfrecords.schema.group_key`; `image` uint8 `(batch, size, size, 1)`, `male` float32
        `(batch, 1)` (1 male, 0 female), `bone_age_months` and `chronological_age_months` float32 `(batch, 1)`, NaN
        where missing; `label_weight` float32 `(batch,)`, see `boneage.tfrecords.label_weights.weigh_label`.

    Raises:
        RecordsError: If the folder or the split is missing, or a split is too small for one batch.
    """
    described = split_info(read_info(folder), split, folder=folder)
    num_records = described["num_records"]
    files = [str(Path(folder) / shard["file"]) for shard in described["shards"]]
    options = tf.data.Options()
    options.deterministic = deterministic
    # The default size of the buffer, stated, since TensorFlow writes a line to the terminal where it is not.
    records = tf.data.TFRecordDataset(files, buffer_size=_BUFFER_BYTES, num_parallel_reads=min(len(files), 4))
    records = records.with_options(options)
    if ids is not None:
        num_records, records = len(ids), records.filter(_make_id_filter(ids))

    @without_autograph
    def decode(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return decode_record(serialized, input_size=input_size)

    # A quarter of the memory: the network needs the rest. It decides only where the records wait, never their order.
    cached = num_records * input_size**2 < memory_bytes() / 4
    if cached:
        records = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).cache()
    if shuffle_seed is not None:
        used = num_records - num_records % batch_size
        if not used:
            raise RecordsError(
                f"{folder}: split {split!r} has {num_records} records, too few for a batch of {batch_size}; "
                "lower `batch_size`."
            )
        records = records.shuffle(min(num_records, SHUFFLE_WINDOW), seed=shuffle_seed, reshuffle_each_iteration=True)
        records = records.take(used).repeat().skip(skip_epochs * used)
        if num_workers > 1:
            records = records.shard(num_workers, worker)
    if not cached:
        records = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    batches = records.batch(batch_size // num_workers)
    if shuffle_seed is None:
        # A TFRecord file does not state its length, by which Keras finds the end of an epoch.
        batches = batches.apply(tf.data.experimental.assert_cardinality(-(-num_records // batch_size)))
    return batches.prefetch(tf.data.AUTOTUNE)


def _make_id_filter(ids: Collection[str]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a filter function that keeps records with these ids."""
    wanted = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(list(ids), [True] * len(ids)), False)
    features = {"id": next(_feature(field) for field in FIELDS if field.name == "id")}
    return without_autograph(lambda serialized: wanted.lookup(tf.io.parse_single_example(serialized, features)["id"]))


def without_autograph(function: Traced) -> Traced:
    """Return a function that TensorFlow traces as it is, for one whose Python control flow depends on no tensor.

    AutoGraph would take up to a second to rewrite it.
    """
    kept: Traced = tf.autograph.experimental.do_not_convert(function)
    return kept


@contextlib.contextmanager
def translate_shard_errors(folder: str | Path) -> Iterator[None]:
    """Translate TensorFlow's errors about damaged or missing shards into `RecordsError`.

    Raises:
        RecordsError: If a shard is damaged or missing.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise RecordsError(
            f"{folder}: a shard is damaged or missing; run `boneage records {folder} --verify` to find it."
        ) from error


def decode_record(serialized: tf.Tensor, *, input_size: int) -> dict[str, tf.Tensor]:
    """Decode one serialised record into the inputs of a network.

    Args:
        serialized: A `tf.train.Example`, scalar string.
        input_size: Side of the image in pixels.

    Returns:
        `id`, `group`, `image`, `male`, `bone_age_months`, `chronological_age_months`, `label_weight` as in
        `read_records`, without the batch axis.
    """
    ages = ("bone_age_months", "chronological_age_months")
    wanted = ("image", "id", "group", "sex", *ages, "num_readers", "reader_sd_months")
    parsed = tf.io.parse_single_example(
        serialized, {field.name: _feature(field) for field in FIELDS if field.name in wanted}
    )
    image = tf.io.decode_png(parsed["image"], channels=1)
    side = tf.shape(image)[0]
    image = tf.cond(side == input_size, lambda: image, lambda: resize(image, input_size=input_size))
    table = tf.lookup.KeyValueTensorInitializer(SEXES, [male_from_sex(sex) for sex in SEXES])
    return {
        "id": parsed["id"],
        "group": tf.where(
            parsed["group"] == MISSING_INT,
            parsed["id"],
            tf.strings.join(["group:", tf.strings.as_string(parsed["group"])]),
        ),
        "image": tf.ensure_shape(image, (input_size, input_size, 1)),
        "male": tf.reshape(tf.lookup.StaticHashTable(table, -1.0).lookup(parsed["sex"]), (1,)),
        **{name: tf.reshape(parsed[name], (1,)) for name in ages},
        "label_weight": _weigh(parsed["num_readers"], parsed["reader_sd_months"]),
    }


def _weigh(num_readers: tf.Tensor, reader_sd_months: tf.Tensor) -> tf.Tensor:
    number = tf.cast(tf.maximum(num_readers, 1), tf.float32)
    sd = tf.where(tf.math.is_nan(reader_sd_months), READER_SD_MONTHS, reader_sd_months)
    return weigh_label(number, sd)


def _feature(field: Field) -> tf.io.FixedLenFeature:
    dtype = {"bytes": tf.string, "string": tf.string, "float": tf.float32, "int": tf.int64}[field.kind]
    shape = () if field.length == 1 else (field.length,)
    missing = MISSING_INT if field.kind == "int" else float("nan")
    return tf.io.FixedLenFeature(shape, dtype, default_value=missing if field.optional else None)


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
