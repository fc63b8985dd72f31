"""The preparation job: from a source of radiographs to a record folder, in parallel, resumable, nothing lost."""

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2

from preprocessing.assemble import assemble, name_in_source
from preprocessing.pipeline import PreprocessingConfig, fingerprint, process
from preprocessing.read import UnreadableImage, pixel_hash, read_radiograph
from preprocessing.rejections import Rejection, reject
from preprocessing.sources import Case, find_cases
from preprocessing.splits import read_split_file
from tfrecords.errors import BoneAgeError
from tfrecords.framing import DamagedShard, frame
from tfrecords.schema import SCHEMA_VERSION, Record, encode
from tfrecords.write import INFO_FILE, REJECTED_FILE, write_json, write_text

PART_CASES = 256
# zlib level: 6 is a tenth smaller than 1 and costs nothing that decoding the source would not hide.
PNG_COMPRESSION = 6

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
    workers: int | None = None,
    progress: Progress | None = None,
) -> Preparation:
    """Prepare a source of radiographs as a record folder.

    Args:
        source: The RSNA download, a folder of radiographs, or a folder of DICOM files; see `preprocessing.sources`.
        out: The record folder to make. It appears only when complete; a killed run resumes from `<out>.partial`.
        table: CSV or spreadsheet with labels, where the source does not bring its own.
        split: `"given"` by the source, `"random"` (seeded, stratified by sex and age band, patients undivided), or the
            path of a CSV with `id,split`.
        seed: Seed of the random split and of the order of the records.
        config: The preprocessing; its defaults without one.
        workers: Number of processes; one per core without it.
        progress: Called with the number of finished and of all radiographs.

    Returns:
        What was made, rejections with reasons included.

    Raises:
        BoneAgeError: If the source, the table or the split cannot be read, `out` holds other records, or the disk is
            full. What was finished stays for the next run.
    """
    config = config or PreprocessingConfig()
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        # The next run would take what this one wrote for a part of the source.
        raise PreparationFailed(f"{out}: lies in the source; choose a folder beside {source}.")
    cases, rejections = find_cases(source, table=None if table is None else Path(table))
    if split not in ("given", "random"):
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
    policy = "random" if split == "random" else "given"
    job = _job_key(cases, rejections, config, split=policy, seed=seed)
    if (done := _read_done(out, job)) is not None:
        return done
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PreparationFailed(f"{out}: already there and made otherwise; remove it or choose another folder.")
    partial = out.with_name(out.name + ".partial")
    try:
        _start(partial, job)
        notes = _run_parts(partial, cases, config, root=source, workers=workers, progress=progress)
        unread = [dataclasses.asdict(rejection) for rejection in rejections]
        folder = partial / "folder"
        info, rejected = assemble(folder, notes, cases, unread, config=config, split=policy, seed=seed, root=source)
        if not info["splits"]:
            advice = "" if policy == "random" else "; a source without splits of its own needs --split random"
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
    cases: Sequence[Case], rejections: Sequence[Rejection], config: PreprocessingConfig, *, split: str, seed: int
) -> str:
    """Name everything that decides the result, so that a run resumes only work that it would have done itself."""
    hashed = hashlib.sha256(repr((fingerprint(config), SCHEMA_VERSION, split, seed)).encode())
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


def _run_parts(
    partial: Path,
    cases: Sequence[Case],
    config: PreprocessingConfig,
    *,
    root: Path,
    workers: int | None,
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
    work = functools.partial(_process_part, config=config, root=root)
    workers = min(workers or os.cpu_count() or 1, len(waiting))
    if workers <= 1:
        for chunk, note in waiting:
            work(chunk, note)
            report(len(chunk))
        return notes
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        futures = {pool.submit(work, chunk, note): len(chunk) for chunk, note in waiting}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                report(futures[future])
        except concurrent.futures.process.BrokenProcessPool as error:
            raise PreparationFailed(
                f"{partial}: a worker was killed, most likely for memory; run the same command again with fewer "
                "`--workers`: finished work is kept."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return notes


def _begin_worker() -> None:
    # The processes already fill the cores; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker when the parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process_part(cases: Sequence[Case], note: Path, *, config: PreprocessingConfig, root: Path) -> None:
    """Write one part: encoded records and, last, the note that lists them and makes the part count as done."""
    index: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    with note.with_suffix(".tfrecord").open("wb") as file:
        for case in cases:
            try:
                record = make_record(case, config)
            except UnreadableImage as error:
                # A source may be a single file.
                name = name_in_source(case.path, root)
                rejected.append(dataclasses.asdict(reject(case.id, file=name, error=error)))
                continue
            index.append({"id": case.id, "offset": file.tell(), "pixel_sha256": record.pixel_sha256})
            file.write(frame(encode(record)))
        # The note must never be there without the records, not even after a power cut.
        file.flush()
        os.fsync(file.fileno())
    write_json(note, {"index": index, "rejected": rejected})


def make_record(case: Case, config: PreprocessingConfig) -> Record:
    """Read and process one case.

    Raises:
        UnreadableImage: If the file cannot be read or holds no usable radiograph; `reason` names why.
    """
    try:
        radiograph = read_radiograph(case.path)
    except OSError as error:
        raise UnreadableImage(
            f"{case.path} cannot be read ({error.strerror or error}); copy it again from its source.",
            reason="damaged_image",
        ) from error
    sex = case.sex or radiograph.sex
    if sex is None:
        raise UnreadableImage(f"{case.path}: the sex is not known; add it to the table.", reason="no_sex")
    prepared = process(radiograph, config, path=case.path)
    encoded, png = cv2.imencode(".png", prepared.image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    if not encoded:
        raise UnreadableImage(f"{case.path}: the prepared image could not be encoded.", reason="damaged_image")
    age = case.chronological_age_months
    return Record(
        image=png.tobytes(),
        id=case.id,
        sex=sex,
        source_sha256=radiograph.source_sha256,
        pixel_sha256=pixel_hash(radiograph.pixels),
        original_size_px=(radiograph.pixels.shape[0], radiograph.pixels.shape[1]),
        crop_box_px=prepared.crop_box_px,
        rotation_degrees=prepared.rotation_degrees,
        fingerprint=fingerprint(config),
        bone_age_months=case.bone_age_months,
        chronological_age_months=radiograph.chronological_age_months if age is None else age,
        pixel_spacing_mm=prepared.pixel_spacing_mm,
        mask_score=prepared.mask_score,
    )
