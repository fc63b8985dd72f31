"""Datasets of training and validation: batches of records, augmented for training only."""

from collections.abc import Collection
from pathlib import Path

import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.tfrecords.info import read_info
from boneage.tfrecords.reader import read_records
from boneage.training.augmentation import augment
from boneage.training.chronological_age import to_age_inputs


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
    """Return the infinite dataset of augmented training batches: inputs, target and weights, starting at an epoch.

    The weights, float32 `(batch,)`, are those of `TrainConfig.label_weights`; inputs and target are those of
    `to_inputs_and_target`.

    Order and augmentation depend only on the seed, the step and the worker: a resumed run gets the same batches as an
    uninterrupted one.

    Args:
        data: The record folder.
        experiment: The batch size and the ranges of the augmentation.
        steps: Number of batches in an epoch.
        first_epoch: Number of epochs to skip.
        worker: Index of the worker, which gets its part of each global batch.
        num_workers: Number of workers; must divide the batch size.
        ids: Ids of the radiographs to use (default: all of the training split).
    """
    config = experiment.train
    mean_weight = read_info(data)["splits"]["train"].get("mean_label_weight", 1.0)
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
        lambda step, batch: (
            *to_inputs_and_target(
                batch,
                config,
                experiment.augment,
                seed=tf.stack([tf.constant(config.seed, tf.int64), step * num_workers + worker]),
            ),
            batch["label_weight"] / mean_weight
            if config.label_weights == "readers"
            else tf.ones_like(batch["label_weight"]),
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return augmented.prefetch(tf.data.AUTOTUNE)


def to_inputs_and_target(
    batch: dict[str, tf.Tensor],
    config: TrainConfig,
    ranges: AugmentConfig | None = None,
    *,
    seed: tf.Tensor | None = None,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Convert a batch of records to the inputs and the target of a network.

    Args:
        batch: A batch of `boneage.tfrecords.reader.read_records`.
        config: The task, and whether sex and chronological age are inputs.
        ranges: Ranges of the augmentation (default: no augmentation).
        seed: Seed of the augmentation, int64 `(2,)`.

    Returns:
        The inputs: `image`, float32 `(batch, size, size, 1)` in [0, 1], and, if used, `male`, float32 `(batch, 1)`, and
        those of `boneage.training.chronological_age.to_age_inputs`. The target: bone age in months, or 1 for male and 0
        for female, float32 `(batch, 1)`.
    """
    images = tf.cast(batch["image"], tf.float32) / 255
    if ranges is not None:
        images = augment(images, ranges, seed=seed)
    inputs = {"image": images, "male": batch["male"]} if config.use_sex else {"image": images}
    inputs |= to_age_inputs(batch["chronological_age_months"], config, seed=seed)
    return inputs, batch["male" if config.task == "sex" else "bone_age_months"]


def validation_batches(
    data: str | Path, config: TrainConfig, *, split: str = "validation", ids: Collection[str] | None = None
) -> tf.data.Dataset:
    """Return the batches of a split, or of its radiographs with these ids, without augmentation."""
    batches = read_records(data, split=split, input_size=config.input_size, batch_size=config.batch_size, ids=ids)
    return batches.map(lambda batch: to_inputs_and_target(batch, config))
