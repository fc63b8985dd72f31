import math

import keras
import numpy as np
import pytest

from boneage.models.head import Expectation, GeneralizedMeanPooling

FEATURES = np.random.default_rng(0).uniform(-1, 4, (2, 3, 5, 4)).astype(np.float32)


def test_generalized_mean_pooling_starts_with_the_cubic_mean():
    layer = GeneralizedMeanPooling(dtype="float32")
    expected = (np.maximum(FEATURES, 0) ** 3).mean(axis=(1, 2)) ** (1 / 3)
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-4)


@pytest.mark.parametrize(("excess", "limit"), [(1e-6, np.mean), (30.0, np.max)])
def test_generalized_mean_pooling_lies_between_average_and_maximum(excess, limit):
    layer = GeneralizedMeanPooling(dtype="float32")
    layer.build(FEATURES.shape)
    layer.log_excess.assign([math.log(excess)])
    np.testing.assert_allclose(layer(FEATURES), limit(np.maximum(FEATURES, 0), axis=(1, 2)), rtol=0.1, atol=1e-4)


def test_expectation_is_in_months():
    probabilities = np.zeros((2, 241), np.float32)
    probabilities[0, 120] = 1
    probabilities[1, [0, 240]] = 0.25, 0.75
    assert keras.ops.convert_to_numpy(Expectation()(probabilities)).tolist() == [[120.0], [180.0]]
