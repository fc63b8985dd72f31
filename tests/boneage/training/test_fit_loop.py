import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.fit_loop import READ_STEPS, _predict_padded, _train_epoch, build_training_step


def run_epoch(losses):
    """Run an epoch of one step with one radiograph for each loss; returns its logs and the number of steps."""
    steps = iter(losses)
    watched = keras.callbacks.CallbackList([])
    logs = _train_epoch(
        lambda loss: tf.constant([loss, 2 * loss, 1.0]), steps, steps=len(losses), watched=watched, metric="mae"
    )
    return logs, len(losses) - len(list(steps))


def test_train_epoch_has_the_means_of_all_steps():
    logs, num_steps = run_epoch([float(number) for number in range(2 * READ_STEPS + 3)])
    assert (logs["loss"], logs["mae"], num_steps) == (READ_STEPS + 1, 2 * (READ_STEPS + 1), 2 * READ_STEPS + 3)


def test_train_epoch_ends_soon_after_a_loss_that_is_no_number():
    logs, num_steps = run_epoch([1.0, math.nan] + 98 * [1.0])
    assert math.isnan(logs["loss"])
    assert num_steps == READ_STEPS


@pytest.mark.parametrize("num_images", [0, 3])
def test_predict_padded_takes_empty_batches(num_images):
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(5, 3, strides=2, name="conv")(image))
    model = keras.Model({"image": image}, keras.layers.GlobalAveragePooling2D(name="pool")(x))
    images = tf.constant(np.random.default_rng(0).random((num_images, 8, 8, 3)), tf.float32)

    def forward(inputs):
        return model(inputs, training=False), None

    spec = {"image": tf.TensorSpec((None, 8, 8, 3))}
    compiled = tf.function(lambda inputs: _predict_padded(forward, inputs)[0], input_signature=[spec])
    predicted = compiled({"image": images}).numpy()
    assert predicted.shape == (num_images, 5)
    for number in range(num_images):
        expected = model({"image": images[number : number + 1]})[0]
        np.testing.assert_allclose(predicted[number], expected, rtol=1e-4, atol=1e-6)


def test_training_step_weighs_each_label():
    """With one gradient step of size 1 on a bias, the bias is the mean of the weights times the sign of the error."""
    image = keras.Input((1,), name="image")
    model = keras.Model({"image": image}, keras.layers.Dense(1, kernel_initializer="zeros", name="months")(image))
    model.compile(keras.optimizers.SGD(1.0))
    model.optimizer.build(model.trainable_variables)
    batch = ({"image": tf.zeros((2, 1))}, tf.constant([[9.0], [-9.0]]), tf.constant([2.5, 0.5]), tf.zeros((2, 0)))
    step = build_training_step(
        model,
        tf.distribute.get_strategy(),
        config=TrainConfig(batch_size=2, loss="mae", use_sex=False),
        augment=lambda images, _: images,
        weigh=lambda losses, _: losses,
        spec=tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), batch),
    )
    assert step(batch).numpy().tolist() == [18, 18, 2]
    assert model.get_layer("months").bias.numpy() == pytest.approx((2.5 - 0.5) / 2)
