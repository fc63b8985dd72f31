"""The settings of each command: the keys that `--set` takes, read from the configurations and their docstrings."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from boneage.base.errors import check_choice
from boneage.configuration.experiment import Experiment
from boneage.configuration.hand_networks import HandTrainingConfig

COMMANDS = ("train", "tune", "prepare", "segment", "train-unet", "train-landmarks", "train-sam")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a command.

    Args:
        key: Key as `--set` takes it, with the table that it stands in: `"train.learning_rate"`. The name of a table of
            an experiment file can be omitted.
        type: Type of the value, such as `"int"` or `"list of str"`.
        default: Default value, as JSON writes it.
        description: What the setting does.
    """

    key: str
    type: str
    default: Any
    description: str


def list_settings(command: str = "train") -> list[Setting]:
    """List the settings of a command.

    Args:
        command: `"train"`, `"tune"`, `"prepare"`, `"segment"`, `"train-unet"`, `"train-landmarks"` or `"train-sam"`.

    Returns:
        The settings, in the order of the configuration.

    Raises:
        ValueError: If the command has no settings.

    Example:
        >>> [setting.default for setting in list_settings("train") if setting.key == "train.learning_rate"]
        [0.001]
    """
    check_choice("command", command, COMMANDS)
    if command in ("train", "tune"):
        tables = {name: table for name, table in vars(Experiment("")).items() if dataclasses.is_dataclass(table)}
        if command == "train":
            del tables["tune"]
        return [setting for name, table in tables.items() for setting in _describe(table, prefix=f"{name}.")]
    if command in ("prepare", "segment"):
        from boneage.preprocessing.config import PreprocessingConfig

        return list(_describe(PreprocessingConfig()))
    if command == "train-sam":
        from boneage.preprocessing.sam_training.schedule import HandSamSchedule

        return list(_describe(HandSamSchedule()))
    return list(_describe(HandTrainingConfig()))


def _describe(configuration: Any, *, prefix: str = "") -> Iterator[Setting]:
    """Describe the fields of a configuration, those of the tables inside it by `table.key`."""
    descriptions = read_argument_descriptions(inspect.getdoc(configuration) or "")
    for field in dataclasses.fields(configuration):
        value = getattr(configuration, field.name)
        if dataclasses.is_dataclass(value):
            yield from _describe(value, prefix=f"{prefix}{field.name}.")
        else:
            default = list(value) if isinstance(value, tuple) else value
            yield Setting(f"{prefix}{field.name}", _name_type(field.type), default, descriptions[field.name])


def read_argument_descriptions(docstring: str) -> Mapping[str, str]:
    """Read the section `Args:` of a Google-style docstring.

    Args:
        docstring: The docstring, without indentation.

    Returns:
        The description of each argument by its name, on one line.
    """
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", docstring, re.MULTILINE)
    entries = re.split(r"^    (\w+): ", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(entries[1::2], entries[2::2], strict=True)}


def _name_type(annotation: Any) -> str:
    """Name a type in the words of TOML: tuples are lists there."""
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_name_type(arguments[0])}"
        return f"[{', '.join(map(_name_type, arguments))}]"
    if arguments:
        return " or ".join(map(_name_type, arguments))
    return str(annotation.__name__)
