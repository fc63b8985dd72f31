"""The preparation job: from a source of radiographs to a record folder, in parallel, resumable, nothing lost."""

import collections
import csv
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boneage.base.errors import BoneAgeError, printable, suggest_closest
from boneage.base.files import replace_folder, restore_folder, write_json, write_text
from boneage.base.locks import lock_output
from boneage.base.progress import Progress, report_progress
from boneage.base.spreadsheets import unescape_cell
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.jobs.assemble import assemble
from boneage.preprocessing.jobs.executors import Executor, make_executor
from boneage.preprocessing.jobs.resumable import file_stamp
from boneage.preprocessing.jobs.shard import Shard, process_shard
from boneage.preprocessing.jobs.workers import WorkerError
from boneage.preprocessing.sources.names import FileIndex
from boneage.preprocessing.sources.patients import resolve_patients
from boneage.preprocessing.sources.rejections import Rejection
from boneage.preprocessing.sources.review_csv import Review, read_reviews
from boneage.preprocessing.sources.sources import Case, find_cases
from boneage.preprocessing.sources.splits import SPLIT_METHODS, parse_fold, read_split_file
from boneage.tfrecords.framing import DamagedShardError
from boneage.tfrecords.info import read_info
from boneage.tfrecords.schema import SCHEMA_VERSION
from boneage.tfrecords.writer import INFO_FILE, REJECTED_FILE, hash_files

# Few, so that the progress is seen, an interrupted run loses little, and a small source fills all cores.
CASES_PER_SHARD = 16
_JOB_FILE = "job.json"


class PreparationError(BoneAgeError):
    """A preparation that failed; finished work is kept for the next run."""


@dataclasses.dataclass(frozen=True)
class PreparationResult:
    """Result of a preparation.

    Args:
        folder: The record folder.
        info: Content of its `dataset_info.json`.
        rejected: One row for each file or table row that is in no record: `id`, `file`, `reason`, `detail`.
    """

    folder: Path
    info: dict[str, Any]
    rejected: list[dict[str, str]]


