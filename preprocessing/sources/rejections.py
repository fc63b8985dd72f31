"""Rejections: a reason code and a message for each file or row that is not a case."""

import dataclasses

from boneage.base.errors import BoneAgeError, printable
from boneage.preprocessing.io.radiograph import UnreadableImageError


class InvalidEntryError(BoneAgeError):
    """A file or table row that cannot become a case.

    Its message is one line that names the file or row and the fix.

    Args:
        message: The message.
        reason: A code to count and filter by; `boneage.preprocessing.sources.sources` lists them all.
    """

    def __init__(self, message: str, *, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A file or a table row that is not a case.

    Args:
        id: Its id; `""` where it has none.
        file: The file within its source, or the table of a row without a file.
        reason: The reason code.
        detail: One line that names the file or row and the fix.
        decisions: JSON of the decisions about its hand, as in the records; `""` without segmentation.
    """

    id: str
    file: str
    reason: str
    detail: str
    decisions: str = ""


def make_rejection(id: str, *, file: str, error: InvalidEntryError | UnreadableImageError) -> Rejection:
    """Make a rejection from an error; unprintable characters are escaped, since file names may be any text."""
    return Rejection(printable(id), printable(file), error.reason, printable(str(error)))
