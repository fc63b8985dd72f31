"""Losses of a batch: of the bone age, of its distribution over months, and of the sex."""

import keras
import tensorflow as tf

from boneage.configuration.training import TrainConfig

KERAS_LOSSES = {
    "mae": keras.losses.mean_absolute_error,
    "mse": keras.losses.mean_squared_error,
    "huber": keras.losses.huber,
    "log_cosh": keras.losses.log_cosh,
}

LABEL_STD_MONTHS = 6.0
"""Standard deviation of the softened label, in months; a choice of this package, about the error of a reader."""

DIVERGENCE_MONTHS = 12.0
"""Weight of the divergence from the softened label, in months: in the paper both terms have the weight 1, in years."""


def compute_losses(
    predicted: tf.Tensor, truth: tf.Tensor, *, config: TrainConfig, logits: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the loss of each radiograph.

    The head `"distribution"` adds to the loss of the expectation the Kullback-Leibler divergence of the predicted
    distribution from the label, softened to a normal distribution: expectation and distribution are learnt together, as
    in DLDL-v2 (Gao et al. 2018, Age estimation using expectation of label distribution learning, IJCAI).

    Args:
        predicted: Bone age in months, float32 `(batch, 1)`; for the task `"sex"` the probability of male.
        truth: Bone age in months, float32 `(batch, 1)`; for the task `"sex"` 1 for male and 0 for female.
        config: The task and its loss.
        logits: Logits of the months from 0, float32 `(batch, months)`, of the head `"distribution"`.

    Returns:
        Losses, float32 `(batch,)`.
    """
    if config.task == "sex":
        return keras.losses.binary_crossentropy(truth, predicted)
    losses = KERAS_LOSSES[config.loss](truth, predicted)
    if logits is None:
        return losses
    months = tf.range(logits.shape[-1], dtype=tf.float32)
    label = tf.nn.log_softmax(-tf.square((months - truth) / LABEL_STD_MONTHS) / 2)
    divergence = tf.reduce_sum(tf.exp(label) * (label - tf.nn.log_softmax(logits)), axis=-1)
    return losses + DIVERGENCE_MONTHS * divergence


def weigh_losses(
    losses: tf.Tensor, truth: tf.Tensor, *, mean_months: float, std_months: float, config: TrainConfig
) -> tf.Tensor:
    """Weigh the losses of a batch by the distance of the bone age from the mean, see `TrainConfig.outer_weight`.

    Args:
        losses: Loss of each radiograph, float32 `(batch,)`.
        truth: Bone age in months, float32 `(batch, 1)`; the sex of the task `"sex"`, whose losses stay as they are.
        mean_months: Mean bone age of the train split, in months.
        std_months: Its standard deviation, in months.
        config: The task and its `outer_weight`.

    Returns:
        Weighted losses, float32 `(batch,)`; the mean weight over the train split is 1.
    """
    if config.task != "age" or not config.outer_weight or not std_months:
        return losses
    squares = tf.square((truth[:, 0] - mean_months) / std_months)
    return losses * (1 + config.outer_weight * squares) / (1 + config.outer_weight)
