"""Labelled radiographs: those of a folder with a table, or the rows of a table alone."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.preprocessing.io.dicom.read import hash_patient
from boneage.preprocessing.sources.names import to_id
from boneage.preprocessing.sources.patients import resolve_patients
from boneage.preprocessing.sources.rejections import InvalidEntryError
from boneage.preprocessing.sources.sources import Case, find_cases
from boneage.preprocessing.sources.tables import Row, read_table

BLANK = "(blank)"
"""The group of radiographs whose cell is blank."""
RESERVED = frozenset(
    {
        "id",
        "group",
        "bone_age_months",
        "chronological_age_months",
        "determination",
        "predicted_months",
        "low_months",
        "high_months",
        "without_age",
        "reasons",
        "error_months",
    }
)
"""The columns of tables of predictions, which no further column may be called."""
NO_LABEL = "no_bone_age"
# What is neither a radiograph nor a row, and needs no word in a report of labelled radiographs.
_UNTOLD = frozenset({"hidden_file", "unused_table", "duplicate_row", "identical_copy"})


class CohortError(BoneAgeError):
    """Labelled radiographs that cannot be measured."""


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled radiographs.

    Args:
        name: Their folder or table.
        cases: The radiographs with a label.
        columns: Names of the further columns.
        left_out: Number of files and rows that are no labelled radiograph, by reason.
    """

    name: str
    cases: list[Case]
    columns: tuple[str, ...]
    left_out: dict[str, int]

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each radiograph.

        Returns:
            `id`, `sex`, `bone_age_months`, `chronological_age_months` (NaN where unknown), `group` (equal for a
            patient), and the further columns.
        """
        patients = [case.patient or f"radiograph {case.id}" for case in self.cases]
        frame = pd.DataFrame(
            {
                "id": [case.id for case in self.cases],
                "sex": [case.sex for case in self.cases],
                "bone_age_months": np.array([case.bone_age_months for case in self.cases], float),
                "chronological_age_months": np.array([case.chronological_age_months for case in self.cases], float),
                "group": pd.factorize(np.array(patients))[0],
            }
        )
        for index, name in enumerate(_without_sex(self.columns)):
            frame[name] = [case.columns[index] or BLANK for case in self.cases]
        return frame


def find_labelled(
    files: str | Path | None,
    *,
    table: str | Path | None,
    age_unit: str | None = None,
    columns: Sequence[str] = (),
) -> Labelled:
    """Find the radiographs that have a label.

    Args:
        files: Folder of radiographs, or None: the rows of `table` then count, whether there are files or not.
        table: CSV or Excel file with the labels (default: the tables of the RSNA challenge, if present).
        age_unit: Unit of the ages in `table`, see `boneage.preprocessing.sources.tables.read_table`.
        columns: Headings of further columns of the table; `sex` is that of table or header, whatever its heading.

    Raises:
        CohortError: If a further column has the name of one that is always there, or no radiograph has a label.
        BoneAgeError: If the folder or the table cannot be read, or a column is missing.
    """
    if taken := [name for name in columns if name in RESERVED]:
        raise CohortError(f"a column to group by must not be called {taken[0]!r}; give it another name in the table.")
    if files is None and table is None:
        raise ValueError("`files` and `table` are both missing: give the radiographs, or at least their labels.")
    further = _without_sex(columns)
    left_out: Counter[str] = Counter()
    if files is None:
        cases = _list_rows(Path(str(table)), age_unit=age_unit, columns=further, left_out=left_out)
    else:
        required = () if table is None else ("bone_age",)
        cases, rejections = find_cases(files, table=table, age_unit=age_unit, required=required, columns=further)
        left_out.update(item.reason for item in rejections if item.reason not in _UNTOLD)
    labelled = [case for case in resolve_patients(cases)[0] if case.bone_age_months is not None]
    if len(labelled) < len(cases):
        left_out[NO_LABEL] += len(cases) - len(labelled)
    name = str(table if files is None else files)
    if not labelled:
        told = f" Left out: {format_counts(left_out)}." if left_out else ""
        raise CohortError(
            f"{name}: no radiograph has a bone age; give a table with the columns id and bone_age_months.{told}"
        )
    return Labelled(name, labelled, tuple(columns), dict(sorted(left_out.items())))


def format_counts(counts: "Counter[str] | dict[str, int]") -> str:
    """Format numbers by reason: `cut_off 2, no_hand 1`."""
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def _without_sex(columns: Sequence[str]) -> list[str]:
    """Return the further columns but the sex, which every labelled radiograph has."""
    return [name for name in columns if name != "sex"]


def _list_rows(table: Path, *, age_unit: str | None, columns: Sequence[str], left_out: Counter[str]) -> list[Case]:
    cases: dict[str, Case] = {}
    for row in read_table(table, required=("bone_age",), age_unit=age_unit, columns=columns):
        try:
            case = _to_case(row)
        except InvalidEntryError as error:
            left_out[error.reason] += 1
            continue
        if case.id in cases and case != cases[case.id]:
            raise CohortError(f"{row.location}: {case.id!r} has another row with other values; keep the correct one.")
        cases[case.id] = case
    return list(cases.values())


def _to_case(row: Row) -> Case:
    if row.is_too_long:
        raise InvalidEntryError(f"{row.location}: more cells than columns.", reason="bad_row")
    name = row.sop_instance_uid or next(iter(row.files), "")
    if not name:
        raise InvalidEntryError(f"{row.location}: the id is blank.", reason="no_id")
    path = PureWindowsPath(name).as_posix()
    patient = row.labels.get("patient")
    return Case(
        to_id(path),
        Path(path),
        path,
        sex=row.sex(),
        bone_age_months=row.months("bone_age"),
        chronological_age_months=row.months("chronological_age"),
        is_age_unit_stated=row.is_age_unit_stated,
        patient=hash_patient(patient) if patient else None,
        columns=row.columns,
    )
