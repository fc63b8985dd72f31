"""Train one head of a search together with its backbone on part of the training split."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from boneage.base.errors import BoneAgeError
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.models.build import build_network
from boneage.models.fused_batch_norm import assign_weights, fuse_batch_norm
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.info import read_info, split_info
from boneage.tfrecords.reader import read_records, translate_shard_errors
from boneage.tfrecords.schema import decode, group_key
from boneage.training.augmentation import to_values
from boneage.training.datasets import to_inputs_and_target, training_batches, validation_batches
from boneage.training.distribution import distribute, resolve_precision
from boneage.training.fit_loop import fit
from boneage.training.initialise import initialise
from boneage.training.optimizer import use_averages
from boneage.training.schedule import build_for_training, prepare_phases


class DivergedError(BoneAgeError):
    """The loss or the predictions of a network are not finite."""


class TrialTimeoutError(BoneAgeError):
    """A trial needs longer than it may."""


class _TimeLimit(keras.callbacks.Callback):
    """Ends a trial at a time of `time.perf_counter`.

    Raises:
        TrialTimeoutError: After the first batch that ends later.
    """

    def __init__(self, ends_at: float):
        super().__init__()
        self.ends_at = ends_at

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if time.perf_counter() > self.ends_at:
            raise TrialTimeoutError("exceeded its time limit, `trial_seconds`.")


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of the radiographs of a split.

    Args:
        ids: Ids, shape `(radiographs,)`.
        groups: The patient of each, see `boneage.tfrecords.schema.group_key`, shape `(radiographs,)`.
        sexes: `"female"` or `"male"`, shape `(radiographs,)`.
        bone_age_months: float32 `(radiographs,)`.
    """

    ids: np.ndarray
    groups: np.ndarray
    sexes: np.ndarray
    bone_age_months: np.ndarray


def read_labels(data: str | Path) -> Labels:
    """Read the labels of the training split.

    Args:
        data: The record folder.

    Raises:
        BoneAgeError: If a shard is damaged.
    """
    shards = split_info(read_info(data), "train", folder=data)["shards"]
    records = (decode(frame) for shard in shards for frame in read_frames(Path(data) / shard["file"]))
    rows = [(record.id, group_key(record.id, record.group), record.sex, record.bone_age_months) for record in records]
    ids, groups, sexes, months = zip(*rows, strict=True)
    return Labels(np.array(ids), np.array(groups), np.array(sexes), np.array(months, np.float32))


def build_backbone(experiment: Experiment) -> keras.Model:
    """Build the backbone that every trial of a search starts from.

    It is taken from a complete network, because a weights file fits only a complete network.
    """
    config = experiment.train
    keras.utils.set_random_seed(config.seed)
    model = initialise(build_network(config), config.init)
    return model.get_layer(config.backbone)


def hash_weights(backbone: keras.Model) -> str:
    """Return the SHA-256 digest of the weights of a backbone (16 hexadecimal digits)."""
    digest = hashlib.sha256(backbone.name.encode())
    for weight in backbone.get_weights():
        digest.update(str(weight.shape).encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:16]


def train_head(
    config: TrainConfig,
    experiment: Experiment,
    *,
    data: str | Path,
    backbone: Sequence[np.ndarray],
    labels: Labels,
    train_rows: np.ndarray,
    validation_rows: np.ndarray,
    ends_at: float = math.inf,
) -> tuple[dict[str, list[float]], Callable[[np.ndarray], np.ndarray]]:
    """Train a head with its backbone on part of the training split.

    Training starts from the backbone of the search and a random head, also if `init` contains a head, which would
    give an advantage to heads with the same layers.

    Args:
        config: The settings of the trial, see `trial_config`.
        experiment: The ranges of the augmentation.
        data: The record folder.
        backbone: Weights of the backbone from `build_backbone`.
        labels: Labels of the training split.
        train_rows: Indices of the radiographs to train on.
        validation_rows: Indices of the radiographs to validate on after each epoch.
        ends_at: Time of `time.perf_counter` at which the trial ends (default: never).

    Returns:
        The logs of each epoch, see `boneage.training.fit_loop.fit`, and a function from indices of radiographs to the
        predicted bone age in months, float32 `(radiographs,)`.

    Raises:
        DivergedError: If a loss or, later, a prediction is not finite.
        TrialTimeoutError: If the training has not ended by then.
    """
    keras.backend.clear_session()
    ages, steps = labels.bone_age_months[train_rows], len(train_rows) // config.batch_size
    strategy = tf.distribute.get_strategy()
    config = dataclasses.replace(resolve_precision(config, strategy), init="none")
    described = {"mean_months": float(ages.mean()), "std_months": float(ages.std())}
    model = build_for_training(config, **described)
    assign_weights(model.get_layer(config.backbone), backbone)
    trained = fuse_batch_norm(model)
    experiment = dataclasses.replace(experiment, train=config)
    batches = training_batches(data, experiment, steps=steps, ids=labels.ids[train_rows])
    validation = distribute(validation_batches(data, config, split="train", ids=labels.ids[validation_rows]), strategy)
    iterator, history = iter(distribute(batches, strategy)), keras.callbacks.History()
    for epochs in prepare_phases(trained, strategy, config=config, steps=steps):
        with translate_shard_errors(data):
            fit(
                trained,
                strategy,
                config=config,
                ranges=experiment.augment,
                **described,
                batches=iterator,
                validation=validation,
                steps=steps,
                epochs=epochs,
                callbacks=[history, keras.callbacks.TerminateOnNaN(), _TimeLimit(ends_at)],
            )
        if trained.stop_training:
            raise DivergedError("training diverged: the loss is not finite.")

    use_averages(trained)

    def forward(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return trained({**inputs, "image": to_values(inputs["image"])}, training=False)[:, 0]

    compiled = tf.function(forward, reduce_retracing=True, autograph=False)
    return history.history, lambda rows: _predict(compiled, config, data=data, ids=labels.ids[rows])


def _predict(
    forward: Callable[[dict[str, tf.Tensor]], tf.Tensor], config: TrainConfig, *, data: str | Path, ids: np.ndarray
) -> np.ndarray:
    """Predict bone age in months, in the order of the ids."""
    found: dict[str, float] = {}
    with translate_shard_errors(data):
        for batch in read_records(
            data, split="train", input_size=config.input_size, batch_size=config.batch_size, ids=ids
        ):
            inputs, _ = to_inputs_and_target(batch, config)
            found.update(zip((id.decode() for id in batch["id"].numpy()), forward(inputs).numpy(), strict=True))
    months = np.array([found[id] for id in ids], np.float32)
    if not np.isfinite(months).all():
        raise DivergedError("training diverged: predictions are not finite.")
    return months
