"""Initial weights from the hub: pinned, of the licence of their bundle, and loaded without a Keras file."""

import dataclasses

import numpy as np
import pytest

from boneage.bundles.bundle import DEFAULT_BUNDLE, BundleError, load_bundle, read_metadata
from boneage.bundles.save import copy_bundle, load_network, save_bundle
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.models.build import build_model
from boneage.registry.fetch_hub import fetch_from_hub
from boneage.tracking.publish import publish
from boneage.training.initialise import find_inherited_licence, initialise, pin_init

NAME, LICENCE = "hf://ward/lite0", "CC-BY-NC-4.0"
CONFIG = TrainConfig(input_size=32, head_units=(4,), init="none")


def build():
    return build_model(CONFIG.network, input_size=32, head_units=(4,), target_mean_months=120.0, target_std_months=40.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    metadata = {
        **{name: getattr(CONFIG, name) for name in ("task", "network", "input_size", "use_sex", "tta")},
        "fingerprint": "0" * 16,
        "licence": LICENCE,
        "target": {"mean_months": 120.0, "std_months": 40.0},
        "experiment": {"train": dataclasses.asdict(CONFIG)},
    }
    return save_bundle(tmp_path_factory.mktemp("trained") / "bundle", build(), metadata)


def test_initialise_from_the_hub(hub, trained):
    made = publish(trained, NAME)
    assert made.is_trainable
    assert made.files == ("README.md", "metadata.json", "model.onnx", "weights.npz")
    network = initialise(build(), NAME)
    batch = {"image": np.random.default_rng(0).random((2, 32, 32, 1), np.float32), "male": np.float32([[0], [1]])}
    np.testing.assert_allclose(network(batch), load_network(trained)(batch), atol=0.1)
    # A copy of what was fetched is whole, and has its licence.
    copy = copy_bundle(trained.parent / "copy", fetch_from_hub(NAME), tta="none")
    assert load_bundle(copy).metadata["licence"] == LICENCE


def test_initialise_of_a_network_that_cannot_be_built_again(hub, trained):
    other = copy_bundle(trained.parent / "other", trained, experiment={"train": {"network": "unknown"}})
    made = publish(other, NAME)
    assert (made.is_trainable, made.files) == (False, ("README.md", "metadata.json", "model.onnx"))
    with pytest.raises(BundleError, match="which training needs"):
        initialise(build(), NAME)


def test_pin_init_names_the_commit(hub, trained):
    made = publish(trained, NAME)
    pinned = pin_init(Experiment(name="tuned", train=dataclasses.replace(CONFIG, init=f"{NAME}@main")))
    assert pinned.train.init == made.name
    hub.stop()
    assert pin_init(pinned) == pinned


def test_find_inherited_licence_of_a_bundle(hub, trained):
    publish(trained, NAME)
    assert find_inherited_licence(NAME) == LICENCE
    assert find_inherited_licence("default") == "LicenseRef-RSNA-research"
    assert find_inherited_licence("imagenet") is None


def test_copy_bundle_states_the_licence_of_the_packaged_weights(tmp_path):
    assert read_metadata(copy_bundle(tmp_path / "copy", DEFAULT_BUNDLE))["licence"] == "LicenseRef-RSNA-research"
