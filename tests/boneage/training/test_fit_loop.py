import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.fit_loop import READ_STEPS, _train_epoch, weigh_losses


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


def weights_of(ages, **settings):
    truth = tf.constant(ages, tf.float32)[:, None]
    config = TrainConfig(**settings)
    return weigh_losses(tf.ones(len(ages)), truth, mean_months=120.0, std_months=40.0, config=config).numpy()


def test_weigh_losses_of_the_outermost_counts_more():
    assert weights_of([120.0, 80.0, 20.0, 220.0], outer_weight=0.25) == pytest.approx([0.8, 1.0, 2.05, 2.05])


def test_weigh_losses_has_a_mean_of_one():
    ages = np.random.default_rng(0).normal(120, 40, 100_000)
    assert weights_of(ages, outer_weight=0.5).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("settings", [{}, {"task": "sex", "use_sex": False, "outer_weight": 1.0}])
def test_weigh_losses_otherwise_leaves_them(settings):
    assert weights_of([1.0, 0.0], **settings).tolist() == [1.0, 1.0]
