"""Datasets of training and validation: batches of records, and for training the draws of their augmentation."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import tensorflow as tf

from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.tfrecords.info import read_info
from boneage.tfrecords.reader import read_records, without_autograph
from boneage.training.augmentation import DRAWS, draw
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
    """Return the infinite dataset of training batches: inputs, target, weights and draws, starting at an epoch.

    The weights, float32 `(batch,)`, are those of `TrainConfig.label_weights`; inputs and target are those of
    `to_inputs_and_target`; the draws are those of `boneage.training.augmentation.draw`.

    A radiograph and its draws depend only on the seed and its place in the stream: a resumed run gets the same batches
    as an uninterrupted one, and several workers together get those of one.

    Args:
        data: The record folder.
        experiment: The batch size and the seed.
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

    @without_autograph
    def convert(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> tuple[Any, ...]:
        draws = draw(config.seed, step=step, batch_size=config.batch_size, worker=worker, num_workers=num_workers)
        weights = batch["label_weight"] / mean_weight
        if config.label_weights != "readers":
            weights = tf.ones_like(weights)
        return *to_inputs_and_target(batch, config, draws), weights, draws

    converted = batches.enumerate(first_epoch * steps).map(convert, num_parallel_calls=tf.data.AUTOTUNE)
    return converted.prefetch(tf.data.AUTOTUNE)


def to_inputs_and_target(
    batch: dict[str, tf.Tensor], config: TrainConfig, draws: tf.Tensor | None = None
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Convert a batch of records to the inputs of a network, but for the scale of the image, and its target.

    Args:
        batch: A batch of `boneage.tfrecords.reader.read_records`.
        config: The task, and whether sex and chronological age are inputs.
        draws: By which chronological ages are left out (default: none is).

    Returns:
        The inputs: `image`, uint8 `(batch, size, size, 1)`, and, if used, `male`, float32 `(batch, 1)`, and
        those of `boneage.training.chronological_age.to_age_inputs`. The target: bone age in months, or 1 for male and 0
        for female, float32 `(batch, 1)`.
    """
    inputs = {name: batch[name] for name in (("image", "male") if config.use_sex else ("image",))}
    drawn = None if draws is None else draws[:, DRAWS.index("age"), None]
    inputs |= to_age_inputs(batch["chronological_age_months"], config, drawn)
    return inputs, batch["male" if config.task == "sex" else "bone_age_months"]


def validation_batches(
    data: str | Path, config: TrainConfig, *, split: str = "validation", ids: Collection[str] | None = None
) -> tf.data.Dataset:
    """Return the batches of a split, or of its radiographs with these ids, without augmentation."""
    batches = read_records(data, split=split, input_size=config.input_size, batch_size=config.batch_size, ids=ids)
    return batches.map(without_autograph(lambda batch: to_inputs_and_target(batch, config)))
