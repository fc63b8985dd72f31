"""Recipes: one TOML file an experiment, installed as `boneage.recipes`."""
