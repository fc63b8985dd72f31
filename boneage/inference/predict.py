"""Predict bone age from radiograph files; one row per file."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.base.errors import BoneAgeError, check_choice
from boneage.base.files import check_output, write_text
from boneage.base.limits import cpu_count
from boneage.base.locks import lock_output, lock_path
from boneage.base.sex import UnknownSexError, parse_sex
from boneage.base.spreadsheets import check_csv_name, format_frame
from boneage.configuration.training import TTA_TRANSFORMS
from boneage.inference.loading import load
from boneage.inference.occlusion import write_occlusion_map
from boneage.inference.reports import ReportError
from boneage.inference.reports.staging import Staging
from boneage.inference.reports.writer import Reports
from boneage.inference.rows import COLUMNS, make_row, reading_row, rejected_row
from boneage.preprocessing.io.isolated import start_decoder
from boneage.preprocessing.jobs.resumable import resume_key, run_resumable
from boneage.preprocessing.sources.sources import Case, Rejection, find_cases
from boneage.registry.resolve import resolve_bundle
from boneage.tfrecords.schema import male_from_sex

# Starting another process takes longer than reading this many.
_FILES_PER_PROCESS = 25


class PredictionError(BoneAgeError):
    """Raised if no file can be predicted, because an argument or an output is unusable."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | None = None,
    sex_bundle: str | Path | None = None,
    sex: str | None = None,
    table: str | Path | None = None,
    age_unit: str | None = None,
    tta: str | None = None,
    reference: str | Path | None = None,
    occlusion_maps: str | Path | None = None,
    dicom: str | Path | None = None,
    fhir: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict bone age from radiograph files. With `out`, an interrupted run resumes.

    Args:
        inputs: Files and folders.
        bundle: Folder of the bundle (default: the packaged model).
        sex_bundle: Folder of a bundle that classifies sex: it checks the recorded sex and fills in an unknown one
            (default for the packaged model: the packaged sex bundle).
        sex: `"female"` or `"male"` (or F, M), for all files without a sex of their own; DICOM files have one.
        table: CSV or spreadsheet with `id,male` or `id,sex`, instead of `sex`, and chronological ages.
        age_unit: Unit of ages whose column in `table` does not state it: `"months"`, `"years"` or `"auto"` (default:
            months, but ages that may be years are refused), see `boneage.preprocessing.sources.tables.read_table`.
        tta: Test-time augmentation: `"none"`, `"mirrored"` or `"ten"` (default: as saved in the bundle).
        reference: CSV with a growth reference, see `boneage.inference.growth_reference` (default: Brush Foundation
            table).
        occlusion_maps: Folder for an occlusion map of each predicted hand, `<id>.png`, the right hand of two below the
            left one; see `boneage.inference.occlusion`.
        dicom: Folder for a structured report and a secondary capture of each hand in a predicted DICOM file; they
            belong to its study and are named by their UIDs.
        fhir: Folder for one FHIR R4 Observation per predicted hand, named by a random id.
        out: CSV to write; its name ends with .csv.
        workers: Number of worker processes (default: one per CPU core; one for fewer than 25 files).
        progress: Called with the number of finished files and of all files (default: a bar in a notebook).

    Returns:
        One row per file, and per row of the table without a file: `id`; `bone_age_months`, NaN if rejected;
        `low_months` and `high_months`, the prediction interval, NaN if the bundle has none; `sds`, the standard
        deviation score by the growth reference, NaN if the chronological age is unknown; `sex`; `accepted`; `reasons`
        (codes); `warnings` (`sex_looks_wrong`, `sex_from_image`, `sex_unknown`, `age_unit_doubtful`, `age_looks_wrong`,
        `side_looks_wrong`, `two_hands`, `hand_cut_off`, `answered_without_age`);
        `male_probability`, the predicted probability that the child is male, NaN without a sex bundle; `file`; `detail`
        (one line that names the fix, also if a DICOM header allows no report); `reports`, the names of the files in
        `dicom` and `fhir`, joined by `;`; `interval`, the prediction interval as text: `165.4 months or more` where it
        has no upper end and `high_months` is the end of the range, 240; `reference`, the name of the growth reference,
        with `centile`, in percent, and `determination` (`delayed`, `normal`, `advanced`, `indeterminate`), see
        `boneage.inference.comparison.Comparison`; `score_missing`, why there is no score; `side`, by the header and by
        the image; `as_female_months` and `as_male_months`, the bone age for each sex if none was recorded, else NaN;
        `remarks`, the warnings as text; `hand`, `left` if the film shows two hands: the row is that of the left one,
        and `right_bone_age_months`, `right_low_months`, `right_high_months` and `right_interval` are those of the right
        one; else empty and NaN.

    Raises:
        BoneAgeError: If the inputs or the table do not exist, a bundle is damaged or was trained with different
            preprocessing, or another process writes `out`.
        ValueError: If `sex` or `tta` is unknown, both `sex` and `table` are given, or `out` does not end with .csv.
    """
    if sex is not None:
        try:
            sex = parse_sex(sex)
        except UnknownSexError as error:
            raise ValueError(f"`sex`: {error}.") from error
    if sex is not None and table is not None:
        raise ValueError("`sex` and `table` exclude each other: the table contains the sex.")
    if tta is not None:
        check_choice("tta", tta, tuple(TTA_TRANSFORMS))
    table_file = None if out is None else Path(out)
    try:
        if table_file is not None:
            check_output(table_file, is_folder=False)
            check_csv_name("out", table_file)
        with contextlib.nullcontext() if table_file is None else lock_output(table_file):
            return _predict(
                inputs,
                bundle=bundle,
                sex_bundle=sex_bundle,
                sex=sex,
                table=table,
                age_unit=age_unit,
                tta=tta,
                reference=reference,
                reports={
                    name: None if path is None else Path(path)
                    for name, path in (("occlusion_maps", occlusion_maps), ("dicom", dicom), ("fhir", fhir))
                },
                out=table_file,
                workers=workers,
                progress=progress,
            )
    except OSError as error:
        raise PredictionError(
            f"{error.filename or out}: {error.strerror or error}; choose another file with --out."
        ) from error


def _predict(
    inputs: str | Path | Sequence[str | Path],
    *,
    bundle: str | Path | None,
    sex_bundle: str | Path | None,
    sex: str | None,
    table: str | Path | None,
    age_unit: str | None,
    tta: str | None,
    reference: str | Path | None,
    reports: Mapping[str, Path | None],
    out: Path | None,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """Predict as `predict` does; `reports` are the folders of occlusion maps and reports."""
    staging = Staging(reports, table=out)
    for name, folder in reports.items():
        if folder is not None:
            try:
                check_output(folder, is_folder=True)
                (staging.folders[name] or folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"{folder}: {error.strerror}; choose another folder with --{name.replace('_', '-')}."
                raise (PredictionError if name == "occlusion_maps" else ReportError)(message) from error
    start_decoder()
    # Resolved once for all processes: another model may become the champion meanwhile.
    bundle = None if bundle is None else resolve_bundle(bundle)
    sex_bundle = None if sex_bundle is None else resolve_bundle(sex_bundle)
    request = _Request(bundle, sex_bundle, reference, **staging.folders, sex=sex, tta=tta)
    _load.cache_clear()  # `load` finds out whether a bundle in the same folder has been replaced
    digest = _load(request).reader.digest
    own = [path for path in (*reports.values(), *(() if out is None else _list_own_files(out))) if path is not None]
    cases, rejections = _leave_out(own, *find_cases(inputs, table=table, age_unit=age_unit), inputs=inputs)
    rows = [
        rejected_row(rejection.id, file=rejection.file, reasons=rejection.reason, detail=rejection.detail)
        for rejection in rejections
    ]
    named = {
        resume_key(case, work=(request, digest, case.sex, case.chronological_age_months, case.is_age_unit_stated)): case
        for case in cases
    }
    progress_file = None if out is None else _progress_file(out)
    workers = workers or min(cpu_count(), 1 + len(cases) // _FILES_PER_PROCESS)
    work = functools.partial(_predict_job, request=request)

    def publish(case: Case, row: Mapping[str, Any]) -> None:
        listed = str(row["reports"]).split(";")
        staging.publish({"dicom": listed, "fhir": listed, "occlusion_maps": [_map_name(case)]})

    rows += run_resumable(work, named, progress_file=progress_file, workers=workers, progress=progress, publish=publish)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["id", "file"], kind="stable", ignore_index=True)
    if out is not None and progress_file is not None:
        write_text(out, format_frame(frame, float_format="%.2f"))
        staging.close()
        progress_file.unlink()
    return frame


def _progress_file(out: Path) -> Path:
    return Path(f"{out}.part.jsonl")


def _list_own_files(out: Path) -> list[Path]:
    """List what this run writes beside its table."""
    return [out, _progress_file(out), lock_path(out)]


def _leave_out(
    own: Sequence[Path], cases: list[Case], rejections: list[Rejection], *, inputs: str | Path | Sequence[str | Path]
) -> tuple[list[Case], list[Rejection]]:
    """Leave out what a run has written among its inputs, so that a second run finds the same radiographs."""
    sources = [Path(source).resolve() for source in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    # Radiographs and reports may also share a folder.
    written = [path for path in map(Path.resolve, own) if not any(source.is_relative_to(path) for source in sources)]

    def is_own(path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in written)

    return (
        [case for case in cases if not is_own(case.path.resolve())],
        [item for item in rejections if not any(is_own(source / item.file) for source in sources)],
    )


@dataclasses.dataclass(frozen=True)
class _Request:
    """The arguments of `predict` that worker processes need to load the bundles and to read a file."""

    bundle: str | Path | None
    sex_bundle: str | Path | None
    reference: str | Path | None
    dicom: Path | None
    fhir: Path | None
    occlusion_maps: Path | None
    sex: str | None
    tta: str | None


@functools.lru_cache(maxsize=1)
def _load(request: _Request) -> Reports:
    """Load the bundles and the growth reference once per process."""
    reader = load(request.bundle, sex_bundle=request.sex_bundle, reference=request.reference)
    return Reports(reader, dicom=request.dicom, fhir=request.fhir)


def _predict_job(job: tuple[str, Case], *, request: _Request) -> dict[str, object]:
    _, case = job
    return predict_case(case, _load(request), sex=request.sex, tta=request.tta, occlusion_maps=request.occlusion_maps)


def predict_case(
    case: Case, reports: Reports, *, sex: str | None = None, tta: str | None = None, occlusion_maps: Path | None = None
) -> dict[str, object]:
    """Predict one radiograph.

    Args:
        case: The radiograph file, with the sex and age that its source gives.
        reports: The reader, and the folders of its reports.
        sex: As in `predict`.
        tta: As in `predict`.
        occlusion_maps: As in `predict`.

    Returns:
        Its row as in `predict`.

    Raises:
        OSError: If an occlusion map or a report cannot be written.
    """
    reader = reports.reader
    radiograph, reading = reader.read_case(case, sex=sex, tta=tta)
    if radiograph is None or not reading.accepted:
        return make_row(case.id, reading, file=case.name)
    if occlusion_maps is not None:
        male = male_from_sex(reading.sex) if reading.sex else 0.0
        crops = [hand.crop for hand in reading.hands if hand.crop is not None]
        age = reading.network_age_months
        write_occlusion_map(reader.age_bundle, crops, occlusion_maps / _map_name(case), male=male, age_months=age)
    names, detail = reports.write(radiograph, reading, path=case.path)
    return reading_row(case.id, reading, file=case.name, detail=detail, reports=";".join(names))


def _map_name(case: Case) -> str:
    return f"{case.id}.png"
