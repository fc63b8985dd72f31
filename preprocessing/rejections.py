"""What a file or a table row becomes that can be no case: a reason to count by and a line to act on."""

import dataclasses

from preprocessing.radiograph import UnreadableImage
from tfrecords.errors import BoneAgeError


class Unfit(BoneAgeError):
    """A file or table row that can be no case.

    Its message is one line that names the file or row and the fix.

    Args:
        message: The line.
        reason: A code to count and filter by; `preprocessing.sources` lists them all.
    """

    def __init__(self, message: str, *, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A file or a table row that became no case.

    Args:
        id: Its id; `""` where it has none.
        file: The file within its source, or the table of a row without a file.
        reason: Why, as a code.
        detail: One line that names the file or row and the fix.
        decisions: JSON of what was decided of its hand, as in the records; `""` where none was looked for.
    """

    id: str
    file: str
    reason: str
    detail: str
    decisions: str = ""


def reject(id: str, *, file: str, error: Unfit | UnreadableImage) -> Rejection:
    """Make a rejection of an error, with unprintable characters escaped: names of files and rows are anyone's text."""
    return Rejection(_printable(id), _printable(file), error.reason, _printable(str(error)))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
