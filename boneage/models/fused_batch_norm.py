"""Fused batch normalisation for training: the same network, faster on a CPU.

Keras 3 computes batch normalisation with several operations, each a pass over the feature map; TensorFlow has one fused
operation. A fused copy of the network is trained, and the original is saved: a saved model needs no custom layers.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="boneage")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with TensorFlow's fused operation in training.

    With several replicas it normalises by the statistics of the global batch, with unfused operations. The moving
    variance uses the unbiased variance of the batch.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the statistics of the batch in training, by the moving statistics otherwise."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        normalise = self._normalise if replicas == 1 else functools.partial(self._normalise_together, replicas=replicas)
        normalised, mean, variance = normalise(inputs)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return normalised

    def _normalise(self, inputs: Any) -> tuple[Any, Any, Any]:
        channels = self.moving_mean.shape
        normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones(channels),
            offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros(channels),
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        return normalised, mean, variance

    def _normalise_together(self, inputs: Any, *, replicas: int) -> tuple[Any, Any, Any]:
        """Normalise by the statistics of the global batch, of which all replicas have equal parts."""
        values = tf.cast(inputs, tf.float32)
        mean, variance = keras.ops.moments(values, axes=(0, 1, 2), synchronized=True)
        normalised = tf.nn.batch_normalization(values, mean, variance, self.beta, self.gamma, self.epsilon)
        count = tf.cast(tf.size(values) // self.moving_mean.shape[0] * replicas, tf.float32)
        return tf.cast(normalised, inputs.dtype), mean, variance * count / (count - 1)


@keras.saving.register_keras_serializable(package="boneage")
class FreezableDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that is inactive while frozen, like batch normalisation."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop units in training."""
        return super().call(inputs, training=training and self.trainable)


TRAINING_LAYERS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Dropout: FreezableDropout,
}


def fuse_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy of a network with fused batch normalisation for training; same weights in the same order.

    Args:
        model: A functional model.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        return TRAINING_LAYERS.get(kind, kind).from_config(layer.get_config())

    return _clone(model, copy)


def to_float32(model: keras.Model) -> keras.Model:
    """Return a copy of a network that computes in float32; same weights in the same order.

    Args:
        model: A functional model.
    """
    return _clone(model, lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float32"}))


def _clone(model: keras.Model, copy: Callable[[keras.layers.Layer], keras.layers.Layer]) -> keras.Model:
    cloned = keras.models.clone_model(model, clone_function=copy, recursive=True)
    assign_weights(cloned, model.get_weights())
    return cloned


def assign_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Set the weights of a network, and update the values that normalisation layers derive from them."""
    model.set_weights(weights)
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _all_layers(layer) if isinstance(layer, keras.Model) else [layer]
