"""Stress a model: its answers for labelled radiographs under transformations that should not change a bone age."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from boneage.base.files import write_text
from boneage.base.limits import cpu_count
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.cohorts.answers import Request, load_reader, prepare_reading
from boneage.cohorts.effects import AS_IT_COMES, Stress, find_worst, join_stressed, measure_stress, tabulate
from boneage.cohorts.labelled import CohortError, Labelled, find_labelled
from boneage.cohorts.stress_plot import draw_worst, plot_stress
from boneage.cohorts.transformations import TRANSFORMATIONS
from boneage.evaluation.evaluate import make_folder
from boneage.inference.growth_reference import load_growth_reference
from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.preprocessing.jobs.resumable import resume_key, run_resumable
from boneage.preprocessing.sources.sources import Case
from boneage.registry.resolve import pin_bundle

_PROGRESS_FILE = "stress.part.jsonl"


def stress(
    bundle: str | Path,
    *,
    files: str | Path,
    table: str | Path | None = None,
    age_unit: str | None = None,
    tta: str | None = None,
    reference: str | Path | None = None,
    out: str | Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Stress:
    """Read labelled radiographs as they come and under each of `boneage.cohorts.transformations.TRANSFORMATIONS`.

    The files are transformed as they come and then go through all that `boneage.predict` does. An interrupted run
    resumes from `out`.

    Args:
        bundle: The model, see `boneage.load`.
        files: Folder of radiographs.
        table: CSV or Excel file with `id`, `bone_age_months`, `sex`, and optionally `chronological_age_months` and
            `patient` (default: the tables of the RSNA challenge, if `files` has them).
        age_unit: Unit of ages whose column in `table` does not state it: `"months"`, `"years"` or `"auto"`.
        tta: Test-time augmentation: "none", "mirrored" or "ten" (default: as saved in the bundle).
        reference: CSV with a growth reference, by which an error is clinically significant (default: Brush Foundation
            table).
        out: Folder for `stress.csv`, `answers.csv`, `stress.json`, `stress.png` and `worst.png`.
        workers: Number of worker processes (default: one per CPU core).
        progress: Called with the number of finished and of all radiographs (default: a bar in a notebook).
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of the resampling.

    Returns:
        The effects of the transformations.

    Raises:
        ValueError: If `tta` is unknown.
        BoneAgeError: If a folder, a table or the bundle cannot be used, no radiograph is answered, or another process
            writes `out`.
        ModuleNotFoundError: If scipy is not installed (`boneage[studies]`).
    """
    import scipy.stats  # noqa: F401 - missing, it should be missed before hours of work

    out = Path(out)
    if out.resolve().is_relative_to(Path(files).resolve()):
        raise CohortError(f"{out}: is inside the folder of the radiographs; choose a folder outside {files}.")
    growth = load_growth_reference(reference)
    labelled = find_labelled(files, table=table, age_unit=age_unit)
    name = pin_bundle(str(bundle))
    prepared = prepare_reading(name, tta=tta)
    with lock_folder(make_folder(out)):
        answers = _read_all(prepared, labelled, out=out, workers=workers, progress=progress)
        frame = join_stressed(labelled, answers, growth)
        effects = measure_stress(name, labelled, frame, growth, num_resamples=num_resamples, seed=seed)
        _write(out, frame, effects, labelled)
        return effects


def _read_all(
    prepared: tuple[Reader, Request],
    labelled: Labelled,
    *,
    out: Path,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """Return the answers of all radiographs: `id`, `transformation`, `predicted_months` and `reasons`."""
    reader, request = prepared
    work = (request, reader.digest, tuple(TRANSFORMATIONS))
    rows = run_resumable(
        functools.partial(_read, request=request),
        {resume_key(case, work=(*work, case.sex, case.chronological_age_months)): case for case in labelled.cases},
        progress_file=out / _PROGRESS_FILE,
        workers=workers or cpu_count(),
        progress=progress,
    )
    answers = [(row["id"], name, *answer) for row in rows for name, answer in row["answers"].items()]
    frame = pd.DataFrame(answers, columns=["id", "transformation", "predicted_months", "reasons"])
    return frame.astype({"predicted_months": float})


def _read(job: tuple[str, Case], *, request: Request) -> dict[str, Any]:
    _, case = job
    reader = load_reader(request)
    radiograph, reading = reader.read_case(case, tta=request.tta)
    answers = {AS_IT_COMES: _describe(reading)}
    for name, transformation in TRANSFORMATIONS.items():
        if radiograph is not None:
            changed = transformation.change(radiograph.pixels)
            age = case.chronological_age_months
            _, reading = reader.read_image(
                changed,
                sex=case.sex or radiograph.sex,
                age_months=radiograph.chronological_age_months if age is None else age,
                is_age_unit_stated=case.is_age_unit_stated,
                tta=request.tta,
            )
        answers[name] = _describe(reading)
    return {"id": case.id, "answers": answers}


def _describe(reading: Reading) -> tuple[float | None, str]:
    return reading.bone_age_months if reading.accepted else None, ";".join(reading.reasons)


def to_json(result: Stress) -> str:
    """Serialise a stress test as indented JSON; what is not defined is null."""
    return json.dumps(dataclasses.asdict(result), indent=2, allow_nan=False) + "\n"


def _write(out: Path, frame: pd.DataFrame, result: Stress, labelled: Labelled) -> None:
    write_text(out / "answers.csv", format_frame(frame.drop(columns="group"), float_format="%.2f"))
    write_text(out / "stress.csv", format_frame(tabulate(result), float_format="%.4f"))
    plot_stress(result.effects, out / "stress.png", title=_title(result))
    paths: dict[str, Path] = {case.id: case.path for case in labelled.cases}
    draw_worst(find_worst(frame, number=15), paths, out / "worst.png")
    write_text(out / "stress.json", to_json(result))
    (out / _PROGRESS_FILE).unlink()


def _title(result: Stress) -> str:
    summary = result.baseline.answered
    if summary is None:  # `stress` ends before
        return result.system
    mae = summary.mae_months
    return (
        f"{result.system}: as they come MAE {mae.format('.2f', unit=' months')} on {summary.num_images:,} radiographs"
    )
