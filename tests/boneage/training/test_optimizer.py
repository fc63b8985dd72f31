import keras
import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.training import TrainConfig
from boneage.training.fit_loop import build_training_step
from boneage.training.optimizer import OneCycle, averaged_weights, build_optimizer, use_averages

OPTIONS = {"optimizer": "sgd", "steps": 1000, "warmup_steps": 0, "weight_decay": 0.0}


def network(**options):
    image = keras.Input((4,), name="image")
    x = keras.layers.Dense(3, activation="relu", name="hidden")(image)
    model = keras.Model({"image": image}, keras.layers.Dense(1, name="months")(x))
    optimizer = build_optimizer(0.01, **OPTIONS, **options)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    return model


def sample_batch(seed=0):
    rng = np.random.default_rng(seed)
    image, truth = (tf.constant(values, tf.float32) for values in (rng.normal(size=(8, 4)), rng.uniform(0, 9, (8, 1))))
    return {"image": image}, truth, tf.ones(8), tf.zeros((8, 1))


def take_steps(model, *, num_steps=1, **settings):
    """Train on the same batch; returns the weights after each step."""
    batch, weights = sample_batch(), []
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, batch)
    config = TrainConfig(batch_size=8, loss="mse", **settings)
    step = build_training_step(
        model,
        tf.distribute.get_strategy(),
        config=config,
        augment=lambda images, _: images,
        weigh=lambda losses, _: losses,
        spec=spec,
    )
    for _ in range(num_steps):
        step(batch)
        weights.append([variable.numpy() for variable in model.trainable_variables])
    return weights


def test_one_cycle_rises_and_falls():
    cycle = OneCycle(0.1, 101)
    rates = np.array([float(cycle(step)) for step in range(101)])
    assert rates[[0, 30, 100]] == pytest.approx([0.1 / 25, 0.1, 0.1 / 250_000], rel=1e-2)
    assert (np.diff(rates[:31]) > 0).all() and (np.diff(rates[30:]) < 0).all()
    assert rates[15] == pytest.approx((0.1 / 25 + 0.1) / 2, rel=1e-4)


@pytest.mark.parametrize("clip_norm", [0.5, 1e6])
def test_clipping_shortens_the_gradient_over_all_variables(clip_norm):
    variables = [keras.Variable(np.zeros(2, np.float32)) for _ in range(2)]
    optimizer = build_optimizer(1.0, **{**OPTIONS, "steps": 10**9}, clip_norm=clip_norm)
    gradients = [np.float32([3, 0]), np.float32([0, 4])]
    optimizer.apply([tf.constant(gradient) for gradient in gradients], variables)
    step = np.concatenate([variable.numpy() for variable in variables])
    expected = -(1 + 0.9) * np.concatenate(gradients) * min(1, clip_norm / 5)  # Nesterov's first step is 1.9 gradients
    np.testing.assert_allclose(step, expected, rtol=1e-4)


def test_averages_follow_the_weights():
    model = network(ema_momentum=0.5)
    average = [variable.numpy() for variable in model.trainable_variables]
    for number, weights in enumerate(take_steps(model, num_steps=12)):
        momentum = min(0.5, (1 + number) / (10 + number))
        average = [momentum * old + (1 - momentum) * new for old, new in zip(average, weights, strict=True)]
    with averaged_weights(model):
        for variable, expected in zip(model.trainable_variables, average, strict=True):
            np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)
    for variable, expected in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected)
    assert len({id(variable) for variable in model.optimizer.variables}) == len(model.optimizer.variables)


def test_use_averages_without_averages_changes_nothing():
    model = network()
    before = model.get_weights()
    assert use_averages(model) == []
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("accumulate_steps", [2, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(accumulate_steps):
    whole, parts = network(), network()
    parts.set_weights(whole.get_weights())
    expected = take_steps(whole, num_steps=3)
    received = take_steps(parts, num_steps=3, accumulate_steps=accumulate_steps)
    for mine, theirs in zip(received[-1], expected[-1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema_momentum": 1.0}, r"`ema_momentum` must lie in \[0, 1\)"),
        ({"clip_norm": -1.0}, "`clip_norm` must not be negative"),
        ({"batch_size": 8, "accumulate_steps": 3}, "multiple of `accumulate_steps`. Received: 8 and 3"),
        ({"schedule": "onecycle"}, "Did you mean 'one_cycle'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
