"""Build configurations from plain values with checks, and parse overrides of the command line."""

import dataclasses
import math
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

import pydantic

from boneage.base.errors import BoneAgeError, suggest_closest

T = TypeVar("T")


class ConfigError(BoneAgeError, ValueError):
    """A configuration has an unknown key or an invalid value."""


def parse_override(override: str) -> tuple[str, Any]:
    """Parse `key=value`. The value is read as TOML, or as a string if it is not valid TOML.

    Raises:
        ConfigError: If there is no `=`.
    """
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override}: expected key=value.")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), text.strip()


def build(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Build a configuration from plain values, with type and range checks.

    Args:
        cls: The dataclass.
        values: Values of its fields, as parsed from TOML or JSON.
        where: Name of the source, used in error messages.

    Raises:
        ConfigError: If a key is unknown, a type is wrong or a value is out of range.
    """
    _check_keys(cls, values, where=where)
    try:
        built = pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        message += "" if message.endswith((".", "?")) else "."
        received = f" Received: {reprlib.repr(first['input'])}." if key and "Received: " not in message else ""
        raise ConfigError(f"{where}: {key + ': ' if key else ''}{message}{received}") from error
    _check_finite(built, where=where)
    return built


def _check_finite(config: Any, *, where: str) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _check_finite(value, where=where)
        elif any(isinstance(number, float) and not math.isfinite(number) for number in _flatten(value)):
            raise ConfigError(f"{where}: {field.name} must be finite. Received: {value}.")


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def _check_keys(cls: type, values: Mapping[str, Any], *, where: str) -> None:
    """Check the keys of a configuration and of those in it, which pydantic ignores where they are unknown."""
    names = [field.name for field in dataclasses.fields(cls)]
    types = get_type_hints(cls)
    for key, value in values.items():
        if key not in names:
            hint = suggest_closest(key, names)
            raise ConfigError(f"{where}: unknown key {reprlib.repr(key)}.{hint} Valid keys: {', '.join(names)}.")
        if dataclasses.is_dataclass(types[key]) and isinstance(value, Mapping):
            _check_keys(types[key], value, where=f"{where} {key}")
