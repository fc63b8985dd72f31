"""Where radiographs come from: which file is which case, with which labels, and why the rest is none.

Four kinds of source are understood:

- the RSNA bone age challenge as downloaded, from RSNA or from Kaggle, in whole or in part: its tables are known by name
  at most `RSNA_DEPTH` folders down and decide the split; its images are found in any folder;
- a folder of radiographs with a table of labels, see `preprocessing.tables`;
- a folder of DICOM files of any ending: sex and age stand in their headers, labels in a table by file name or by
  SOPInstanceUID;
- radiographs alone, one or many, for prediction.

The id of a case is its file name without the ending. Files are listed first and rows are looked up among them; no text
of a table ever becomes a path. Every file and every row ends as a case or as a rejection for one of these reasons, or
for one of `preprocessing.radiograph.UnreadableImage` where a DICOM header cannot be read:

| Reason | What it means |
|---|---|
| `hidden_file` | The name or a folder above starts with a dot or is `__MACOSX`: left behind by a system. |
| `not_an_image` | Neither an image by its ending nor DICOM by its content. |
| `unused_table` | A table that is neither given nor one of RSNA's. |
| `symbolic_link` | A link to a folder, to nothing or out of the source. |
| `unreadable_folder` | A folder that cannot be listed. |
| `unsafe_id` | A name that cannot be an id, or a path in a table that is absolute or goes up. |
| `ambiguous_file` | Several files with one id or one SOPInstanceUID. |
| `no_id` | A row without id. |
| `bad_row` | A row with more cells than the header. |
| `missing_file` | A row without file. |
| `no_row` | A file without row, although there is a table. |
| `duplicate_row` | A row that adds nothing to another one, which is kept. |
| `conflicting_rows` | Rows that disagree about one file. |
| `no_sex`, `bad_sex`, `bad_age`, `bad_split` | A value that is missing or cannot be right. |
| `sex_conflict` | The table and the DICOM header disagree. |
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from preprocessing.listing import RadiographFile, SourceNotFound, find_radiographs, is_safe_id, list_files, to_id
from preprocessing.rejections import Rejection, Unfit, reject
from preprocessing.tables import TABLE_SUFFIXES, Row, UnreadableTable, read_table

__all__ = ["Case", "Rejection", "SourceNotFound", "UnreadableTable", "find_cases"]

# Names of tables without ending, in lower case, and what they label. The training table is `train.csv` in RSNA's own
# archive (https://www.rsna.org/rsnai/ai-image-challenge/rsna-pediatric-bone-age-challenge-2017) and
# `boneage-training-dataset.csv` in Kaggle's copy (https://www.kaggle.com/datasets/kmader/rsna-bone-age).
RSNA_TABLES = {
    "train": "train",
    "boneage-training-dataset": "train",
    "validation dataset": "validation",
    "boneage-validation-dataset": "validation",
    "bone age ground truth": "test",
    "boneage-test-dataset": "test",
}
RSNA_DEPTH = 3
# Kaggle's test table holds no labels.
_RSNA_UNLABELLED = "boneage-test-dataset"


@dataclass(frozen=True)
class Case:
    """One radiograph with what its source says of it; `None` is what nobody says.

    Args:
        id: File name without ending, unique in the source, safe as the name of another file.
        path: The file.
        sex: `"female"` or `"male"`.
        bone_age_months: The label, above 0 and at most 300 months.
        chronological_age_months: Age when the radiograph was taken, in months.
        patient: Opaque hash, equal for radiographs of one patient. For grouping only, never to be written out.
        split: `"train"`, `"validation"` or `"test"`.
    """

    id: str
    path: Path
    sex: str | None = None
    bone_age_months: float | None = None
    chronological_age_months: float | None = None
    patient: str | None = None
    split: str | None = None


def find_cases(
    source: str | Path | Sequence[str | Path], *, table: str | Path | None = None
) -> tuple[list[Case], list[Rejection]]:
    """List the cases of a source, and with reasons every file and row that is none.

    Args:
        source: A folder or a file, or several of them.
        table: CSV or Excel file with labels; without it the tables of the RSNA challenge are looked for.

    Returns:
        The cases in the order of their files, and the rejections. Only a row rejected beside another one, such as a
        `duplicate_row`, shares its id with a case.

    Raises:
        SourceNotFound: If a source does not exist or is empty.
        UnreadableTable: If a table cannot be read or lacks a column.

    Example:
        >>> cases, rejections = find_cases("rsna")
        >>> cases[0].id, cases[0].sex, cases[0].bone_age_months, cases[0].split
        ('1377', 'female', 180.0, 'train')
    """
    paths: list[tuple[Path, str]] = []
    rejections: list[Rejection] = []
    for each in [source] if isinstance(source, str | Path) else source:
        more_paths, more = list_files(Path(each))
        paths += more_paths
        rejections += more
    if not paths and not rejections:
        raise SourceNotFound(f"{source}: no file in it; give the folder that holds the radiographs.")
    tables = [path for path, name in paths if _is_rsna_table(name)] if table is None else [Path(table)]
    rows = [row for path in tables for row in _read_rows(path)]
    files, more = find_radiographs([(path, name) for path, name in paths if not _is_among(path, tables)])
    rejections += more
    if not tables:
        return [_to_case(file, None) for file in files], rejections
    rows_by_id, more = _look_up(rows, files, rejected={rejection.id: rejection.reason for rejection in rejections})
    rejections += more
    cases = []
    for file in files:
        case, more = _settle(file, rows_by_id[file.id])
        rejections += more
        if case is not None:
            cases.append(case)
    return cases, rejections


def _is_rsna_table(name: str) -> bool:
    path = PurePosixPath(name)
    is_known = path.stem.lower() in RSNA_TABLES and path.suffix.lower() in TABLE_SUFFIXES
    return is_known and len(path.parents) - 1 <= RSNA_DEPTH


def _is_among(path: Path, tables: Sequence[Path]) -> bool:
    return any(path.name == table.name and path.samefile(table) for table in tables)


def _read_rows(table: Path) -> list[Row]:
    """Read a table, with the split that its name tells if it is one of RSNA's."""
    name = table.stem.lower()
    if name not in RSNA_TABLES:
        return read_table(table)
    rows = read_table(table, required=("sex",) if name == _RSNA_UNLABELLED else ("bone_age_months", "sex"))
    return [replace(row, labels={"split": RSNA_TABLES[name], **row.labels}) for row in rows]


