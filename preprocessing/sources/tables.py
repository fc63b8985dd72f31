"""Tables of labels: CSV or Excel, read as text; each column may have any of its usual names."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from boneage.base.errors import check_choice, suggest_closest
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.preprocessing.sources.cells import UnreadableTableError, read_cells
from boneage.preprocessing.sources.rejections import InvalidEntryError
from boneage.tfrecords.schema import SEXES, SPLITS

TABLE_SUFFIXES = frozenset({".csv", ".xlsx"})
# Names are compared in lower case without blanks and punctuation: `Bone Age (months)` is `boneagemonths`.
# Where a table has several of a field's columns the first one listed here counts, but of files all of them.
COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "sop_instance_uid": ("sopinstanceuid",),
    "file": ("id", "imageid", "caseid", "file", "filename", "filepath", "path", "image"),
    "bone_age": ("boneage", "groundtruthboneage"),
    "sex": ("sex", "gender", "male", "female"),
    "chronological_age": ("chronologicalage", "chronological", "age", "patientage"),
    "num_readers": ("numreaders",),
    "reader_sd": ("sdmonths",),
    "patient": ("patient", "patientid"),
    "split": ("split",),
}
AGE_FIELDS = ("bone_age", "chronological_age")
AGE_UNITS = ("years", "months", "auto")
_UNIT_AFTER_NAME = re.compile(r"(in)?(month|months|year|years)$")
# The oldest child with an open growth plate is younger: a column below is one of years, or of infants only.
YEARS_BELOW = 20.0
_MONTHS_PER_UNIT = {"months": 1.0, "years": 12.0}
# Excel writes truth values in its own language: English, German, French, Spanish.
_TRUE = frozenset({"true", "1", "1.0", "t", "yes", "wahr", "vrai", "verdadero"})
_FALSE = frozenset({"false", "0", "0.0", "no", "falsch", "faux", "falso"})
# Growth ends long before 25 years; the oldest bone age of the RSNA challenge is 228 months.
MAX_AGE_MONTHS = 300.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table of labels, as text.

    Args:
        table: Path of the table.
        number: Number of the row as a spreadsheet shows it: the header is row 1.
        files: Ids or paths of the file, of every column that may contain them and is not blank.
        sop_instance_uid: SOPInstanceUID of the file, `""` if blank or absent.
        labels: Stripped text by the other fields of `COLUMN_ALIASES`, only those whose column the table has; `""` if
            blank.
        units: Unit of the ages, `"months"` or `"years"`, by their field.
        is_age_unit_stated: Whether the unit of the chronological age is certain: stated by its column or by the user.
        sex_heading: Heading of the column of the sex, which may say what its codes mean.
        is_too_long: Whether the row has more cells than the header, so that cells may be in the wrong columns.
        columns: Text of the further columns that were asked for, in their order; `""` if blank.
    """

    table: Path
    number: int
    files: tuple[str, ...]
    sop_instance_uid: str
    labels: dict[str, str]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_age_unit_stated: bool = True
    sex_heading: str = "sex"
    is_too_long: bool = False
    columns: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """Location of the row for the user: `labels.csv row 12`."""
        return f"{self.table.name} row {self.number}"

    def sex(self) -> str | None:
        """Sex of the row, `None` if blank or absent.

        Raises:
            InvalidEntryError: If the cell is no known spelling (`sex_unknown`).
        """
        cell = self.labels.get("sex", "")
        try:
            return _parse_sex_cell(cell, heading=self.sex_heading)
        except UnknownSexError:
            raise InvalidEntryError(
                f"{self.location}: sex is {cell!r}; write F or M, female or male, or true or false in a column `male`.",
                reason="sex_unknown",
            ) from None

    def months(self, field: str) -> float | None:
        """Age in months in the column of `field`, `None` if blank or absent.

        Raises:
            InvalidEntryError: If the cell is not a number above 0 and at most `MAX_AGE_MONTHS` (`bad_age`).
        """
        cell = self.labels.get(field, "")
        if not cell:
            return None
        unit = self.units.get(field, "months")
        months = (parse_number(cell) or 0.0) * _MONTHS_PER_UNIT[unit]
        if not 0 < months <= MAX_AGE_MONTHS:
            raise InvalidEntryError(
                f"{self.location}: {field} is {cell!r}; write {unit} above 0 and at most "
                f"{MAX_AGE_MONTHS / _MONTHS_PER_UNIT[unit]:g}.",
                reason="bad_age",
            )
        return months

    def num_readers(self) -> int | None:
        """Number of readers whose readings the bone age joins, `None` if blank or absent.

        Raises:
            InvalidEntryError: If the cell is no positive whole number (`bad_readers`).
        """
        cell = self.labels.get("num_readers", "")
        number = parse_number(cell) if cell else None
        if cell and (number is None or number < 1 or number % 1):
            raise InvalidEntryError(
                f"{self.location}: num_readers is {cell!r}; write a whole number from 1.", reason="bad_readers"
            )
        return None if number is None else int(number)

    def reader_sd_months(self) -> float | None:
        """Standard deviation between these readers in months, `None` if blank or absent, or without their number.

        Raises:
            InvalidEntryError: If the cell is no number up to `MAX_AGE_MONTHS` (`bad_readers`).
        """
        cell = self.labels.get("reader_sd", "")
        if not cell or not self.labels.get("num_readers"):
            return None
        months = parse_number(cell)
        if months is None or months > MAX_AGE_MONTHS:
            raise InvalidEntryError(
                f"{self.location}: sd_months is {cell!r}; write months from 0 to {MAX_AGE_MONTHS:g}.",
                reason="bad_readers",
            )
        return months

    def split(self) -> str | None:
        """Split of the row, `None` if blank or absent.

        Raises:
            InvalidEntryError: If the cell names no split (`bad_split`).
        """
        cell = self.labels.get("split") or None
        if cell not in (None, *SPLITS):
            raise InvalidEntryError(
                f"{self.location}: split is {cell!r}; write one of {', '.join(SPLITS)}."
                f"{suggest_closest(str(cell), SPLITS)}",
                reason="bad_split",
            )
        return cell


