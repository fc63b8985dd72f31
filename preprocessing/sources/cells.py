"""The cells of a table, CSV or Excel, as text."""

import csv
import io
import re
from pathlib import Path

from boneage.base.errors import BoneAgeError


class UnreadableTableError(BoneAgeError):
    """A table that cannot be read or whose columns are incomplete."""


def read_cells(path: Path) -> list[list[str]]:
    """Read all lines of a CSV or Excel file as text; see `read_table` for the forms of CSV.

    Args:
        path: The file.

    Returns:
        The lines, each the stripped cells up to the last that is not blank; a blank line is an empty list.

    Raises:
        UnreadableTableError: If the file cannot be read.
    """
    try:
        content = path.read_bytes()
        # The content decides: an Excel file is a ZIP archive whatever its name.
        is_excel = content.startswith(b"PK")
        if not content.strip():
            raise ValueError("is empty")
        # Binary files have runs of zeros; a single one spoils only its row.
        if not is_excel and (path.suffix.lower() == ".xlsx" or b"\0\0" in content):
            raise ValueError("neither CSV nor an Excel file")
        lines = _excel_cells(content) if is_excel else _csv_cells(content)
    except OSError as error:
        raise UnreadableTableError(f"{path}: {error.strerror}; check the path of the table.") from error
    except Exception as error:  # openpyxl documents no closed set of errors for damaged files.
        raise UnreadableTableError(f"{path}: {error}; save the table as CSV in UTF-8 or as .xlsx.") from error
    for cells in lines:
        while cells and not cells[-1]:
            cells.pop()
    return lines


def _csv_cells(content: bytes) -> list[list[str]]:
    text = content.decode("utf-8-sig")
    # Excel names the separator in a line of its own, which it does not show.
    if named := re.match(r"sep=([,;\t])\r?\n", text, flags=re.IGNORECASE):
        text = text[named.end() :]
    header = text.partition("\n")[0]
    delimiter = named[1] if named else max(",;\t", key=header.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return [[cell.strip() for cell in cells] for cells in lines]


def _excel_cells(content: bytes) -> list[list[str]]:
    # Imported here: a tenth of a second that no other file needs.
    import openpyxl

    sheet = openpyxl.load_workbook(io.BytesIO(content), data_only=True).worksheets[0]
    return [[_text(value) for value in values] for values in sheet.iter_rows(values_only=True)]


def _text(value: object) -> str:
    # Excel stores no whole numbers: an id typed as 1377 may be read as 1377.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()
