import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.build import ConfigError, build, parse_override
from boneage.configuration.experiment import load_experiment, to_json
from boneage.configuration.training import TrainConfig
from boneage.configuration.tuning import TuneConfig

EXPERIMENTS = sorted((Path(__file__).parents[3] / "experiments").glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "trial.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_tables_and_fills_in_defaults(tmp_path):
    experiment = load_experiment(write(tmp_path, "[train]\nepochs = 3\nhead_units = [8, 4]\n[augment]\nblur_px = 1\n"))
    assert experiment.name == "trial"
    assert experiment.train == TrainConfig(epochs=3, head_units=(8, 4))
    assert experiment.augment == AugmentConfig(blur_px=1.0)


def test_overrides_by_bare_and_by_full_name(tmp_path):
    path = write(tmp_path, "[train]\nepochs = 3\n")
    experiment = load_experiment(path, overrides=["train.epochs=5", "init=none", "trainable=3", "use_sex=false"])
    assert (experiment.train.epochs, experiment.train.init, experiment.train.use_sex) == (5, "none", False)
    assert experiment.train.trainable == 3
    assert load_experiment(path, overrides=["blur_px=0.5"]).augment.blur_px == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3\n", "unknown key 'epoch'. Did you mean 'epochs'?"),
        ("[trian]\n", "unknown table or key 'trian'"),
        ("[train]\nnetwork = 'resnet_50'\n", "Did you mean 'resnet50'?"),
        ("[train]\nepochs = 'many'\n", "epochs: Input should be a valid integer"),
        ("[train]\nlearning_rate = 0\n", "`learning_rate` must be positive. Received: 0"),
        ("[train]\ninit = ''\n", "`init` must be 'imagenet', 'none', 'default', a bundle folder or a weights file."),
        ("[train]\ntrainable = 0\n", "`trainable` must be 'all', 'head' or a positive number of layers. Received: 0."),
        ("[train]\ntrainable = 'backbone'\n", "Received: 'backbone'."),
        ("[train]\nhead_units = [8, 0]\n", "`head_units` must be positive, or [0] for no hidden layer."),
        ("[train]\nsex_units = 0\n", "`sex_units` must be positive. Received: 0."),
        ("[train]\noptimizer = 'adamax'\n", "`optimizer` must be one of adamw, adam, sgd."),
        ("[train]\nlayer_decay = 0.0\n", "`layer_decay` must lie in (0, 1]. Received: 0.0."),
        ("[train]\nhead_epochs = -1\n", "`head_epochs` must not be negative. Received: -1."),
        ("[train]\nepochs = 3\nhead_epochs = 2\n", "`warmup_epochs` must be below `epochs` minus `head_epochs`."),
        ("[tune]\nunits = []\n", "`units` must contain one or more distinct values. Received: []."),
        ("[tune]\npoolings = ['mean']\n", "`poolings` must be one of average, max, both, gem. Received: 'mean'."),
        ("[tune]\nlearning_rates = [1e-2, 1e-3]\n", "`learning_rates` must be a positive lowest and highest value."),
        ("[tune]\nbest_k = 0\n", "`best_k` must be positive. Received: 0."),
        ("[tune]\ninput_sizes = [0]\n", "`input_sizes` must be positive. Received: [0]."),
        ("[tune]\ntrainables = ['backbone']\n", "`trainables` must be 'all', 'head' or a positive number of layers."),
        ("[tune]\nnum_folds = 0\n", "`num_folds` must be positive. Received: 0."),
        ("[train\n", "not valid TOML"),
    ],
)
def test_names_the_mistake_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(tmp_path, text))
    assert message in str(caught.value)
    assert "trial.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_experiment(tmp_path / "nowhere.toml")


def test_names_an_unknown_override_and_the_closest_key(tmp_path):
    with pytest.raises(ConfigError, match=r"--set epoch=4: unknown key 'epoch'. Did you mean 'epochs'\?"):
        load_experiment(write(tmp_path, ""), overrides=["epoch=4"])


def test_a_head_has_the_networks_own_layers_those_named_or_none():
    named = {(): (256,), (8, 4): (8, 4), (0,): ()}
    assert {units: TrainConfig(head_units=units).hidden_units for units in named} == named


@pytest.mark.parametrize(
    ("text", "value"), [("a=1", 1), ("a=1e-3", 1e-3), ("a=true", True), ("a=[1, 2]", [1, 2]), ("a=word", "word")]
)
def test_reads_override_values_as_toml_or_plain_words(text, value):
    assert parse_override(text) == ("a", value)


def test_configurations_are_flat_and_frozen():
    for cls in (TrainConfig, AugmentConfig, TuneConfig):
        assert not any(dataclasses.is_dataclass(field.type) for field in dataclasses.fields(cls))
        with pytest.raises(dataclasses.FrozenInstanceError):
            build(cls, {}, where="test").seed = 1


def test_no_two_tables_share_a_key():
    names = [field.name for cls in (TrainConfig, AugmentConfig, TuneConfig) for field in dataclasses.fields(cls)]
    assert len(set(names)) == len(names)


def test_what_is_tuned_is_no_part_of_a_training(tmp_path):
    experiment = load_experiment(write(tmp_path, "[tune]\nunits = [8]\nlearning_rates = [1e-3, 1e-3]\n"))
    assert experiment.tune.units == (8,)
    assert set(json.loads(to_json(experiment))) == {"name", "train", "augment"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_valid_and_tells_its_command_time_and_score(path):
    load_experiment(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Command:", "Expected time:", "Expected validation MAE:"):
        assert any(word in line for line in header), f"{path.name} lacks {word}"
    assert tomllib.loads(path.read_text(encoding="utf-8"))
