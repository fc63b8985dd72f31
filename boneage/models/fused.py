"""Batch normalisation in one pass while training: the same network, markedly faster on a CPU.

Keras 3 composes batch normalisation of single operations, each a pass over the feature map, where TensorFlow has one
operation for it all. A network is trained as a fused copy and saved as what it was: a saved model needs none of this.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="boneage")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose training step is TensorFlow's fused operation.

    Where several replicas have parts of a batch, it normalises by the whole of it, in more than one pass. The moving
    variance takes the unbiased variance of the batch, as Keras 2 did; all else is equal.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        As the input.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise by the batch while training, by the moving statistics otherwise."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        normalise = self._normalise if replicas == 1 else functools.partial(self._normalise_together, replicas=replicas)
        normalised, mean, variance = normalise(inputs)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return normalised

    def _normalise(self, inputs):
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

    def _normalise_together(self, inputs, *, replicas):
        """Normalise by what all replicas, which have equal parts of the batch, see."""
        values = tf.cast(inputs, tf.float32)
        mean, variance = keras.ops.moments(values, axes=(0, 1, 2), synchronized=True)
        normalised = tf.nn.batch_normalization(values, mean, variance, self.beta, self.gamma, self.epsilon)
        count = tf.cast(tf.size(values) // self.moving_mean.shape[0] * replicas, tf.float32)
        return tf.cast(normalised, inputs.dtype), mean, variance * count / (count - 1)


@keras.saving.register_keras_serializable(package="boneage")
class FreezableDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that drops nothing while it is not trainable, as batch normalisation then rests."""

    def call(self, inputs, training=False):
        """Drop units while training."""
        return super().call(inputs, training=training and self.trainable)


TRAINING_LAYERS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.BatchNormalization: FusedBatchNormalization,
    keras.layers.Dropout: FreezableDropout,
}


def fuse(model: keras.Model) -> keras.Model:
    """Return a copy of a network, same weights in the same order, to train: with fused batch normalisation.

    Args:
        model: A functional model.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        return TRAINING_LAYERS.get(kind, kind).from_config(layer.get_config())

    return _clone(model, copy)


def in_float32(model: keras.Model) -> keras.Model:
    """Return a copy of a network, same weights in the same order, that computes in float32 whatever the original does.

    Args:
        model: A functional model.
    """
    return _clone(model, lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float32"}))


def _clone(model: keras.Model, copy: Callable[[keras.layers.Layer], keras.layers.Layer]) -> keras.Model:
    cloned = keras.models.clone_model(model, clone_function=copy, recursive=True)
    assign_weights(cloned, model.get_weights())
    return cloned


def assign_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Set the weights of a network, and unlike `set_weights` what normalisation layers derive from theirs."""
    model.set_weights(weights)
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _all_layers(layer) if isinstance(layer, keras.Model) else [layer]
