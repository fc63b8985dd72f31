"""Errors of the package that a user can fix, and argument checks that raise them."""

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path


class BoneAgeError(Exception):
    """Base of all errors whose one-line message is meant for the user.

    The command line prints the message and exits with status 1; a traceback appears only with `--debug`.
    """


def suggest_closest(word: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice closest to a word, or an empty text if none is close."""
    close = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Check that the argument or setting `name` is one of its choices.

    Raises:
        ValueError: If it is not; the message lists the choices and the closest one.
    """
    if value not in choices:
        listed = ", ".join(choices)
        hint = suggest_closest(str(value), choices)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {value!r}.{hint}")


def check_positive(settings: object, *names: str) -> None:
    """Check that settings are above zero.

    Args:
        settings: The object with the settings.
        *names: Names of its attributes.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"`{name}` must be positive. Received: {getattr(settings, name)}.")


def check_shares(settings: object, *names: str) -> None:
    """Check that settings lie in [0, 1].

    Args:
        settings: The object with the settings.
        *names: Names of its attributes.

    Raises:
        ValueError: If one is below 0 or above 1.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"`{name}` must lie in [0, 1]. Received: {getattr(settings, name)}.")


def describe_error(error: BaseException) -> str:
    """Describe an error by its type and the line that raised it, without the values that it quotes."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    where = f" in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    return f"{type(error).__name__}{where}"


def printable(text: str) -> str:
    """Escape unprintable characters, such as line feeds and bytes that are not UTF-8: file names may be any text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
