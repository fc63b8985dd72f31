"""Ensembles: the mean of their members, and no members that see different things."""

import keras
import numpy as np
import pytest

from boneage.bundles.bundle import BundleError, load_bundle
from boneage.bundles.join import ensemble
from boneage.bundles.save import copy_bundle, load_network, save_bundle

METADATA = {"network": "tiny", "input_size": 8, "use_sex": True, "task": "age", "tta": "none", "fingerprint": "0" * 16}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [save_member(folder / str(seed), seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def large_member(tmp_path_factory):
    return save_member(tmp_path_factory.mktemp("large"), seed=3, input_size=12)


def save_member(folder, *, seed, input_size=8):
    keras.utils.set_random_seed(seed)
    image, male = keras.Input((input_size, input_size, 1), name="image"), keras.Input((1,), name="male")
    x = keras.layers.Concatenate(name="join")([keras.layers.Flatten(name="flat")(image), male])
    model = keras.Model({"image": image, "male": male}, keras.layers.Dense(1, name="months")(x), name="same_name")
    return save_bundle(folder, model, {**METADATA, "input_size": input_size, "validation_error": 1.0})


def test_answers_with_the_mean(members, tmp_path):
    joined = load_bundle(ensemble(members, out=tmp_path / "joined"))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    male = np.float32([[0], [1], [1]])
    answers = [load_bundle(member).predict_batch(images, male) for member in members]
    assert np.abs(answers[0] - answers[1]).min() > 1e-3
    np.testing.assert_allclose(joined.predict_batch(images, male), np.mean(answers, axis=0), atol=1e-5)
    assert [member["network"] for member in joined.metadata["members"]] == ["tiny", "tiny"]
    assert "validation_error" not in joined.metadata
    again = load_network(joined.folder)({"image": np.float32(images) / 255, "male": male}).numpy()[:, 0]
    np.testing.assert_allclose(again, np.mean(answers, axis=0), atol=1e-5)


def test_ensemble_shrinks_the_image_for_smaller_members(members, large_member, tmp_path):
    joined = load_bundle(ensemble([members[0], large_member], out=tmp_path / "joined"))
    assert joined.input_size == 12 and [member["input_size"] for member in joined.metadata["members"]] == [8, 12]
    crop, male = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8), np.float32([[1]])
    loaded = [load_bundle(folder) for folder in (members[0], large_member)]
    answers = [bundle.predict_batch(bundle.resize_to_input(crop)[None], male) for bundle in loaded]
    together = joined.predict_batch(joined.resize_to_input(crop)[None], male)
    np.testing.assert_allclose(together, np.mean(answers, axis=0), atol=1e-4)


def test_ensemble_counts_each_member_of_an_ensemble(members, large_member, tmp_path):
    two = ensemble(members, out=tmp_path / "two")
    three = load_bundle(ensemble([two, large_member], out=tmp_path / "three"))
    assert [member["input_size"] for member in three.metadata["members"]] == [8, 8, 12]
    at_once = load_bundle(ensemble([*members, large_member], out=tmp_path / "at_once"))
    images, male = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 1), np.uint8), np.float32([[0], [1]])
    np.testing.assert_allclose(three.predict_batch(images, male), at_once.predict_batch(images, male), atol=1e-5)


def test_the_licences_of_all_members_hold(members, tmp_path):
    licensed = [
        copy_bundle(tmp_path / str(number), member, licence=licence)
        for number, (member, licence) in enumerate(zip(members, ("MIT", "CC-BY-NC-4.0"), strict=True))
    ]
    assert load_bundle(ensemble(licensed, out=tmp_path / "joined")).metadata["licence"] == "CC-BY-NC-4.0 AND MIT"


def test_what_cannot_be_joined_is_refused(members, tmp_path):
    with pytest.raises(BundleError, match="at least two"):
        ensemble(members[:1], out=tmp_path / "out")
    other = copy_bundle(tmp_path / "other", members[1], tta="ten")
    with pytest.raises(BundleError, match="`tta` is 'ten'"):
        ensemble([members[0], other], out=tmp_path / "out")
    calibrated = copy_bundle(tmp_path / "calibrated", members[1], calibration={"female": [1, 0], "male": [1, 0]})
    with pytest.raises(BundleError, match="is calibrated"):
        ensemble([members[0], calibrated], out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"`tta` must be one of .* Received"):
        ensemble(members, out=tmp_path / "out", tta="two")
    assert not (tmp_path / "out").exists()


def test_looks_as_often_as_it_is_told(members, tmp_path):
    assert load_bundle(ensemble(members, out=tmp_path / "as_they_do")).metadata["tta"] == "none"
    joined = load_bundle(ensemble(members, out=tmp_path / "mirrored", tta="mirrored"))
    images, male = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8), np.float32([[0], [1]])
    both = [joined.predict_batch(image, male, tta="none") for image in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(joined.predict_batch(images, male), np.mean(both, axis=0), atol=1e-5)
