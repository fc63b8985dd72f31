"""Sources of radiographs: cases with labels, and rejections with reasons.

There are five kinds of source:

- the RSNA bone age challenge as downloaded, from RSNA or from Kaggle, in whole or in part: its tables are recognised by
  name, at most `MAX_TABLE_DEPTH` folders down, and define the split; its images may be in any folder;
- the RHPE data set (Escobar et al. 2019, doi:10.1007/978-3-030-32226-7_59) as downloaded, recognised in the same way;
- a folder of radiographs with a table of labels, see `boneage.preprocessing.sources.tables`;
- a folder of DICOM files with any extension: sex and age are in their headers, labels in a table by file name or by
  SOPInstanceUID;
- radiographs alone, one or many, for prediction.

The id of a case is its SOPInstanceUID, or else its file name without extension, or where several files have that name,
its path within the source. A table may name a file by its id, its path, or its base name where that is unique. Files
are listed first and rows are matched with them; no text of a table is used as a path. Every file and every row becomes
a case or a rejection for one of these reasons, or for one of
`boneage.preprocessing.io.radiograph.UnreadableImageError` if a DICOM header cannot be read:

| Reason | Meaning |
|---|---|
| `hidden_file` | The name or a folder above it starts with a dot or is `__MACOSX`: a file of the operating system. |
| `not_an_image` | Neither an image by its extension nor DICOM by its content. |
| `unused_table` | A table that is neither given nor one of RSNA's or RHPE's. |
| `symbolic_link` | A link to a missing file, or to a folder that is listed anyway. |
| `unreadable_folder` | A folder that cannot be listed. |
| `unsafe_id` | A name that is not a valid id, or a path in a table that is absolute or contains `..`. |
| `identical_copy` | The same bytes as a file of the same name or SOPInstanceUID, which is used. |
| `ambiguous_file` | A row whose text names several files, or files of several sources with one path. |
| `no_id` | A row without id. |
| `bad_row` | A row with more cells than the header. |
| `missing_file` | A row without file. |
| `no_row` | A file without row, although there is a table. |
| `duplicate_row` | A row whose values are all in another row, which is kept. |
| `conflicting_rows` | Rows that disagree about one file. |
| `no_sex`, `sex_unknown`, `bad_age`, `bad_readers`, `bad_split` | A value that is missing or invalid. |
| `sex_conflict` | The table and the DICOM header disagree. |
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from boneage.preprocessing.io.dicom.read import hash_patient
from boneage.preprocessing.sources.listing import (
    RadiographFile,
    SourceNotFoundError,
    find_radiographs,
    list_files,
)
from boneage.preprocessing.sources.names import FileIndex, to_id
from boneage.preprocessing.sources.rejections import InvalidEntryError, Rejection, make_rejection
from boneage.preprocessing.sources.tables import TABLE_SUFFIXES, Row, read_table

__all__ = ["Case", "Rejection", "SourceNotFoundError", "find_cases"]

# Names of tables without extension, in lower case, and the split that they label. The training table is `train.csv` in
# RSNA's own archive (https://www.rsna.org/rsnai/ai-image-challenge/rsna-pediatric-bone-age-challenge-2017) and
# `boneage-training-dataset.csv` in Kaggle's copy (https://www.kaggle.com/datasets/kmader/rsna-bone-age).
RSNA_TABLES = {
    "train": "train",
    "boneage-training-dataset": "train",
    "validation dataset": "validation",
    "boneage-validation-dataset": "validation",
    "bone age ground truth": "test",
    "boneage-test-dataset": "test",
}
# The columns are ID, Male, Boneage and Chronological, and the file of ID 7 is `00007.png`, as in the loader of its
# authors (https://github.com/BCV-Uniandes/SIMBA, simba/data/data_loader.py).
RHPE_TABLES = {
    "rhpe_boneage_train": "train",
    "rhpe_boneage_val": "validation",
    "rhpe_gender_chronological_test": "test",
}
MAX_TABLE_DEPTH = 3
_TABLES = RSNA_TABLES | RHPE_TABLES
_RHPE_NAME_DIGITS = 5
# Kaggle's test table contains no labels, nor does that of RHPE.
_UNLABELLED = frozenset({"boneage-test-dataset", "rhpe_gender_chronological_test"})


@dataclass(frozen=True)
class Case:
    """One radiograph and what its source says about it; None where unknown.

    Args:
        id: Unique in the source, and valid as the path of another file within a folder.
        path: The file.
        name: The file within its source, with `/` between folders.
        sex: `"female"` or `"male"`.
        bone_age_months: The label, above 0 and at most 300 months.
        num_readers: Number of readers whose readings the label joins.
        reader_sd_months: Standard deviation between them, in months.
        chronological_age_months: Age when the radiograph was taken, in months.
        is_age_unit_stated: Whether the unit of the chronological age is certain, as in DICOM headers.
        patient: Hash that is equal for radiographs of one patient. For grouping only; it must not be written out.
        study: Hash that is equal for radiographs of one DICOM study; like `patient`.
        split: `"train"`, `"validation"` or `"test"`.
        columns: Text of the further columns of the table that were asked for, in their order.
    """

    id: str
    path: Path
    name: str = ""
    sex: str | None = None
    bone_age_months: float | None = None
    num_readers: int | None = None
    reader_sd_months: float | None = None
    chronological_age_months: float | None = None
    is_age_unit_stated: bool = True
    patient: str | None = None
    study: str | None = None
    split: str | None = None
    columns: tuple[str, ...] = ()


def find_cases(
    source: str | Path | Sequence[str | Path],
    *,
    table: str | Path | None = None,
    age_unit: str | None = None,
    required: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> tuple[list[Case], list[Rejection]]:
    """List the cases of a source, and the files and rows that are not cases, with reasons.

    Args:
        source: A folder or a file, or several of them.
        table: CSV or Excel file with labels (default: the tables of the RSNA challenge or of RHPE, if present).
        age_unit: Unit of the ages in `table`, see `boneage.preprocessing.sources.tables.read_table`.
        required: Fields that `table` must have.
        columns: Headings of further columns that `table` must have, to be kept as `Case.columns`.

    Returns:
        The cases in the order of their files, and the rejections. Only a rejected row whose file has another row, such
        as a `duplicate_row`, and an `identical_copy` share their id with a case.

    Raises:
        SourceNotFoundError: If a source does not exist or is empty.
        UnreadableTableError: If a table cannot be read, a column is missing, or its ages may be years.

    Example:
        >>> cases, rejections = find_cases("rsna")
        >>> cases[0].id, cases[0].sex, cases[0].bone_age_months, cases[0].split
        ('1377', 'female', 180.0, 'train')
    """
    paths: list[tuple[Path, str]] = []
    rejections: list[Rejection] = []
    sources = [source] if isinstance(source, str | Path) else source
    for path in sources:
        more_paths, more = list_files(Path(path))
        paths += more_paths
        rejections += more
    if not paths and not rejections:
        raise SourceNotFoundError(
            f"{', '.join(map(str, sources))}: contains no files; give the folder that contains the radiographs."
        )
    tables = [path for path, name in paths if _is_known_table(name)] if table is None else [Path(table)]
    if table is None:
        rows = [row for path in tables for row in _read_known_rows(path, columns=columns)]
    else:
        rows = read_table(Path(table), required=required, age_unit=age_unit, columns=columns)
    files, more = find_radiographs([(path, name) for path, name in paths if not _is_among(path, tables)])
    rejections += more
    if not tables:
        return [_to_case(file, None) for file in files], rejections
    rejected = {name: item.reason for item in rejections for name in (item.id, to_id(item.file)) if name}
    rows_by_id, more = _match_rows(rows, files, rejected=rejected)
    rejections += more
    cases = []
    for file in files:
        case, more = _resolve_case(file, rows_by_id[file.id])
        rejections += more
        if case is not None:
            cases.append(case)
    return cases, rejections


def _is_known_table(name: str) -> bool:
    path = PurePosixPath(name)
    is_named = path.stem.lower() in _TABLES and path.suffix.lower() in TABLE_SUFFIXES
    return is_named and len(path.parents) - 1 <= MAX_TABLE_DEPTH


def _is_among(path: Path, tables: Sequence[Path]) -> bool:
    return any(path.name == table.name and path.samefile(table) for table in tables)


def _read_known_rows(table: Path, *, columns: Sequence[str]) -> list[Row]:
    """Read a table of a known data set, whose ages are months, with the split that its name defines."""
    name = table.stem.lower()
    required = ("sex",) if name in _UNLABELLED else ("bone_age", "sex")
    rows = read_table(table, required=required, age_unit="months", columns=columns)
    if name in RHPE_TABLES:
        rows = [replace(row, files=tuple(file.zfill(_RHPE_NAME_DIGITS) for file in row.files)) for row in rows]
    return [replace(row, labels={"split": _TABLES[name], **row.labels}) for row in rows]


def _match_rows(
    rows: Sequence[Row], files: Sequence[RadiographFile], *, rejected: Mapping[str, str]
) -> tuple[dict[str, list[Row]], list[Rejection]]:
    """Return the rows of every file by its id; `rejected` are the reasons of rejected files, by id and by path."""
    by_uid: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.header and file.header.sop_instance_uid:
            by_uid[file.header.sop_instance_uid].append(file.id)
    index = FileIndex((file.id, file.path) for file in files)
    rows_by_id: dict[str, list[Row]] = defaultdict(list)
    rejections = []
    for row in rows:
        try:
            rows_by_id[_find_file(row, index, by_uid, rejected)].append(row)
        except InvalidEntryError as error:
            id = to_id(row.files[0]) if row.files else row.sop_instance_uid
            rejections.append(make_rejection(id, file=row.table.name, error=error))
    return rows_by_id, rejections


def _find_file(row: Row, index: FileIndex, by_uid: Mapping[str, Sequence[str]], rejected: Mapping[str, str]) -> str:
    """Find the id of the file of a row by its UID, or by the first of its columns that names a file.

    Raises:
        InvalidEntryError: If there is none, or several.
    """

    def problem(text: str, reason: str) -> InvalidEntryError:
        return InvalidEntryError(f"{row.location}: {text}", reason=reason)

    if row.is_too_long:
        raise problem("more cells than columns; quote text that contains separators.", "bad_row")
    found: dict[str, str] = {}
    errors: list[InvalidEntryError] = []
    for text in row.files if not row.sop_instance_uid else ():
        try:
            if id := index.find(text) or (by_uid[text][0] if len(by_uid.get(text, ())) == 1 else None):
                found.setdefault(id, text)
        except InvalidEntryError as error:
            errors.append(problem(str(error), error.reason))
    if ids := by_uid.get(row.sop_instance_uid, ()):
        if len(ids) > 1:
            raise problem(f"{len(ids)} files have the UID {row.sop_instance_uid}; give the path.", "ambiguous_file")
        return ids[0]
    if len(found) > 1:
        raise problem(f"names different files, {' and '.join(map(repr, found.values()))}; correct one.", "bad_row")
    if found:
        return next(iter(found))
    if errors:
        raise errors[0]
    key = row.sop_instance_uid or next(iter(row.files), "")
    if not key:
        raise problem("the id is blank; fill it in or remove the row.", "no_id")
    if reason := rejected.get(to_id(PureWindowsPath(key).as_posix())) or rejected.get(to_id(PureWindowsPath(key).name)):
        raise problem(f"the file of {key!r} was rejected; see its own row in rejected.csv.", reason)
    raise problem(f"no file {key!r}; add it or remove the row.", "missing_file")


def _resolve_case(file: RadiographFile, rows: Sequence[Row]) -> tuple[Case | None, list[Rejection]]:
    """Resolve a file and its rows into one case, or reject them with reasons."""

    def rejected(detail: str, reason: str) -> Rejection:
        return make_rejection(file.id, file=file.name, error=InvalidEntryError(detail, reason=reason))

    if not rows:
        return None, [rejected(f"{file.name}: no row in the table; add one or remove the file.", "no_row")]
    fullest = max(rows, key=lambda row: sum(map(bool, row.labels.values())))
    others = [row for row in rows if row is not fullest]
    contradicts = any(
        cell and cell != fullest.labels.get(field) for row in others for field, cell in row.labels.items()
    )
    if contradicts or any(row.columns != fullest.columns for row in others):
        fix = f"{len(rows)} rows disagree about {file.name}; keep the correct one."
        return None, [rejected(f"{row.location}: {fix}", "conflicting_rows") for row in rows]
    spare = [rejected(f"{row.location}: duplicates {fullest.location}; remove it.", "duplicate_row") for row in others]
    try:
        return _to_case(file, fullest), spare
    except InvalidEntryError as error:
        return None, [make_rejection(file.id, file=file.name, error=error), *spare]


def _to_case(file: RadiographFile, row: Row | None) -> Case:
    """Merge header and row into a case; the row takes precedence, except that a conflict of sex is an error."""
    case = Case(file.id, file.path, file.name)
    if header := file.header:
        age = header.chronological_age_months
        case = replace(case, sex=header.sex, chronological_age_months=age, patient=header.patient, study=header.study)
    if row is None:
        return case
    sex = row.sex()
    if sex and case.sex and sex != case.sex:
        raise InvalidEntryError(
            f"{row.location}: says {sex}, but the header of {file.name} says {case.sex}; correct the wrong one.",
            reason="sex_conflict",
        )
    patient, age = row.labels.get("patient"), row.months("chronological_age")
    return replace(
        case,
        sex=sex or case.sex,
        bone_age_months=row.months("bone_age"),
        num_readers=row.num_readers(),
        reader_sd_months=row.reader_sd_months(),
        chronological_age_months=age or case.chronological_age_months,
        is_age_unit_stated=age is None or row.is_age_unit_stated,
        patient=(hash_patient(patient) if patient else None) or case.patient,
        split=row.split(),
        columns=row.columns,
    )
