"""The networks that find the hand: shape, one fit step, the same answer as ONNX, losses worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.hand_networks.landmarks import coordinate_and_heatmap_loss, evaluate_landmarks
from boneage.hand_networks.network import build_unet, export_onnx, train_hand_network
from boneage.hand_networks.unet import cross_entropy_dice_loss, evaluate_unet
from boneage.preprocessing.hand.landmarks import HEATMAP_SIZE_PX
from boneage.preprocessing.segmentation.onnx_session import load_network
from boneage.preprocessing.training_data.landmark_examples import draw_landmark_examples
from boneage.preprocessing.training_data.mask_pairs import MaskPair

WIDTHS = (4, 6, 8)


def build(stride=1):
    return build_unet(size_px=32, widths=WIDTHS, num_maps=2, stride=stride, name="small")


@pytest.mark.parametrize(("stride", "side"), [(1, 32), (2, 16), (4, 8)])
def test_maps_are_as_fine_as_asked(stride, side):
    assert build(stride).output_shape == (None, side, side, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"size_px": 36}, "must be a multiple of 8"), ({"stride": 3}, "must be one of 1, 2, 4")],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_unet(**{"size_px": 32, "widths": WIDTHS, "num_maps": 1, "stride": 1, "name": "small", **changes})


def test_training_learns_repeats_itself_and_exports_to_the_same_answer(tmp_path):
    """A few steps towards "hand where bright"; ONNX Runtime answers as Keras does, but for half weights."""

    def sample_batch(rng):
        images = rng.uniform(size=(4, 32, 32, 1)).astype(np.float32)
        return images, np.repeat(images > 0.5, 2, axis=-1).astype(np.float32)

    config = HandTrainingConfig(steps=30, batch_size=4, learning_rate=1e-2)
    models = [
        train_hand_network(build, sample_batch=sample_batch, loss=cross_entropy_dice_loss, config=config)
        for _ in range(2)
    ]
    images, truth = sample_batch(np.random.default_rng(99))
    losses = [cross_entropy_dice_loss(truth, model(images, training=False)).numpy().mean() for model in models]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert losses[0] < cross_entropy_dice_loss(truth, tf.zeros_like(truth)).numpy().mean() - 0.1
    export_onnx(models[0], tmp_path / "small.onnx")
    network = load_network(tmp_path / "small.onnx")
    answers = np.concatenate([network(image[None]) for image in images])
    np.testing.assert_allclose(answers, models[0](images, training=False).numpy(), atol=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_loss_of_masks_by_hand():
    truth = np.zeros((2, 2, 2, 1), np.float32)
    truth[:, 0] = 1
    sure = np.where(truth, 50, -50).astype(np.float32)
    losses = cross_entropy_dice_loss(truth[:1], sure[:1]).numpy()
    np.testing.assert_allclose(losses, [0], atol=1e-6)
    # All logits 0: entropy is log 2; soft Dice is (2 * 1 + 1) / (1 + 2 + 1).
    np.testing.assert_allclose(cross_entropy_dice_loss(truth, 0 * sure).numpy(), [np.log(2) + 0.25] * 2, rtol=1e-6)


def test_loss_of_landmarks_is_least_at_the_right_place():
    centre = (np.arange(HEATMAP_SIZE_PX) + 0.5) / HEATMAP_SIZE_PX
    truth = np.tile(np.float32([centre[20], centre[7]]), (1, 21, 1))

    def peak(column, row):
        squared = (np.arange(HEATMAP_SIZE_PX)[None] - column) ** 2 + (np.arange(HEATMAP_SIZE_PX)[:, None] - row) ** 2
        return tf.constant(np.repeat(-0.5 * squared[None, ..., None], 21, axis=-1), tf.float32)

    losses = [
        coordinate_and_heatmap_loss(truth, peak(column, row)).numpy()[0] for column, row in ((20, 7), (21, 7), (20, 12))
    ]
    assert losses == sorted(losses)
    # At the right place nothing is off: what is left is the entropy of the Gaussian peak, log(2 pi e).
    assert losses[0] == pytest.approx(np.log(2 * np.pi * np.e), abs=0.01)
    outside = truth.copy()
    outside[:, 5:] = 1.2
    assert coordinate_and_heatmap_loss(outside, peak(20, 7)).numpy()[0] == pytest.approx(losses[0], abs=1e-4)


def test_unseen_masks_are_measured_by_file():
    mask = np.zeros((256, 256), np.bool_)
    mask[60:200, 60:200] = True
    pair = MaskPair("a.png", mask.astype(np.uint8) * 255, mask)
    measures = evaluate_unet(lambda image, training: tf.constant((image - 0.5) * 20), [pair])
    assert measures.loc[0, "file"] == "a.png" and measures.loc[0, "dice"] > 0.99


def test_unseen_landmarks_are_measured_under_every_turn():
    """A network that always predicts the centre has a large error."""
    flat = tf.zeros((1, HEATMAP_SIZE_PX, HEATMAP_SIZE_PX, 21)) + tf.random.stateless_normal((1, 1, 1, 21), (1, 2))
    wrong = tf.concat([flat[..., :12], flat[..., 12:] + tf.range(32.0)[None, :, None, None]], axis=-1)
    measures = evaluate_landmarks(lambda image, training: wrong, draw_landmark_examples(1, seed=0), seed=0)
    assert len(measures) == 24 and measures["turn_degrees"].nunique() == 12
    assert measures["angle_error_degrees"].max() > 150 and measures["landmark_error"].min() > 0.2


@pytest.mark.parametrize("name", ["steps", "batch_size", "learning_rate"])
def test_trainings_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be positive"):
        HandTrainingConfig(**{name: 0})
