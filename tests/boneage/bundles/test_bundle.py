import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from boneage.base.files import write_json
from boneage.bundles.bundle import Bundle, BundleError, load_bundle, read_metadata
from boneage.bundles.save import copy_bundle, export_onnx, load_network, save_bundle
from boneage.bundles.test_time_augmentation import turn_and_mirror
from boneage.inference.loading import load_preprocessing
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.registry.digest import metadata_digest
from boneage.registry.resolve import resolve_bundle


def tiny_model() -> keras.Model:
    image, male = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="male")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    months = keras.layers.Dense(1, name="months")(keras.layers.Concatenate(name="join")([pooled, male]))
    return keras.Model({"image": image, "male": male}, months)


def metadata(config: PreprocessingConfig) -> dict:
    return {
        "input_size": 8,
        "use_sex": True,
        "task": "age",
        "tta": "none",
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
    }


@pytest.fixture
def folder(tmp_path):
    return save_bundle(tmp_path / "bundle", tiny_model(), metadata(PreprocessingConfig()))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("BFCArena::AllocateRawInternal Failed to allocate")])
def test_predict_records_halves_a_batch_that_memory_does_not_hold(prepared, write_bundle, tmp_path, monkeypatch, error):
    loaded, whole = load_bundle(write_bundle(tmp_path / "bundle")), Bundle.predict_batch
    expected, sizes, limit = loaded.predict_records(prepared.folder, split="train"), [], 10

    def predict(self, images, *args, **options):
        sizes.append(len(images))
        if len(images) > limit:
            raise error
        return whole(self, images, *args, **options)

    monkeypatch.setattr(Bundle, "predict_batch", predict)
    found = loaded.predict_records(prepared.folder, split="train")
    assert sizes == [32, 16, 8, 8, 16, 8, 8]
    assert found.equals(expected)
    limit = 0
    with pytest.raises(BundleError, match="out of memory with batch_size=1 at 32 x 32 pixels; close other"):
        loaded.predict_records(prepared.folder, split="train")


def test_comes_back_with_the_same_predictions(tmp_path):
    keras.utils.set_random_seed(0)
    model = tiny_model()
    loaded = load_bundle(save_bundle(tmp_path / "bundle", model, metadata(PreprocessingConfig())))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    male = np.float32([[0], [1], [1]])
    expected = model({"image": np.float32(images) / 255, "male": male}).numpy()[:, 0]
    np.testing.assert_allclose(loaded.predict_batch(images, male), expected, atol=1e-6)
    again = load_network(loaded.folder)({"image": np.float32(images) / 255, "male": male}).numpy()[:, 0]
    np.testing.assert_allclose(again, expected, atol=1e-6)
    assert "medical device" in loaded.metadata["intended_use"]
    assert loaded.metadata["value_range"] == [0.0, 1.0]


