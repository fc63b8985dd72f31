import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

from boneage.models.shrink import Shrink, make_shares
from boneage.tfrecords.reader import resize


def draw_levels(side_px, *, number=2):
    """Draw smooth images with noise, shape `(number, side, side, 1)`, uint8."""
    rng = np.random.default_rng(side_px)
    coarse = rng.uniform(0, 255, (number, 8, 8)).astype(np.float32)
    large = np.stack([Image.fromarray(image).resize((side_px, side_px), Image.Resampling.BICUBIC) for image in coarse])
    return np.clip(large + rng.normal(0, 20, large.shape), 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize(("side_px", "size_px"), [(256, 192), (256, 128), (97, 64), (64, 64), (50, 49)])
def test_shrink_is_what_the_records_reader_does(side_px, size_px):
    images = draw_levels(side_px)
    expected = np.stack([resize(tf.constant(image), input_size=size_px).numpy() for image in images])
    levels = np.asarray(Shrink(size_px)(images.astype(np.float32) / 255)) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    differences = np.abs(levels - expected)
    assert differences.max() < 1.01 and np.mean(differences > 0.5) < 0.03  # a level, where it lay halfway between two


def test_shrink_is_saved_and_exported(tmp_path):
    image = keras.Input((32, 32, 1), name="image")
    model = keras.Model(image, Shrink(20)(image))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = draw_levels(32).astype(np.float32) / 255
    np.testing.assert_array_equal(again(images), model(images))
    assert not model.weights and again.layers[-1].size_px == 20
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    exported = session.run(None, {"image": images})[0]
    assert np.mean(np.abs(exported - model(images).numpy()) > 1e-5) < 0.03


def test_make_shares_gives_each_pixel_its_part():
    shares = make_shares(6, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[1], [0, 1 / 8, 3 / 8, 3 / 8, 1 / 8, 0])
    np.testing.assert_allclose(shares, shares[::-1, ::-1])
