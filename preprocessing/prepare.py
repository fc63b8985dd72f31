"""The preparation job: from a source of radiographs to a record folder, in parallel, resumable, nothing lost."""

import collections
import contextlib
import csv
import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocessing import beam
from preprocessing.assemble import assemble
from preprocessing.beam import Part, Work
from preprocessing.parts import process_part
from preprocessing.pipeline import PreprocessingConfig, fingerprint
from preprocessing.rejections import Rejection
from preprocessing.review import Review, read_reviews
from preprocessing.sources import Case, find_cases
from preprocessing.splits import ASSIGNMENTS, find_fold, read_split_file
from preprocessing.workers import WorkFailed, work_through
from tfrecords.errors import BoneAgeError
from tfrecords.framing import DamagedShard
from tfrecords.schema import SCHEMA_VERSION
from tfrecords.write import INFO_FILE, REJECTED_FILE, write_json, write_text

PART_CASES = 256

Progress = Callable[[int, int], None]


class PreparationFailed(BoneAgeError):
    """A preparation that could not go on; what was finished is kept for the next run."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What a preparation made.

    Args:
        folder: The record folder.
        info: Content of its `dataset_info.json`.
        rejected: One row for each file or table row that became no record: `id`, `file`, `reason`, `detail`.
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
    config: PreprocessingConfig | None = None,
    review: str | Path | None = None,
    workers: int | None = None,
    runner: str | None = None,
    runner_options: Sequence[str] = (),
    progress: Progress | None = None,
) -> Preparation:
    """Prepare a source of radiographs as a record folder.

    Args:
        source: The RSNA download, a folder of radiographs, or a folder of DICOM files; see `preprocessing.sources`.
        out: The record folder to make. It appears only when complete; a killed run resumes from `<out>.partial`.
        table: CSV or spreadsheet with labels, where the source does not bring its own.
        split: `"given"` by the source, `"random"` (seeded, stratified by sex and age band, patients undivided), `"2/5"`
            (the second of five such folds for validation, the others to train on), or the path of a CSV with
            `id,split`.
        seed: Seed of the random split and of the order of the records.
        config: The preprocessing; its defaults without one.
        review: CSV of decisions that stand above the gate, see `preprocessing.review`.
        workers: Number of processes on this machine; one per core without it.
        runner: Apache Beam's runner that does the work in place of `workers`, see `preprocessing.beam`: its workers
            must share `source` and the folder of `out` under the same paths.
        runner_options: Beam's own options, such as `--direct_num_workers=2`.
        progress: Called with the number of finished and of all radiographs.

    Returns:
        What was made, rejections with reasons included.

    Raises:
        BoneAgeError: If the source, the table or the split cannot be read, `out` holds other records, or the disk is
            full. What was finished stays for the next run.
        ValueError: If `runner` is unknown or given beside `workers`, or `runner_options` do not suit it.
        ModuleNotFoundError: If `runner` is given and apache-beam is not installed.
    """
    do = _choose_doing(workers=workers, runner=runner, runner_options=runner_options)
    config = config or PreprocessingConfig()
    source, out = Path(source), Path(out)
    reviews = {} if review is None else read_reviews(Path(review))
    if out.resolve().is_relative_to(source.resolve()):
        # The next run would take what this one wrote for a part of the source.
        raise PreparationFailed(f"{out}: lies in the source; choose a folder beside {source}.")
    cases, rejections = find_cases(source, table=None if table is None else Path(table))
    policy = str(split) if split in ASSIGNMENTS or find_fold(str(split)) else "given"
    if policy != str(split):
        assigned = read_split_file(Path(split))
        cases = [dataclasses.replace(case, split=assigned.get(case.id)) for case in cases]
        # A split file that lies in the source is no stray table.
        rejections = [each for each in rejections if (source / each.file).resolve() != Path(split).resolve()]
    cases.sort(key=lambda case: case.id)
    if not cases:
        raise PreparationFailed(
            f"{source}: none of its {len(rejections)} entries can be prepared: "
            f"{_count(each.reason for each in rejections)}."
        )
    if strange := sorted(reviews.keys() - {case.id for case in cases}):
        raise PreparationFailed(f"{review}: {strange[0]!r} is no radiograph of {source}; leave it out.")
    job = _job_key(cases, rejections, config, reviews=reviews, split=policy, seed=seed)
    if (done := _read_done(out, job)) is not None:
        return done
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PreparationFailed(f"{out}: already there and made otherwise; remove it or choose another folder.")
    partial = out.with_name(out.name + ".partial")
    try:
        _start(partial, job)
        work = functools.partial(process_part, config=config, reviews=reviews, root=source)
        notes = _run_parts(partial, cases, functools.partial(do, work), progress=progress)
        unread = [dataclasses.asdict(rejection) for rejection in rejections]
        folder = partial / "folder"
        info, rejected = assemble(folder, notes, cases, unread, config=config, split=policy, seed=seed, root=source)
        if not info["splits"]:
            advice = "" if policy != "given" else "; a source without splits of its own needs --split random"
            reasons = _count(row["reason"] for row in rejected)
            raise PreparationFailed(f"{source}: no record came of it ({reasons}){advice}.")
        info |= {"job": job, "source": source.resolve().name}
        write_json(folder / INFO_FILE, info)
        os.replace(folder, out)
    except OSError as error:
        raise PreparationFailed(
            f"{error.filename or partial}: {error.strerror or error}; put it right and run the same command again: "
            f"finished work stays in {partial}."
        ) from error
    except DamagedShard as error:
        raise PreparationFailed(
            f"{partial}: its finished work is damaged; remove it and run the same command again."
        ) from error
    shutil.rmtree(partial)
    return Preparation(out, info, rejected)


def _read_done(out: Path, job: str) -> Preparation | None:
    """Return what `out` holds if the same job made it."""
    try:
        info = json.loads((out / INFO_FILE).read_text(encoding="utf-8"))
        with (out / REJECTED_FILE).open(encoding="utf-8", newline="") as file:
            rejected = list(csv.DictReader(file))
    except (OSError, ValueError):
        return None  # No records, or not ours: `prepare` refuses whatever else is there.
    return Preparation(out, info, rejected) if isinstance(info, dict) and info.get("job") == job else None


def _count(reasons: Iterable[str]) -> str:
    counted = collections.Counter(reasons)
    return ", ".join(f"{reason}: {counted[reason]}" for reason in sorted(counted)) or "it is empty"


def _job_key(
    cases: Sequence[Case],
    rejections: Sequence[Rejection],
    config: PreprocessingConfig,
    *,
    reviews: Mapping[str, Review],
    split: str,
    seed: int,
) -> str:
    """Name everything that decides the result, so that a run resumes only work that it would have done itself."""
    hashed = hashlib.sha256(repr((fingerprint(config), SCHEMA_VERSION, split, seed)).encode())
    for id, review in sorted(reviews.items()):
        hashed.update(repr((id, review.rows, review.mask_sha256)).encode())
    for case in cases:
        stat = case.path.stat()
        known = (case.id, case.sex, case.bone_age_months, case.chronological_age_months, case.patient, case.split)
        hashed.update(repr((known, stat.st_size, stat.st_mtime_ns)).encode())
    for rejection in rejections:
        hashed.update(repr(dataclasses.astuple(rejection)).encode())
    return hashed.hexdigest()[:16]


def _start(partial: Path, job: str) -> None:
    """Keep the parts of an interrupted run of the same job; clear away those of any other."""
    note = partial / "job.json"
    wanted = json.dumps({"job": job, "part_cases": PART_CASES})
    if not (note.exists() and note.read_text(encoding="utf-8") == wanted):
        if partial.exists():
            shutil.rmtree(partial)
        (partial / "parts").mkdir(parents=True)
        write_text(note, wanted)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(partial / "folder")


def _choose_doing(
    *, workers: int | None, runner: str | None, runner_options: Sequence[str]
) -> Callable[[Work, Sequence[Part]], Iterator[Part]]:
    """Return what does the work on parts and yields each that is done: processes of this machine, or Beam."""
    if runner is None:
        if runner_options:
            raise ValueError(f"`runner_options` need a `runner`. Received: {' '.join(runner_options)}.")
        return functools.partial(_do_here, workers=workers)
    if workers is not None:
        raise ValueError("`workers` are processes of this machine; `runner` takes its own by `runner_options`.")
    beam.check(runner, runner_options)
    return functools.partial(beam.work_through, runner=runner, options=runner_options)


def _do_here(work: Work, parts: Sequence[Part], *, workers: int | None) -> Iterator[Part]:
    for part, _ in work_through(functools.partial(_spread, work), parts, workers=workers):
        yield part


def _spread(work: Work, part: Part) -> None:
    work(*part)


def _run_parts(
    partial: Path,
    cases: Sequence[Case],
    do: Callable[[Sequence[Part]], Iterator[Part]],
    *,
    progress: Progress | None,
) -> list[Path]:
    """Process all cases in parts of `PART_CASES`; a part whose note exists is done."""
    chunks = [cases[start : start + PART_CASES] for start in range(0, len(cases), PART_CASES)]
    notes = [partial / "parts" / f"part-{index:05d}.json" for index in range(len(chunks))]
    waiting = [(chunk, note) for chunk, note in zip(chunks, notes, strict=True) if not note.exists()]
    finished = len(cases) - sum(len(chunk) for chunk, _ in waiting)

    def report(num_more: int) -> None:
        nonlocal finished
        finished += num_more
        if progress:
            progress(finished, len(cases))

    report(0)
    try:
        for chunk, _ in do(waiting):
            report(len(chunk))
    except WorkFailed as error:
        raise PreparationFailed(f"{partial}: {error}") from error
    return notes
