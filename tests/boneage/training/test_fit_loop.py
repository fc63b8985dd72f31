import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.fit_loop import weigh_losses


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
