"""Experiments: one TOML file with the settings of training, augmentation and search."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boneage.base.errors import suggest_closest
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.build import ConfigError, build, parse_override
from boneage.configuration.recipes import read_recipe
from boneage.configuration.training import TrainConfig
from boneage.configuration.tuning import TuneConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment: the tables of its TOML file.

    Args:
        name: Name of the experiment: the file name without extension.
        train: Table `[train]`.
        augment: Table `[augment]`.
        tune: Table `[tune]`.
    """

    name: str
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    tune: TuneConfig = dataclasses.field(default_factory=TuneConfig)


def load_experiment(experiment: str | Path, *, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from its TOML file.

    Args:
        experiment: The file, with the optional tables `[train]`, `[augment]` and `[tune]`; or the name of a
            packaged recipe, see `boneage.configuration.recipes.list_recipes`.
        overrides: `key=value` or `table.key=value`, with the value in TOML syntax; plain words need no quotes.

    Raises:
        ConfigError: If there is no such file or recipe, the file is not valid TOML, a key is unknown, or a value is out
            of range.
    """
    path = Path(experiment)
    try:
        tables = tomllib.loads(_read(path))
    except ConfigError:
        raise  # of a recipe that does not exist
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; give an experiment file or the name of a packaged recipe."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from error
    classes: dict[str, type] = {"train": TrainConfig, "augment": AugmentConfig, "tune": TuneConfig}
    for name, table in tables.items():
        if name not in classes or not isinstance(table, dict):
            raise ConfigError(
                f"{path}: unknown table or key {name!r}; valid tables are [train], [augment] and [tune]."
                f"{suggest_closest(name, classes)}"
            )
    for override in overrides:
        key, value = parse_override(override)
        owner, key = key.split(".", 1) if "." in key else (_owner(key, classes, override), key)
        if owner not in classes:
            raise ConfigError(f"--set {override}: unknown table {owner!r}; choose one of {', '.join(classes)}.")
        tables.setdefault(owner, {})[key] = value
    built: dict[str, Any] = {
        name: build(cls, tables.get(name, {}), where=f"{path} [{name}]") for name, cls in classes.items()
    }
    return Experiment(path.stem, **built)


def _read(path: Path) -> str:
    """Read an experiment file, or a packaged recipe if the path is a plain word and no such file exists."""
    is_name = path.name == str(path) and not path.suffix
    return read_recipe(path.name) if is_name and not path.is_file() else path.read_text(encoding="utf-8")


def _owner(key: str, classes: Mapping[str, type], override: str) -> str:
    names = {field.name: table for table, cls in classes.items() for field in dataclasses.fields(cls)}
    if key not in names:
        raise ConfigError(f"--set {override}: unknown key {key!r}.{suggest_closest(key, names)}")
    return names[key]


def to_json(experiment: Experiment) -> str:
    """Serialise the resolved experiment as JSON, without the table `[tune]`."""
    tables = dataclasses.asdict(experiment)
    del tables["tune"]
    return json.dumps(tables, indent=2) + "\n"
