import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from boneage.bundles.bundle import load_bundle
from boneage.bundles.save import load_network
from boneage.configuration import networks
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.networks import register_backbone
from boneage.configuration.training import TrainConfig
from boneage.models.head import LOGITS_LAYER, NUM_MONTHS
from boneage.training.losses import DIVERGENCE_MONTHS, LABEL_STD_MONTHS, compute_losses, weigh_losses
from boneage.training.train import train


def losses_of(logits, truth):
    """The losses of predicted distributions."""
    months = tf.reduce_sum(tf.nn.softmax(logits) * tf.range(NUM_MONTHS, dtype=tf.float32), axis=-1, keepdims=True)
    config = TrainConfig(head="distribution")
    return compute_losses(months, tf.constant(truth, tf.float32)[:, None], config=config, logits=logits).numpy()


def normal(mean, std=LABEL_STD_MONTHS):
    return tf.constant(-(((np.arange(NUM_MONTHS) - mean) / std) ** 2) / 2, tf.float32)[None]


def test_compute_losses_of_the_softened_label_are_zero():
    assert losses_of(normal(120), [120.0]) == pytest.approx([0.0], abs=1e-3)


def test_compute_losses_of_a_shifted_distribution():
    """The divergence of two normal distributions of one width is half the squared distance in widths."""
    expected = 12 + DIVERGENCE_MONTHS * (12 / LABEL_STD_MONTHS) ** 2 / 2
    assert losses_of(normal(132), [120.0]) == pytest.approx([expected], rel=1e-3)


@pytest.mark.parametrize("truth", [-5.0, 0.0, 240.0, 300.0])
def test_compute_losses_are_finite_at_the_ends(truth):
    assert np.isfinite(losses_of(normal(0, 1.0), [truth])).all()


def test_compute_losses_without_logits_are_those_of_keras():
    losses = compute_losses(tf.constant([[90.0]]), tf.constant([[100.0]]), config=TrainConfig(loss="mse"))
    assert losses.numpy().tolist() == [100.0]


def tiny(image):
    return keras.layers.Conv2D(8, 5, strides=4, activation="relu", name="conv")(image)


def test_train_a_distribution_on_generalised_means(prepared, tmp_path, monkeypatch):
    """The bundle predicts with test-time augmentation, and another training starts from its backbone or all of it."""
    monkeypatch.setattr(networks, "_registered", {})
    register_backbone("tiny", tiny)
    config = TrainConfig(
        network="tiny", head="distribution", pooling="gem", tta="mirrored", init="none", head_units=(4,), input_size=32
    )
    config = dataclasses.replace(config, epochs=2, batch_size=8, warmup_epochs=0.0, precision="mixed_bfloat16")
    options = {"data": prepared.folder, "tracking_uri": "none"}
    made = train(Experiment("tiny", config, AugmentConfig()), run=tmp_path / "run", **options)
    assert made.history["loss"].iloc[1] < made.history["loss"].iloc[0]
    predicted = load_bundle(made.bundle).predict_records(prepared.folder, split="validation")["predicted_months"]
    assert predicted.between(0, 240).all()

    regression = dataclasses.replace(config, init=str(made.bundle), epochs=1, trainable="head", precision="float32")
    kept = train(Experiment("kept", regression, AugmentConfig()), run=tmp_path / "kept", **options)
    regression = dataclasses.replace(regression, head="regression")
    other = train(Experiment("other", regression, AugmentConfig()), run=tmp_path / "other", **options)
    kernel = load_network(made.bundle).get_layer("tiny").get_weights()[0]
    for run in (kept, other):
        np.testing.assert_array_equal(load_network(run.bundle).get_layer("tiny").get_weights()[0], kernel)
    logits = [load_network(run.bundle).get_layer(LOGITS_LAYER).get_weights()[0] for run in (made, kept)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05  # trained on from the same


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