def read_table(
    path: Path, *, required: Iterable[str] = (), age_unit: str | None = None, columns: Sequence[str] = ()
) -> list[Row]:
    """Read a table of labels.

    CSV may be separated by commas, semicolons or tabs, with or without byte-order mark or Excel's `sep=` line, with any
    line ends; numbers may have a decimal comma. Of an Excel file the first sheet is read. Everything stays text, so the
    id `007` stays `007`. Columns of other names are ignored.

    The unit of an age is stated by its column (`bone_age_years`) or by `age_unit`. Without either it is months, unless
    all its values lie below `YEARS_BELOW`: then the table is refused, since they may be years.

    Args:
        path: A `.csv` file in UTF-8 or an `.xlsx` file.
        required: Fields of `COLUMN_ALIASES` that the table must have, besides `file` or `sop_instance_uid`.
        age_unit: Unit of ages whose column does not state it, one of `AGE_UNITS`: `"auto"` takes years where all values
            of a column lie below `YEARS_BELOW`, else months (default: refuse what may be years).
        columns: Headings of further columns to keep, such as `device`.

    Returns:
        The rows that are not blank, in their order.

    Raises:
        UnreadableTableError: If the file cannot be read, a column is missing, or the unit of an age is not known.
        ValueError: If `age_unit` is unknown.
    """
    return parse_rows(read_cells(path), path=path, required=required, age_unit=age_unit, further=columns)


def parse_rows(
    lines: Sequence[Sequence[str]],
    *,
    path: Path,
    required: Iterable[str] = (),
    age_unit: str | None = None,
    further: Sequence[str] = (),
) -> list[Row]:
    """Make rows of the cells of a table, as `read_table` does.

    Args:
        lines: Text of the cells of each line, the header first.
        path: Path of the table, named in errors.
        required: As in `read_table`.
        age_unit: As in `read_table`.
        further: The `columns` of `read_table`.

    Raises:
        UnreadableTableError: If a column is missing, or the unit of an age is not known.
        ValueError: If `age_unit` is unknown.
    """
    if age_unit is not None:
        check_choice("age_unit", age_unit, AGE_UNITS)
    header = lines[0] if lines else []
    columns = _find_columns(header)
    missing = [field for field in required if field not in columns]
    if not {"file", "sop_instance_uid"} & set(columns):
        missing.insert(0, "file")
    if missing:
        wanted = "; ".join(f"{field} as one of {', '.join(_expected_names(field))}" for field in missing)
        raise UnreadableTableError(
            f"{path}: a column is missing. Received: {', '.join(header) or 'none'}. Expected: {wanted}."
        )
    units, is_stated = _find_units(lines, columns, path=path, age_unit=age_unit)
    places = [_find_heading(header, name, path=path) for name in further]
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        values = {
            field: [cells[index] if index < len(cells) else "" for index in indices]
            for field, indices in columns.items()
        }
        files, (uid,) = values.pop("file", []), values.pop("sop_instance_uid", [""])
        rows.append(
            Row(
                path,
                number,
                tuple(filter(None, files)),
                uid,
                {field: cell for field, (cell,) in values.items()},
                units=units,
                is_age_unit_stated=is_stated,
                sex_heading=header[columns["sex"][0]] if "sex" in columns else "sex",
                is_too_long=len(cells) > len(header),
                columns=tuple(cells[place] if place < len(cells) else "" for place in places),
            )
        )
    return rows