def prepare(
    source: str | Path,
    *,
    out: str | Path,
    table: str | Path | None = None,
    split: str | Path = "given",
    seed: int = 0,
    age_unit: str | None = None,
    config: PreprocessingConfig | None = None,
    decisions: str | Path | None = None,
    workers: int | None = None,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> PreparationResult:
    """Prepare a source of radiographs as a record folder.

    Args:
        source: The RSNA download, a folder of radiographs, or a folder of DICOM files; see
            `boneage.preprocessing.sources.sources`.
        out: The record folder to make. It appears only when complete; an interrupted run resumes from `<out>.partial`.
        table: CSV or Excel file with labels, if the source has none of its own.
        split: `"given"` by the source, `"random"` (seeded, stratified by sex and age band, patients undivided), `"2/5"`
            (the second of five such folds for validation, the others to train on), or the path of a CSV with
            `id,split`.
        seed: Seed of the random split and of the order of the records.
        age_unit: Unit of ages whose column in `table` does not state it: `"months"`, `"years"` or `"auto"` (default:
            months, but ages that may be years are refused), see `boneage.preprocessing.sources.tables.read_table`.
        config: The preprocessing (default: `PreprocessingConfig()`).
        decisions: CSV of decisions that override the gate, see `boneage.preprocessing.sources.review_csv`.
        workers: Number of worker processes (default: one per CPU core).
        runner: Apache Beam runner that replaces `workers`, see `boneage.preprocessing.jobs.beam`: its workers must
            share `source` and the folder of `out` under the same paths.
        runner_options: Beam's own options, such as `--direct_num_workers=2`.
        progress: Called with the number of finished and of all radiographs (default: a bar in a notebook).
        notify: Called before the work begins with a line on each thing that the user may want to change.

    Returns:
        The record folder, its info, and the rejections with reasons.

    Raises:
        BoneAgeError: If the source, the table or the split cannot be read, ages may be years, `out` contains other
            records or is in use by another process, or the disk is full. Finished work is kept for the next run.
        ValueError: If `runner` is unknown or given together with `workers`, or it does not take `runner_options`.
        ModuleNotFoundError: If `runner` is given and apache-beam is not installed.
    """
    executor = make_executor(workers=workers, runner=runner, runner_options=runner_options)
    config = config or PreprocessingConfig()
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        # The next run would find the records of this one in the source.
        raise PreparationError(f"{out}: is inside the source folder; choose a folder outside {source}.")
    partial = out.with_name(out.name + ".partial")
    try:
        with lock_output(out), report_progress(progress, "Preparing") as report:
            return _prepare(
                source,
                out=out,
                partial=partial,
                table=table,
                split=split,
                seed=seed,
                age_unit=age_unit,
                config=config,
                decisions=decisions,
                executor=executor,
                progress=report,
                notify=notify,
            )
    except OSError as error:
        raise PreparationError(
            f"{error.filename or partial}: {error.strerror or error}; fix this and run the same command again: "
            f"finished work is kept in {partial}."
        ) from error


def _prepare(
    source: Path,
    *,
    out: Path,
    partial: Path,
    table: str | Path | None,
    split: str | Path,
    seed: int,
    age_unit: str | None,
    config: PreprocessingConfig,
    decisions: str | Path | None,
    executor: Executor,
    progress: Progress,
    notify: Callable[[str], None] | None,
) -> PreparationResult:
    """Prepare a source as `prepare` does, in the work folder `partial`."""
    reviews = {} if decisions is None else read_reviews(Path(decisions))
    cases, rejections = find_cases(source, table=table, age_unit=age_unit, required=("bone_age",))
    cases, notices = resolve_patients(cases)
    index = FileIndex((case.id, case.path) for case in cases)
    policy = str(split) if split in SPLIT_METHODS or parse_fold(str(split)) else "given"
    if policy != str(split):
        if not Path(split).suffix and not Path(split).exists():
            raise PreparationError(
                f"{split}: neither {', '.join(SPLIT_METHODS)}, nor a fold such as 1/5, nor a file; correct --split."
                f"{suggest_closest(str(split), SPLIT_METHODS)}"
            )
        assigned = read_split_file(Path(split), index=index)
        cases = [dataclasses.replace(case, split=assigned.get(case.id)) for case in cases]
        # A split file inside the source is in use, so that it is no rejected table.
        rejections = [item for item in rejections if (source / item.file).resolve() != Path(split).resolve()]
    cases.sort(key=lambda case: case.id)
    if not cases:
        raise PreparationError(
            f"{source}: none of its {len(rejections)} entries can be prepared: "
            f"{_count_reasons(item.reason for item in rejections)}. The first: {rejections[0].detail}"
        )
    if all(case.bone_age_months is None for case in cases):
        raise PreparationError(
            f"{source}: no radiograph has a bone age; give a table with the columns id and boneage by --table."
        )
    if policy == "given":
        notices += _check_given(cases, source=source)
    reviews = {index.find(id) or id: review for id, review in reviews.items()}
    if unknown := sorted(reviews.keys() - {case.id for case in cases}):
        raise PreparationError(f"{decisions}: {unknown[0]!r} is not a radiograph of {source}; remove the row.")
    job = _job_key(cases, rejections, config, reviews=reviews, split=policy, seed=seed)
    restore_folder(out)
    if (earlier := _read_done(out, job)) is not None:
        # A run that was killed at its very end leaves its work folder.
        if partial.exists() and not _is_of_another_job(partial, job):
            _remove_work_folder(partial)
        return earlier
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PreparationError(
            f"{out}: already exists and was made from other inputs or settings; remove it or choose another folder."
        )
    if notify:
        for notice in notices:
            notify(notice)
    try:
        _open_work_folder(partial, job)
        work = functools.partial(process_shard, config=config, reviews=reviews)
        shards = _make_shards(partial / "parts", cases)
        finished = sum(len(shard.cases) for shard in shards if shard.manifest.exists())
        progress(finished, len(cases))
        for shard in executor.run(work, [shard for shard in shards if not shard.manifest.exists()]):
            finished += len(shard.cases)
            progress(finished, len(cases))
        unread = [dataclasses.asdict(rejection) for rejection in rejections]
        folder = partial / "folder"
        manifests = [shard.manifest for shard in shards]
        info, rejected = assemble(folder, manifests, cases, unread, config=config, split=policy, seed=seed)
        if not info["splits"]:
            advice = "" if policy != "given" else "; the source defines no splits: use --split random"
            reasons = _count_reasons(row["reason"] for row in rejected)
            raise PreparationError(f"{source}: no record could be made ({reasons}){advice}.")
        info |= {"job": job, "source": printable(source.resolve().name), "files": hash_files(folder)}
        write_json(folder / INFO_FILE, info)
        replace_folder(folder, out)
    except WorkerError as error:
        raise PreparationError(f"{partial}: {error}") from error
    except DamagedShardError as error:
        raise PreparationError(
            f"{partial}: the finished work in it is damaged; remove it and run the same command again."
        ) from error
    _remove_work_folder(partial)
    return PreparationResult(out, info, rejected)


def _check_given(cases: Sequence[Case], *, source: Path) -> list[str]:
    """Check the splits of a source before the long work; return a line for the user if one is missing.

    Raises:
        PreparationError: If there is none.
    """
    given = {case.split for case in cases if case.bone_age_months is not None} - {None}
    advice = "--split random, a fold such as --split 1/5, or a CSV with id,split"
    if not given:
        raise PreparationError(f"{source}: defines no splits; use {advice}.")
    if "train" in given and "validation" not in given:
        return [
            f"{source}: has no validation split, by which training chooses the best epoch; to make one, use {advice}."
        ]
    return []


def _read_done(out: Path, job: str) -> PreparationResult | None:
    """Return the result of an earlier run of the same job, if `out` contains it."""
    try:
        info = read_info(out)
        with (out / REJECTED_FILE).open(encoding="utf-8", newline="") as file:
            rejected = [{key: unescape_cell(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    except (BoneAgeError, OSError, ValueError, csv.Error):
        return None  # No records of this package: `prepare` refuses a folder of anything else.
    return PreparationResult(out, info, rejected) if info.get("job") == job else None


def _count_reasons(reasons: Iterable[str]) -> str:
    counted = collections.Counter(reasons)
    return ", ".join(f"{reason}: {counted[reason]}" for reason in sorted(counted)) or "source is empty"


def _job_key(
    cases: Sequence[Case],
    rejections: Sequence[Rejection],
    config: PreprocessingConfig,
    *,
    reviews: Mapping[str, Review],
    split: str,
    seed: int,
) -> str:
    """Return a hash of everything that determines the result, so that a run resumes only its own work."""
    hashed = hashlib.sha256(repr((fingerprint(config), SCHEMA_VERSION, split, seed)).encode())
    for id, review in sorted(reviews.items()):
        hashed.update(repr((id, review.rows, review.mask_sha256)).encode())
    for case in cases:
        known = (case.id, case.sex, case.bone_age_months, case.chronological_age_months, case.patient, case.split)
        readers = (case.num_readers, case.reader_sd_months)
        hashed.update(repr((known, readers, *file_stamp(case.path))).encode())
    for rejection in rejections:
        hashed.update(repr(dataclasses.astuple(rejection)).encode())
    return hashed.hexdigest()[:16]


def _open_work_folder(partial: Path, job: str) -> None:
    """Keep the shards of an interrupted run of the same job; delete those of any other."""
    if not (partial / _JOB_FILE).exists() or _is_of_another_job(partial, job):
        if partial.exists():
            _remove_work_folder(partial)
        (partial / "parts").mkdir(parents=True)
        write_text(partial / _JOB_FILE, _describe_job(job))
    if (partial / "folder").exists():
        shutil.rmtree(partial / "folder")


def _is_of_another_job(partial: Path, job: str) -> bool:
    manifest = partial / _JOB_FILE
    return manifest.exists() and manifest.read_text(encoding="utf-8") != _describe_job(job)


def _describe_job(job: str) -> str:
    return json.dumps({"job": job, "part_cases": CASES_PER_SHARD})


def _remove_work_folder(partial: Path) -> None:
    # Without its manifest, a folder whose removal is interrupted is never taken for finished work.
    (partial / _JOB_FILE).unlink(missing_ok=True)
    shutil.rmtree(partial)


def _make_shards(folder: Path, cases: Sequence[Case]) -> list[Shard]:
    """Divide all cases into shards of `CASES_PER_SHARD`, with their manifests in `folder`."""
    starts = range(0, len(cases), CASES_PER_SHARD)
    return [
        Shard(cases[start : start + CASES_PER_SHARD], folder / f"part-{number:05d}.json")
        for number, start in enumerate(starts)
    ]
