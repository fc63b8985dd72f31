"""Tables of labels: CSV or Excel, read as text, with the columns of the field under any of their usual names."""

import csv
import dataclasses
import io
import re
from collections.abc import Iterable
from pathlib import Path

from preprocessing.rejections import Unfit
from tfrecords.errors import BoneAgeError, closest
from tfrecords.schema import SPLITS

TABLE_SUFFIXES = frozenset({".csv", ".xlsx"})
# Names are compared in lower case without blanks and punctuation: `Bone Age (months)` is `boneagemonths`.
# Where a table has several of a field's columns the first one listed here counts.
COLUMNS: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sopinstanceuid",),
    "file": ("file", "filename", "filepath", "path", "image", "id", "imageid", "caseid"),
    "bone_age_months": ("boneage", "boneagemonths", "groundtruthboneagemonths"),
    "sex": ("sex", "gender", "male"),
    "chronological_age_months": ("chronologicalage", "chronologicalagemonths"),
    "patient": ("patient", "patientid"),
    "split": ("split",),
}
SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
# A column named `male` holds a truth value; `1.0` is what pandas makes of it when a value is missing.
MALE = {"true": "male", "1": "male", "1.0": "male", "false": "female", "0": "female", "0.0": "female"}
# Growth ends long before 25 years; the oldest bone age of the RSNA challenge is 228 months.
MAX_AGE_MONTHS = 300.0


class UnreadableTable(BoneAgeError):
    """A table that cannot be read at all, or without the columns it needs."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table of labels, as text.

    Args:
        table: Path of the table.
        number: Number of the row as a spreadsheet shows it: the header is row 1.
        file: Id or path of the file, `""` if blank or absent.
        sop_instance_uid: SOPInstanceUID of the file, `""` if blank or absent.
        labels: Stripped text by the other fields of `COLUMNS`, only those whose column the table has; `""` if blank.
        is_too_long: Whether the row has more cells than the header, so that no cell can be trusted to its column.
    """

    table: Path
    number: int
    file: str
    sop_instance_uid: str
    labels: dict[str, str]
    is_too_long: bool = False

    @property
    def place(self) -> str:
        """Where a user finds the row: `labels.csv row 12`."""
        return f"{self.table.name} row {self.number}"

    def sex(self) -> str | None:
        """Sex of the row, `None` if blank or absent.

        Raises:
            Unfit: If the cell is misspelt (`bad_sex`).
        """
        cell = self.labels.get("sex") or None
        if cell not in (None, "female", "male"):
            raise Unfit(
                f"{self.place}: sex is {cell!r}; write F or M, female or male, or True or False in a column `male`.",
                reason="bad_sex",
            )
        return cell

    def months(self, field: str) -> float | None:
        """Age in months in the column of `field`, `None` if blank or absent.

        Raises:
            Unfit: If the cell is no number in (0, `MAX_AGE_MONTHS`] (`bad_age`).
        """
        cell = self.labels.get(field, "")
        if not cell:
            return None
        # float() alone would also take "nan", "1e2" and "1_0".
        months = float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell, flags=re.ASCII) else 0.0
        if not 0 < months <= MAX_AGE_MONTHS:
            raise Unfit(
                f"{self.place}: {field} is {cell!r}; write months above 0 and at most {MAX_AGE_MONTHS:g}, "
                "with a decimal point.",
                reason="bad_age",
            )
        return months

    def split(self) -> str | None:
        """Split of the row, `None` if blank or absent.

        Raises:
            Unfit: If the cell names no split (`bad_split`).
        """
        cell = self.labels.get("split") or None
        if cell not in (None, *SPLITS):
            raise Unfit(
                f"{self.place}: split is {cell!r}; write one of {', '.join(SPLITS)}.{closest(str(cell), SPLITS)}",
                reason="bad_split",
            )
        return cell


def read_table(path: Path, *, required: Iterable[str] = ()) -> list[Row]:
    """Read a table of labels.

    CSV may be separated by commas, semicolons or tabs, with or without byte-order mark, with any line ends. Of an Excel
    file the first sheet is read. Everything stays text, so the id `007` stays `007`. Columns of other
    names are ignored.

    Args:
        path: A `.csv` file in UTF-8 or an `.xlsx` file.
        required: Fields of `COLUMNS` that the table must have, besides `file` or `sop_instance_uid`.

    Returns:
        The rows that are not blank, in their order.

    Raises:
        UnreadableTable: If the file cannot be read or lacks a column.
    """
    lines = _read_cells(path)
    header = lines[0] if lines else []
    names = [re.sub(r"[\W_]", "", name.lower()) for name in header]
    columns = {
        field: names.index(next(alias for alias in aliases if alias in names))
        for field, aliases in COLUMNS.items()
        if any(alias in names for alias in aliases)
    }
    missing = [field for field in required if field not in columns]
    if not {"file", "sop_instance_uid"} & set(columns):
        missing.insert(0, "file")
    if missing:
        wanted = "; ".join(f"{field} as one of {', '.join(COLUMNS[field])}" for field in missing)
        raise UnreadableTable(
            f"{path}: a column is missing. Received: {', '.join(header) or 'none'}. Expected: {wanted}."
        )
    sexes = MALE if "sex" in columns and names[columns["sex"]] == "male" else SEXES
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        values = {field: cells[column] if column < len(cells) else "" for field, column in columns.items()}
        if "sex" in values:
            values["sex"] = sexes.get(values["sex"].lower(), values["sex"])
        file, uid = (values.pop(field, "") for field in ("file", "sop_instance_uid"))
        rows.append(Row(path, number, file, uid, values, is_too_long=len(cells) > len(header)))
    return rows


def _read_cells(path: Path) -> list[list[str]]:
    """All lines as stripped text without the blank cells at their ends; a blank line is an empty list."""
    try:
        content = path.read_bytes()
        # Content decides: an Excel file is a ZIP archive whatever it is called.
        lines = _excel_cells(content) if content.startswith(b"PK") else _csv_cells(content)
    except OSError as error:
        raise UnreadableTable(f"{path}: {error.strerror}; check the path of the table.") from error
    except Exception as error:  # openpyxl documents no closed set of errors for damaged files.
        raise UnreadableTable(f"{path}: {error}; save the table as CSV in UTF-8 or as .xlsx.") from error
    for cells in lines:
        while cells and not cells[-1]:
            cells.pop()
    return lines


def _csv_cells(content: bytes) -> list[list[str]]:
    text = content.decode("utf-8-sig")
    header = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    return [[cell.strip() for cell in cells] for cells in lines]


def _excel_cells(content: bytes) -> list[list[str]]:
    # Imported here: a tenth of a second that no other file needs.
    import openpyxl

    sheet = openpyxl.load_workbook(io.BytesIO(content), data_only=True).worksheets[0]
    return [[_text(value) for value in values] for values in sheet.iter_rows(values_only=True)]


def _text(value: object) -> str:
    # Excel knows no whole numbers: an id typed as 1377 may come back as 1377.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()