def _find_columns(header: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the columns of each field: one, or several for the names of files."""
    names = [_column_name(heading) for heading in header]
    columns = {}
    for field, aliases in COLUMN_ALIASES.items():
        if indices := [names.index(alias) for alias in aliases if alias in names]:
            columns[field] = indices if field == "file" else indices[:1]
    return columns


def _find_heading(header: Sequence[str], name: str, *, path: Path) -> int:
    """Index of the first column of a name, whose case, blanks and punctuation do not matter.

    Raises:
        UnreadableTableError: If there is none.
    """
    headings = [simplify_heading(heading) for heading in header]
    if simplify_heading(name) not in headings:
        raise UnreadableTableError(
            f"{path}: has no column {name!r}. Received: {', '.join(header) or 'none'}.{suggest_closest(name, header)}"
        )
    return headings.index(simplify_heading(name))


def _column_name(heading: str) -> str:
    name = simplify_heading(heading)
    if _coded_sexes(heading):
        return "sex"
    stem = _UNIT_AFTER_NAME.sub("", name)
    return stem if any(stem in COLUMN_ALIASES[field] for field in AGE_FIELDS) else name


def _expected_names(field: str) -> list[str]:
    names = COLUMN_ALIASES[field]
    return [f"{name}{unit}" for name in names for unit in ("", "months", "years")] if field in AGE_FIELDS else [*names]


def _find_units(
    lines: Sequence[Sequence[str]], columns: Mapping[str, Sequence[int]], *, path: Path, age_unit: str | None
) -> tuple[dict[str, str], bool]:
    """Unit of each age, and whether that of the chronological age is stated."""
    units: dict[str, str] = {}
    is_stated = True
    for field in AGE_FIELDS:
        if field not in columns:
            continue
        (index,) = columns[field]
        heading = lines[0][index]
        found = _UNIT_AFTER_NAME.search(simplify_heading(heading))
        by_name = f"{found[2].removesuffix('s')}s" if found else None
        values = [
            value for cells in lines[1:] if index < len(cells) and (value := parse_number(cells[index])) is not None
        ]
        may_be_years = bool(values) and max(values) < YEARS_BELOW
        if by_name == "years":
            units[field] = "years"
        elif may_be_years and age_unit is None:
            seen = f"{min(values):g} to {max(values):g}" if len(values) > 1 else f"{values[0]:g}"
            raise UnreadableTableError(
                f"{path}: column {heading!r} contains {seen}, which may be years or months; say which with "
                "--age-unit years or --age-unit months, or by the name of the column."
            )
        elif (by_name is None and age_unit in _MONTHS_PER_UNIT) or may_be_years:
            units[field] = ("years" if age_unit == "auto" else age_unit) or "months"
        else:
            units[field] = "months"
        if field == "chronological_age":
            is_stated = by_name is not None or age_unit in _MONTHS_PER_UNIT
    return units, is_stated


def simplify_heading(heading: str) -> str:
    """Return a heading in lower case without blanks and punctuation, as names of columns are compared."""
    return re.sub(r"[\W_]", "", heading.lower())


def parse_number(cell: str) -> float | None:
    """Read a number with decimal point or comma, None if it is none: float() would also take "nan", "1e2" and "1_0"."""
    return float(cell.replace(",", ".")) if re.fullmatch(r"\d+([.,]\d+)?", cell, flags=re.ASCII) else None


def _parse_sex_cell(cell: str, *, heading: str) -> str | None:
    """Parse a cell of the sex by the heading of its column, which may say what a code means.

    Raises:
        UnknownSexError: If it is not understood.
    """
    word = cell.strip().casefold()
    name = simplify_heading(heading)
    if coded := _coded_sexes(heading).get(word.removesuffix(".0")):
        return coded
    if name in SEXES and word in _TRUE | _FALSE:
        return name if word in _TRUE else next(sex for sex in SEXES if sex != name)
    if name == "female" and word in ("f", "m"):
        raise UnknownSexError(f"{cell!r} may be false or the sex")
    return parse_sex(cell)


def _coded_sexes(heading: str) -> dict[str, str]:
    """What a heading such as `sex (1 = male, 0 = female)` says of its codes; empty for any other heading."""
    if not re.match(r"(sex|gender)\b", heading.strip(), flags=re.IGNORECASE):
        return {}
    pairs = re.findall(r"(\d)\s*[=:]\s*(female|male|f|m)\b", heading.lower())
    return {code: sex for code, text in pairs if (sex := parse_sex(text))}
