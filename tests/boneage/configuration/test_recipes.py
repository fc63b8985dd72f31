"""Packaged recipes: experiments by name, from anywhere."""

import pytest

from boneage.configuration.build import ConfigError
from boneage.configuration.experiment import load_experiment
from boneage.configuration.recipes import list_recipes, read_recipe


def test_a_recipe_is_loaded_by_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment("rsna_lite0", overrides=["epochs=3"])
    assert (experiment.name, experiment.train.input_size, experiment.train.epochs) == ("rsna_lite0", 256, 3)
    assert load_experiment("tune_heads").tune.num_layers


def test_a_file_stands_before_a_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rsna_lite0").write_text("[train]\ninput_size = 96\n", encoding="utf-8")
    assert load_experiment("rsna_lite0").train.input_size == 96


def test_a_folder_of_a_recipes_name_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rsna_lite0").mkdir()
    assert load_experiment("rsna_lite0").train.input_size == 256


def test_an_unknown_name_gets_the_closest_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = r"rsna_lite: neither a file nor a packaged recipe. Did you mean 'rsna_lite0'\? `boneage recipes` lists"
    with pytest.raises(ConfigError, match=message):
        load_experiment("rsna_lite")
    with pytest.raises(ConfigError, match=r"rsna_lite0\.toml: No such file or directory; give an experiment file or"):
        load_experiment("rsna_lite0.toml")


def test_every_recipe_has_a_title():
    recipes = list_recipes()
    assert {"default", "default_sex", "rsna_lite0", "tune_heads"} <= recipes.keys()
    assert list(recipes) == sorted(recipes)
    for name, title in recipes.items():
        assert title and not title.startswith("#"), name
        assert title in read_recipe(name)