def _look_up(
    rows: Sequence[Row], files: Sequence[RadiographFile], *, rejected: Mapping[str, str]
) -> tuple[dict[str, list[Row]], list[Rejection]]:
    """Find the rows of every file by its id; `rejected` are the reasons of the files that are out already, by id."""
    by_id = {file.id: file for file in files}
    by_uid = {file.header.sop_instance_uid: file for file in files if file.header and file.header.sop_instance_uid}
    rows_by_id: dict[str, list[Row]] = defaultdict(list)
    rejections = []
    for row in rows:
        try:
            if row.is_too_long:
                raise Unfit(
                    f"{row.place}: more cells than columns; quote text with separators in it.", reason="bad_row"
                )
            file = by_uid.get(row.sop_instance_uid) if row.sop_instance_uid else _find_by_name(row, by_id, rejected)
            if file is None:
                key = row.sop_instance_uid or row.file
                raise Unfit(f"{row.place}: no file {key!r}; add it or remove the row.", reason="missing_file")
            rows_by_id[file.id].append(row)
        except Unfit as error:
            rejections.append(reject(to_id(row.file) or row.sop_instance_uid, file=row.table.name, error=error))
    return rows_by_id, rejections


def _find_by_name(row: Row, by_id: Mapping[str, RadiographFile], rejected: Mapping[str, str]) -> RadiographFile | None:
    """Compare a row's id or path with the files there are, so that no text of a table is ever opened as a path."""
    if not row.file:
        raise Unfit(f"{row.place}: the id is blank; fill it in or remove the row.", reason="no_id")
    path = PureWindowsPath(row.file)  # It takes both separators and knows drives.
    id = to_id(path.name)
    if path.anchor or ".." in path.parts or not is_safe_id(id):
        raise Unfit(f"{row.place}: {row.file!r} is not safe as an id; write a plain file name.", reason="unsafe_id")
    file = by_id.get(id)
    if file is None and id in rejected:
        raise Unfit(f"{row.place}: the file of {id!r} is rejected; see there.", reason=rejected[id])
    folders = path.parts[:-1]
    is_elsewhere = file is not None and folders and file.path.parent.parts[-len(folders) :] != folders
    return None if is_elsewhere else file


def _settle(file: RadiographFile, rows: Sequence[Row]) -> tuple[Case | None, list[Rejection]]:
    """Make the case of a file and its rows, or say for each of them why there is none."""

    def rejected(detail: str, reason: str) -> Rejection:
        return reject(file.id, file=file.name, error=Unfit(detail, reason=reason))

    if not rows:
        return None, [rejected(f"{file.name}: no row in the table; add one or remove the file.", "no_row")]
    fullest = max(rows, key=lambda row: sum(map(bool, row.labels.values())))
    others = [row for row in rows if row is not fullest]
    if any(cell and cell != fullest.labels.get(field) for row in others for field, cell in row.labels.items()):
        fix = f"{len(rows)} rows disagree about {file.name}; keep the right one."
        return None, [rejected(f"{row.place}: {fix}", "conflicting_rows") for row in rows]
    spare = [rejected(f"{row.place}: adds nothing to {fullest.place}; remove it.", "duplicate_row") for row in others]
    try:
        return _to_case(file, fullest), spare
    except Unfit as error:
        return None, [reject(file.id, file=file.name, error=error), *spare]


def _to_case(file: RadiographFile, row: Row | None) -> Case:
    """Put together what the header and the row of a file say; where both speak the row counts, but not on sex."""
    case = Case(file.id, file.path)
    if header := file.header:
        age = header.chronological_age_months
        case = replace(case, sex=header.sex, chronological_age_months=age, patient=header.patient)
    if row is None:
        return case
    sex = row.sex()
    if sex and case.sex and sex != case.sex:
        raise Unfit(
            f"{row.place}: says {sex}, but the header of {file.name} says {case.sex}; correct the wrong one.",
            reason="sex_conflict",
        )
    if "sex" in row.labels and not (sex or case.sex):
        raise Unfit(f"{row.place}: the sex is blank; fill it in.", reason="no_sex")
    patient = row.labels.get("patient")
    return replace(
        case,
        sex=sex or case.sex,
        bone_age_months=row.months("bone_age_months"),
        chronological_age_months=row.months("chronological_age_months") or case.chronological_age_months,
        patient=hashlib.sha256(patient.encode()).hexdigest() if patient else case.patient,
        split=row.split(),
    )
