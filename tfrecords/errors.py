"""The error that every package of this distribution raises for what a user can put right, and checks that raise it."""

import difflib
from collections.abc import Collection, Iterable


class BoneAgeError(Exception):
    """Base of all errors whose one-line message is meant for the user.

    The command line prints the message and exits with status 1; a traceback appears only with `--debug`.
    """


def closest(word: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice that a word resembles, or nothing if it resembles none."""
    close = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Check that the argument or setting `name` is one of its choices.

    Raises:
        ValueError: If it is not; the message lists the choices and the closest one.
    """
    if value not in choices:
        listed = ", ".join(choices)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {value!r}.{closest(str(value), choices)}")


def check_positive(settings: object, *names: str) -> None:
    """Check that the settings of these names are above zero.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"`{name}` must be positive. Received: {getattr(settings, name)}.")


def check_shares(settings: object, *names: str) -> None:
    """Check that the settings of these names are shares of a whole.

    Raises:
        ValueError: If one is below 0 or above 1.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"`{name}` must lie in [0, 1]. Received: {getattr(settings, name)}.")