def test_views_are_averaged(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten(name="flat")(image)
    model = keras.Model({"image": image}, keras.layers.Dense(1, name="months")(flat))
    images, male = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8), np.zeros((3, 1), np.float32)
    described = {**metadata(PreprocessingConfig()), "use_sex": False}
    plain = load_bundle(save_bundle(tmp_path / "plain", model, described))
    averaged = load_bundle(copy_bundle(tmp_path / "averaged", tmp_path / "plain", tta="mirrored"))
    one, other = (plain.predict_batch(image, male) for image in (images, images[:, :, ::-1]))
    assert np.abs(one - other).min() > 1e-3
    np.testing.assert_allclose(averaged.predict_batch(images, male), (one + other) / 2, atol=1e-6)
    np.testing.assert_allclose(averaged.predict_batch(images, male, tta="none"), one, atol=1e-6)
    turned = [
        plain.predict_batch(turn_and_mirror(images, angle_degrees=angle, mirrored=mirrored), male)
        for angle in (-10.0, -5.0, 0.0, 5.0, 10.0)
        for mirrored in (False, True)
    ]
    np.testing.assert_allclose(averaged.predict_batch(images, male, tta="ten"), np.mean(turned, axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="mirrored"):
        plain.predict_batch(images, male, tta="miror")


def test_views_turn_counter_clockwise_about_the_middle():
    images = np.zeros((1, 21, 21, 1), np.uint8)
    images[0, 2, 10] = 255
    turned = turn_and_mirror(images, angle_degrees=90.0, mirrored=False)
    assert np.unravel_index(turned[0, ..., 0].argmax(), (21, 21)) == (10, 2)
    assert turn_and_mirror(turned, angle_degrees=0.0, mirrored=True)[0, 10, 18, 0] == turned.max()


def test_calibration_corrects_each_sex(folder):
    images, male = np.full((2, 8, 8, 1), 90, np.uint8), np.float32([[0], [1]])
    plain = load_bundle(folder).predict_batch(images, male)
    corrected = {"female": [2.0, 1.0], "male": [0.5, -3.0]}
    calibrated = load_bundle(copy_bundle(folder, folder, calibration=corrected)).predict_batch(images, male)
    np.testing.assert_allclose(calibrated, [2 * plain[0] + 1, plain[1] / 2 - 3], rtol=1e-6)


def test_resizes_as_reading_records_does(folder):
    from boneage.tfrecords.reader import resize

    bundle = load_bundle(folder)
    for side in (5, 8, 23):
        image = np.random.default_rng(side).integers(0, 256, (side, side), np.uint8)
        expected = resize(image[..., None], input_size=8).numpy()
        difference = np.abs(bundle.resize_to_input(image).astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.05


def test_a_network_that_onnx_changes_is_refused(tmp_path, monkeypatch):
    model = tiny_model()
    assert export_onnx(model, tmp_path / "model.onnx") < 1e-3
    other = tiny_model()
    other({"image": np.zeros((1, 8, 8, 1)), "male": np.zeros((1, 1))})
    monkeypatch.setattr(model, "export", other.export)
    monkeypatch.setattr("boneage.bundles.save.MAX_DIFFERENCE_MONTHS", 1e-6)
    with pytest.raises(BundleError, match="output differs from Keras by"):
        export_onnx(model, tmp_path / "model.onnx")


def test_without_its_keras_network_a_bundle_answers_but_is_not_trained_on(folder):
    described = json.loads((folder / "metadata.json").read_text())
    del described["metadata_digest"], described["sha256"]["model.keras"]
    write_json(folder / "metadata.json", {**described, "metadata_digest": metadata_digest(described)})
    (folder / "model.keras").unlink()
    assert load_bundle(folder).input_size == 8
    with pytest.raises(BundleError, match="which training needs"):
        load_network(folder)


def test_answering_needs_no_tensorflow(folder):
    code = (
        "import sys; from boneage.bundles.bundle import load_bundle; from boneage.inference.predict import predict; "
        f"load_bundle({str(folder)!r}); sys.exit(bool({{'tensorflow', 'keras', 'torch'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_second_save_replaces_the_first_whole(folder):
    before = read_metadata(folder)["sha256"]
    save_bundle(folder, tiny_model(), metadata(PreprocessingConfig()))
    assert read_metadata(folder)["sha256"] != before
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "model.keras", "model.onnx"]
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_refuses_changed_metadata(folder):
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace('"input_size": 8', '"input_size": 9'))
    with pytest.raises(BundleError, match="metadata digest does not match"):
        load_bundle(folder)


def test_refuses_another_model(folder):
    for name, load in (("model.keras", load_network), ("model.onnx", load_bundle)):
        (folder / name).write_bytes(b"another")
        with pytest.raises(BundleError, match="checksum does not match"):
            load(folder)


def test_names_what_is_missing(tmp_path, folder):
    with pytest.raises(BundleError, match=r"contains no metadata\.json"):
        load_bundle(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(folder)


def test_refuses_metadata_of_another_version(folder):
    write_json(folder / "metadata.json", {**json.loads((folder / "metadata.json").read_text()), "bundle_version": 99})
    with pytest.raises(BundleError, match="version 99"):
        load_bundle(folder)


def test_refuses_preprocessing_that_cannot_be_reproduced(tmp_path):
    wrong = {**metadata(PreprocessingConfig()), "fingerprint": "0" * 16}
    loaded = load_bundle(save_bundle(tmp_path / "bundle", tiny_model(), wrong))
    with pytest.raises(BundleError, match=r"different preprocessing \(0000000000000000\)"):
        load_preprocessing(loaded)


def test_refuses_records_prepared_otherwise(tmp_path, prepared):
    loaded = load_bundle(save_bundle(tmp_path / "bundle", tiny_model(), metadata(PreprocessingConfig())))
    with pytest.raises(BundleError, match=r"preprocessing .* does not match"):
        loaded.predict_records(prepared.folder, split="validation")


def test_a_kill_between_the_renames_of_a_replacement_leaves_a_bundle_to_read(folder, monkeypatch):
    replace, calls = os.replace, []

    def kill_at_the_second(source, destination):
        if Path(source).suffix in ("", ".part") and Path(source).is_dir():
            calls.append(source)
            if len(calls) == 2:
                raise KeyboardInterrupt
        replace(source, destination)

    before = read_metadata(folder)
    with monkeypatch.context() as patch:
        patch.setattr("boneage.base.files.os.replace", kill_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            copy_bundle(folder, folder, note="new")
    assert not folder.exists()
    assert resolve_bundle(folder).is_dir()
    assert load_bundle(folder).metadata == before
    copy_bundle(folder, folder, note="newest")
    assert read_metadata(folder)["note"] == "newest"
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_what_a_killed_replacement_left_does_not_stop_the_next(folder):
    for name in ("bundle.old", "bundle.part"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "model.onnx").write_bytes(b"left")
    copy_bundle(folder, folder, note="new")
    assert read_metadata(folder)["note"] == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]
