"""CSV tables that are safe to open in a spreadsheet, which would run a cell such as `=HYPERLINK(...)` as a formula.

Such a cell gets an apostrophe in front, which spreadsheets take for the mark of text. Names of files and ids come from
strangers; where the language of the machine separates columns by semicolons, a name such as `1;=2` makes two cells.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# A formula begins with = + - or @, in spreadsheets for East Asia also with the wide forms. White space before it is
# dropped (https://owasp.org/www-community/attacks/CSV_Injection).
_START = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = rf"['\" ]*[{_START}]"
_ESCAPED = rf"(?:^(?=['\" ]*[{_START}\t\r\n])|(?<=[;\t\r\n])(?={_FORMULA}))"
_UNESCAPED = rf"(?:^'(?=['\" ]*[{_START}\t\r\n])|(?<=[;\t\r\n])'(?={_FORMULA}))"
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def escape_cell(value: str) -> str:
    """Return a cell in which nothing is a formula; a number stays one.

    Example:
        >>> escape_cell("=1+1"), escape_cell("a;=1"), escape_cell("-1.5")
        ("'=1+1", "a;'=1", '-1.5')
    """
    return value if _NUMBER.fullmatch(value) else re.sub(_ESCAPED, "'", value)


def unescape_cell(value: str) -> str:
    """Return the text that `escape_cell` was given."""
    return re.sub(_UNESCAPED, "", value)


def check_csv_name(name: str, path: Path) -> None:
    """Check that the argument `name` is a file whose name says that it is CSV.

    Raises:
        ValueError: If it does not end with .csv.
    """
    if path.suffix.lower() != ".csv":
        raise ValueError(f"`{name}` must end with .csv, a table that every spreadsheet opens. Received: {path.name}.")


def format_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows as CSV; texts are escaped, None is an empty cell."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows(map(_escape, row) for row in rows)
    return table.getvalue()


def format_frame(frame: "pd.DataFrame", *, float_format: str | None = None) -> str:
    """Format a table as CSV without its index; texts are escaped, NaN is an empty cell.

    Args:
        frame: The table.
        float_format: Format of floating-point numbers, such as `"%.2f"`.
    """
    texts = frame.select_dtypes(exclude=["number", "bool"])
    safe = frame.assign(**{name: texts[name].map(_escape) for name in texts})
    text: str = safe.to_csv(index=False, float_format=float_format)
    return text


def _escape(cell: Any) -> Any:
    return escape_cell(cell) if isinstance(cell, str) else cell
