import dataclasses
import json

import keras
import numpy as np
import pytest

from boneage.bundle import BundleError, load_bundle, read_metadata, save_bundle
from boneage.prediction import preprocessing_of
from preprocessing.pipeline import PreprocessingConfig, fingerprint
from tfrecords.write import write_json


def tiny_model() -> keras.Model:
    image, male = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="male")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    months = keras.layers.Dense(1, name="months")(keras.layers.Concatenate(name="join")([pooled, male]))
    return keras.Model({"image": image, "male": male}, months)


def metadata(config: PreprocessingConfig) -> dict:
    return {
        "input_size": 8,
        "use_sex": True,
        "average_mirrored": False,
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
    }


@pytest.fixture
def folder(tmp_path):
    return save_bundle(tmp_path / "bundle", tiny_model(), metadata(PreprocessingConfig()))


def test_comes_back_with_the_same_predictions(tmp_path):
    keras.utils.set_random_seed(0)
    model = tiny_model()
    loaded = load_bundle(save_bundle(tmp_path / "bundle", model, metadata(PreprocessingConfig())))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    male = np.float32([[0], [1], [1]])
    expected = model({"image": np.float32(images) / 255, "male": male}).numpy()[:, 0]
    np.testing.assert_allclose(loaded.predict_batch(images, male), expected, atol=1e-6)
    assert "medical device" in loaded.metadata["intended_use"]
    assert loaded.metadata["value_range"] == [0.0, 1.0]


def test_mirrored_average_is_the_mean_of_both_views(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten(name="flat")(image)
    model = keras.Model({"image": image}, keras.layers.Dense(1, name="months")(flat))
    images, male = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8), np.zeros((3, 1), np.float32)
    plain, averaged = (
        load_bundle(
            save_bundle(
                tmp_path / str(average),
                model,
                {**metadata(PreprocessingConfig()), "use_sex": False, "average_mirrored": average},
            )
        )
        for average in (False, True)
    )
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    both = (plain.predict_batch(images, male) + plain.predict_batch(mirrored, male)) / 2
    assert np.abs(both - plain.predict_batch(images, male)).min() > 1e-3
    np.testing.assert_allclose(averaged.predict_batch(images, male), both, atol=1e-6)
    np.testing.assert_allclose(averaged.predict_batch(mirrored, male), both, atol=1e-6)


def test_a_second_save_replaces_the_first_whole(folder):
    before = read_metadata(folder)["model_sha256"]
    save_bundle(folder, tiny_model(), metadata(PreprocessingConfig()))
    assert read_metadata(folder)["model_sha256"] != before
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "model.keras"]
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_refuses_changed_metadata(folder):
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace('"input_size": 8', '"input_size": 9'))
    with pytest.raises(BundleError, match="changed since it was written"):
        load_bundle(folder)


def test_refuses_another_model(folder):
    (folder / "model.keras").write_bytes(b"another")
    with pytest.raises(BundleError, match="not the model"):
        load_bundle(folder)


def test_names_what_is_missing(tmp_path, folder):
    with pytest.raises(BundleError, match=r"no metadata\.json here"):
        load_bundle(tmp_path)
    (folder / "model.keras").unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(folder)


def test_refuses_metadata_of_another_version(folder):
    write_json(folder / "metadata.json", {**json.loads((folder / "metadata.json").read_text()), "bundle_version": 99})
    with pytest.raises(BundleError, match="version 99"):
        load_bundle(folder)


def test_refuses_preprocessing_that_cannot_be_reproduced(tmp_path):
    wrong = {**metadata(PreprocessingConfig()), "fingerprint": "0" * 16}
    loaded = load_bundle(save_bundle(tmp_path / "bundle", tiny_model(), wrong))
    with pytest.raises(BundleError, match="preprocessed as 0000000000000000"):
        preprocessing_of(loaded)


def test_refuses_records_prepared_otherwise(tmp_path, prepared):
    loaded = load_bundle(save_bundle(tmp_path / "bundle", tiny_model(), metadata(PreprocessingConfig())))
    with pytest.raises(BundleError, match="preprocessed as"):
        loaded.predict_records(prepared.folder, split="validation")
