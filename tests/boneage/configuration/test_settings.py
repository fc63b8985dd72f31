"""The keys that `--set` takes, as users see them."""

import dataclasses
import json

import pytest

from boneage.cli.main import app
from boneage.cli.options import read_settings
from boneage.configuration.build import build
from boneage.configuration.experiment import load_experiment
from boneage.configuration.hand_networks import HandTrainingConfig
from boneage.configuration.settings import COMMANDS, list_settings, read_argument_descriptions
from boneage.preprocessing.config import PreprocessingConfig


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_every_command_is_described(command):
    settings = list_settings(command)
    keys = [setting.key for setting in settings]
    assert len(keys) == len(set(keys)) > 4
    for setting in settings:
        assert setting.description.endswith("."), setting
        assert setting.type and "typing" not in setting.type, setting
        json.dumps(setting.default)


def test_commands_with_settings_are_those_that_take_set():
    taking = {
        command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if "settings" in command.callback.__annotations__
    }
    assert taking == set(COMMANDS)


def test_every_default_can_be_set_by_its_key():
    settings = list_settings("tune")
    overrides = [f"{setting.key}={json.dumps(setting.default)}" for setting in settings]
    changed = load_experiment("tune_heads", overrides=overrides)
    tables = {name: dataclasses.asdict(getattr(changed, name)) for name in ("train", "augment", "tune")}
    for setting in settings:
        table, key = setting.key.split(".")
        value = tables[table][key]
        assert (list(value) if isinstance(value, tuple) else value) == setting.default, setting.key
    given = read_settings([f"{setting.key}={json.dumps(setting.default)}" for setting in list_settings("prepare")])
    assert build(PreprocessingConfig, given, where="test") == PreprocessingConfig()
    given = read_settings([f"{setting.key}={json.dumps(setting.default)}" for setting in list_settings("train-unet")])
    assert build(HandTrainingConfig, given, where="test") == HandTrainingConfig()


def test_train_takes_what_tune_takes_but_its_own_table():
    train, tune = ({setting.key for setting in list_settings(command)} for command in ("train", "tune"))
    assert train < tune
    assert all(key.startswith("tune.") for key in tune - train)


def test_types_are_named_in_words():
    types = {setting.key.split(".")[1]: setting.type for setting in list_settings("tune")}
    assert types["use_sex"] == "bool" and types["trainable"] == "str or int"
    assert types["head_units"] == "list of int" and types["learning_rates"] == "[float, float]"
    assert types["trainables"] == "list of str or int"


def test_reads_the_arguments_of_a_docstring():
    docstring = "A title.\n\nArgs:\n    one: First: line\n        continued.\n    two: Second.\n\nReturns:\n    x: No."
    assert read_argument_descriptions(docstring) == {"one": "First: line continued.", "two": "Second."}
    assert read_argument_descriptions("A title.") == {}


def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match=r"`command` must be one of train, tune, .* Did you mean 'train'"):
        list_settings("training")
