"""The commands that make records: `prepare`, `records` and `segment`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from boneage.base.errors import BoneAgeError
from boneage.base.progress import show_progress
from boneage.cli.options import (
    AgeUnit,
    Json,
    SamCheckpoint,
    SamModel,
    Segmenter,
    Settings,
    Table,
    Workers,
    exit_unanswered,
    print_json,
    read_preprocessing,
)


def prepare(
    source: Annotated[Path, typer.Argument(help="RSNA download, folder of radiographs, or folder of DICOM files.")],
    out: Annotated[Path, typer.Option(help="Record folder to create.", show_default=False)],
    table: Table = None,
    age_unit: AgeUnit = None,
    split: Annotated[
        str,
        typer.Option(help="Split: 'given' (from the source), 'random', a fold such as '2/5', or a CSV with id,split."),
    ] = "given",
    seed: Annotated[int, typer.Option(help="Seed of the random split and of the record order.")] = 0,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Prepare records for this bundle ('default': the packaged model), with its preprocessing.",
        ),
    ] = None,
    segmenter: Segmenter = None,
    sam_model: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    decisions: Annotated[
        Path | None, typer.Option(help="CSV with id,decision,value from a review; overrides the quality gate.")
    ] = None,
    workers: Workers = None,
    runner: Annotated[
        str | None,
        typer.Option(
            help="Apache Beam runner, instead of --workers: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner."
        ),
    ] = None,
    runner_options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- BEAM_OPTION...]", help="Apache Beam options for --runner.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Prepare radiographs as a record folder of upright hand crops, with contact sheets; resumes if interrupted."""
    from boneage.preprocessing.jobs.prepare import prepare as run

    config = read_preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="prepare", like=like)
    with show_progress("Preparing", quiet=as_json) as report:
        made = run(
            source,
            out=out,
            table=table,
            age_unit=age_unit,
            split=split,
            seed=seed,
            config=config,
            decisions=decisions,
            workers=workers,
            runner=runner,
            runner_options=runner_options or (),
            progress=report,
            notify=lambda line: typer.echo(f"boneage: {line}", err=True),
        )
    reasons: dict[str, int] = {}
    for row in made.rejected:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    counts = {name: described["num_records"] for name, described in made.info["splits"].items()}
    if as_json:
        print_json({"folder": str(made.folder), "records": counts, "rejected": reasons, "digest": made.info["digest"]})
        return
    typer.echo(f"{made.folder}: " + (", ".join(f"{count:,} {name}" for name, count in counts.items()) or "no records"))
    if reasons:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        typer.echo(f"{len(made.rejected):,} rejected ({listed}): see {made.folder / 'rejected.csv'}")
    if made.info["duplicates"]:
        typer.echo(f"{len(made.info['duplicates']):,} groups of duplicates: see {made.folder / 'dataset_info.json'}")
    if (made.folder / "review").exists():
        command = shlex.join(["boneage", "review", str(made.folder), "--source", str(source)])
        typer.echo(f"look at them: {made.folder / 'review' / 'index.html'}; decide: {command}")


def records(
    folder: Annotated[Path, typer.Argument(help="Record folder.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify counts and checksums, and that no radiograph is in two splits.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe a record folder, or verify it."""
    from boneage.tfrecords.info import read_info
    from boneage.tfrecords.verify import verify as run

    info = read_info(folder)
    faults = run(folder) if verify else []
    if as_json:
        print_json({**info, "faults": faults} if verify else info)
    else:
        for name, described in info["splits"].items():
            ages = (
                f", {described['mean_months']:.1f} ± {described['std_months']:.1f} months"
                if described["num_labelled"]
                else ""
            )
            typer.echo(f"{name}: {described['num_records']:,} records in {len(described['shards'])} shards{ages}")
        typer.echo(f"digest {info['digest']}, preprocessing {info['fingerprint']}, {info['num_rejected']:,} rejected")
        for fault in faults:
            typer.echo(fault, err=True)
        if verify and not faults:
            typer.echo("verified: counts, checksums and splits are correct")
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise BoneAgeError(f"{folder}: {count}; prepare the records again, or restore the folder.")


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Radiographs: PNG, JPEG, TIFF, DICOM.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the masks and segments.csv.", show_default=False)],
    segmenter: Segmenter = None,
    sam_model: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    workers: Workers = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Segment the hand in radiograph files: a mask per file, a table of score, angle, side and rejection reasons."""
    from boneage.preprocessing.jobs.segment import segment as run

    config = read_preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="segment")
    with show_progress("Segmenting", quiet=as_json) as report:
        frame = run(inputs, out=out, config=config, workers=workers, progress=report)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2, double_precision=4))
        exit_unanswered(frame["accepted"], what="an accepted hand")
        return
    typer.echo(f"{out}: {len(frame):,} files, {int(frame['accepted'].sum()):,} accepted")
    for reasons, count in frame.loc[~frame["accepted"], "reasons"].value_counts().items():
        typer.echo(f"  {reasons}: {count:,}")
    exit_unanswered(frame["accepted"], what="an accepted hand")
