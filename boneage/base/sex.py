"""The sex as people, tables and DICOM headers write it."""

_SPELLINGS = {"f": "female", "female": "female", "m": "male", "male": "male"}
# PS3.3 C.7.1.1.1.13 defines O as other; the rest is how software writes that the sex is unknown.
_NOT_STATED = frozenset({"", "o", "other", "u", "unknown"})
# Characters of a value that errors quote: as many as DICOM allows (PS3.5 6.2, type CS).
MAX_SHOWN = 16


class UnknownSexError(ValueError):
    """A text that names no sex that this package understands; its message quotes the text."""


def parse_sex(text: str) -> str | None:
    """Parse the sex: f, female, m or male, in upper or lower case, with blanks around it.

    Args:
        text: What was written.

    Returns:
        `"female"`, `"male"`, or None if the text is blank or says that the sex is other or unknown.

    Raises:
        UnknownSexError: If it is anything else: the sex is never guessed.

    Example:
        >>> parse_sex(" M"), parse_sex("")
        ('male', None)
    """
    word = text.strip().casefold()
    if word in _NOT_STATED:
        return None
    if word not in _SPELLINGS:
        raise UnknownSexError(f"{text.strip()[:MAX_SHOWN]!r} is not understood; write F or M, female or male")
    return _SPELLINGS[word]
