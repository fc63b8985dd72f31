import math

import keras
import tensorflow as tf

from boneage.training.fit_loop import READ_STEPS, _train_epoch


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
