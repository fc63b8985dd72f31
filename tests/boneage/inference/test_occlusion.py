"""Occlusion maps: large where the network reads the age, small elsewhere."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

from boneage.bundles.bundle import load_bundle
from boneage.bundles.save import save_bundle
from boneage.inference.occlusion import draw_occlusion_map, measure_occlusion, write_occlusion_map
from boneage.preprocessing.config import PreprocessingConfig, fingerprint


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A network that looks at the upper left quarter alone."""
    image = keras.Input((32, 32, 1), name="image")
    dense = keras.layers.Dense(1, name="months")
    model = keras.Model({"image": image}, dense(keras.layers.Flatten(name="flat")(image)))
    rng = np.random.default_rng(0)
    kernel = np.zeros((32, 32, 1), np.float32)
    kernel[:16, :16] = rng.normal(0, 10, (16, 16, 1))
    dense.set_weights([kernel.reshape(-1, 1), np.float32([100])])
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    metadata = {"task": "age", "input_size": 32, "use_sex": False, "tta": "mirrored"}
    described = {"preprocessing": dataclasses.asdict(config), "fingerprint": fingerprint(config)}
    return load_bundle(save_bundle(tmp_path_factory.mktemp("heat") / "bundle", model, metadata | described))


CROP = np.random.default_rng(1).integers(40, 256, (32, 32), np.uint8)


def test_heat_lies_where_the_network_looks(bundle):
    change = measure_occlusion(bundle, CROP, male=0.0)
    assert change.shape == (32, 32) and change.dtype == np.float32
    assert change[:13, :13].mean() > 20 * change[19:, 19:].mean()
    assert change.min() >= 0


def test_black_places_have_no_heat(bundle):
    crop = CROP.copy()
    crop[:, :10] = 0
    change = measure_occlusion(bundle, crop, male=0.0)
    assert change[:, :3].max() < 0.05 * change.max()


def test_picture_is_brightest_where_the_heat_is(bundle, tmp_path):
    change = np.zeros((32, 32), np.float32)
    change[4:8, 20:24] = 3
    drawn = draw_occlusion_map(np.full((20, 20), 90, np.uint8), change)
    assert drawn.shape == (384, 384, 3)
    row, column = np.unravel_index(drawn.astype(int).sum(axis=2).argmax(), (384, 384))
    assert 48 <= row < 96 and 240 <= column < 288
    assert (drawn[300:] == 90).all()
    write_occlusion_map(bundle, [CROP], tmp_path / "map.png", male=0.0)
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (768, 384)
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
