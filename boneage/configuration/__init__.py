"""Experiments: the settings of each stage, from one TOML file."""
