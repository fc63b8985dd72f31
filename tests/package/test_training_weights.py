"""Weights that only training needs may come with a checkout, in a distribution of their own, or not at all."""

import shutil

import pytest

from boneage.base.training_weights import TrainingWeightsError
from boneage.bundles import bundle
from boneage.bundles.bundle import DEFAULT_BUNDLE, WEIGHTS_FILE, check_model, load_bundle, read_metadata
from boneage.bundles.save import copy_bundle


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """The default bundle as an installation without training weights has it."""
    folder = tmp_path / "boneage" / "default"
    shutil.copytree(DEFAULT_BUNDLE, folder, ignore=shutil.ignore_patterns(WEIGHTS_FILE))
    monkeypatch.setattr(bundle, "DEFAULT_BUNDLE", folder)
    return folder


def install_weights(tmp_path, monkeypatch):
    """Put boneage-training-weights on the path, as `pip install` does."""
    package = tmp_path / "site" / "boneage_training_weights"
    (package / "default").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    return shutil.copyfile(DEFAULT_BUNDLE / WEIGHTS_FILE, package / "default" / WEIGHTS_FILE)


def test_a_checkout_has_them(monkeypatch):
    assert check_model(DEFAULT_BUNDLE, read_metadata(DEFAULT_BUNDLE), WEIGHTS_FILE) == DEFAULT_BUNDLE / WEIGHTS_FILE


def test_the_distribution_has_them(packaged, tmp_path, monkeypatch):
    weights = install_weights(tmp_path, monkeypatch)
    assert check_model(packaged, read_metadata(packaged), WEIGHTS_FILE) == weights
    copied = copy_bundle(tmp_path / "copy", packaged)
    assert (copied / WEIGHTS_FILE).read_bytes() == weights.read_bytes()


def test_other_weights_are_refused(packaged, tmp_path, monkeypatch):
    install_weights(tmp_path, monkeypatch).write_bytes(b"other")
    with pytest.raises(bundle.BundleError, match="missing, or its checksum does not match"):
        check_model(packaged, read_metadata(packaged), WEIGHTS_FILE)


def test_without_them_the_error_says_how_to_install_them(packaged):
    with pytest.raises(TrainingWeightsError, match="pip install boneage-training-weights") as caught:
        check_model(packaged, read_metadata(packaged), WEIGHTS_FILE)
    assert "\n" not in str(caught.value)


def test_without_them_a_copy_predicts(packaged, tmp_path):
    copied = copy_bundle(tmp_path / "copy", packaged)
    assert sorted(path.name for path in copied.iterdir()) == ["README.md", "metadata.json", "model.onnx", "seen.npz"]
    assert load_bundle(copied).input_size == load_bundle(packaged).input_size


def test_a_bundle_of_ones_own_must_have_its_weights(tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(DEFAULT_BUNDLE, folder, ignore=shutil.ignore_patterns(WEIGHTS_FILE))
    with pytest.raises(bundle.BundleError, match="missing"):
        copy_bundle(tmp_path / "copy", folder)
