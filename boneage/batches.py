"""What a network is trained and validated on: batches of records, augmented for training alone."""

from collections.abc import Collection
from pathlib import Path

import tensorflow as tf

from boneage.augment import augment
from boneage.config import AugmentConfig, Experiment, TrainConfig
from tfrecords.read import read_records


def training_batches(
    data: str | Path,
    experiment: Experiment,
    *,
    steps: int,
    first_epoch: int = 0,
    worker: int = 0,
    num_workers: int = 1,
    ids: Collection[str] | None = None,
) -> tf.data.Dataset:
    """Return the endless stream of augmented training batches, from an epoch on.

    Every draw is a function of the seed, the step and the worker, so that a resumed run sees what it would have seen.

    Args:
        data: The record folder.
        experiment: Gives the size of a batch and the ranges of the augmentation.
        steps: Batches in an epoch.
        first_epoch: Number of epochs to leave out.
        worker: Number of the worker of `num_workers` that the batches are for; it gets its part of each batch.
        num_workers: Number of workers; must divide the size of a batch.
        ids: The radiographs of the training split to learn from; all without them.
    """
    config = experiment.train
    batches = read_records(
        data,
        split="train",
        input_size=config.input_size,
        batch_size=config.batch_size,
        shuffle_seed=config.seed,
        skip_epochs=first_epoch,
        worker=worker,
        num_workers=num_workers,
        ids=ids,
    )
    augmented = batches.enumerate(first_epoch * steps).map(
        lambda step, batch: to_example(
            batch,
            config,
            experiment.augment,
            seed=tf.stack([tf.constant(config.seed, tf.int64), step * num_workers + worker]),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return augmented.prefetch(tf.data.AUTOTUNE)


def to_example(
    batch: dict[str, tf.Tensor],
    config: TrainConfig,
    ranges: AugmentConfig | None = None,
    *,
    seed: tf.Tensor | None = None,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Turn a batch of records into what a network is given and what it should answer.

    Args:
        batch: As `tfrecords.read.read_records` gives it.
        config: Tells what the network is given, and its task.
        ranges: The augmentation; none without them.
        seed: Seed of the augmentation, int64 `(2,)`.

    Returns:
        `image` float32 `(batch, size, size, 1)` in [0, 1] and, where used, `male` float32 `(batch, 1)`; then bone age
        in months or the sex, float32 `(batch, 1)`.
    """
    images = tf.cast(batch["image"], tf.float32) / 255
    if ranges is not None:
        images = augment(images, ranges, seed=seed)
    inputs = {"image": images, "male": batch["male"]} if config.use_sex else {"image": images}
    return inputs, batch["male" if config.task == "sex" else "bone_age_months"]


def validation_batches(
    data: str | Path, config: TrainConfig, *, split: str = "validation", ids: Collection[str] | None = None
) -> tf.data.Dataset:
    """Return a split, or the radiographs of it with these ids, as batches, never augmented."""
    batches = read_records(data, split=split, input_size=config.input_size, batch_size=config.batch_size, ids=ids)
    return batches.map(lambda batch: to_example(batch, config))
