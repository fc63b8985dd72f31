"""The command line: each command is the function of the same name."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from boneage.cli_tracking import best, sync, ui
from boneage.cli_training import calibrate, ensemble, export, train, train_landmarks, train_masks, train_sam, tune
from boneage.options import (
    Data,
    Json,
    Reference,
    SamCheckpoint,
    SamModel,
    Segmenter,
    Settings,
    Table,
    Views,
    Workers,
    print_json,
    read_preprocessing,
    show_progress,
)
from boneage.web.command import NEEDED, review, serve
from tfrecords.errors import BoneAgeError

app = typer.Typer(
    name="boneage",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The modules that come with an extra, by which to install them.
EXTRAS = {
    "apache_beam": "beam",
    **dict.fromkeys((*NEEDED, "highdicom", "pynetdicom"), "serve"),
    **dict.fromkeys(("keras", "keras_tuner", "mlflow", "psutil", "sqlalchemy", "tensorflow"), "train"),
    **dict.fromkeys(("segment_anything", "torch"), "sam"),
}


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False) -> None:
    """Bone age in months from radiographs of the hand. Research use: not a medical device."""


def prepare(
    source: Annotated[Path, typer.Argument(help="RSNA download, folder of radiographs, or folder of DICOM files.")],
    out: Annotated[Path, typer.Option(help="Record folder to make.", show_default=False)],
    table: Table = None,
    split: Annotated[str, typer.Option(help="'given' by the source, 'random', a fold as '2/5', or a CSV.")] = "given",
    seed: Annotated[int, typer.Option(help="Seed of the random split and of the order.")] = 0,
    segmenter: Segmenter = "hand_sam",
    sam_model: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    review: Annotated[Path | None, typer.Option(help="CSV with id,decision,value that stands above the gate.")] = None,
    workers: Workers = None,
    runner: Annotated[
        str | None,
        typer.Option(help="Apache Beam instead of --workers: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner."),
    ] = None,
    runner_options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- BEAM_OPTION...]", help="Beam's own options for --runner.")
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Turn radiographs into a record folder of upright hands, with contact sheets. Resumes after a kill."""
    from preprocessing.prepare import prepare as run

    config = read_preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="prepare")
    with show_progress("Preparing", quiet=as_json) as report:
        made = run(
            source,
            out=out,
            table=table,
            split=split,
            seed=seed,
            config=config,
            review=review,
            workers=workers,
            runner=runner,
            runner_options=runner_options or (),
            progress=report,
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
        typer.echo(f"{len(made.info['duplicates']):,} groups of equal pixels: see {made.folder / 'dataset_info.json'}")
    if (made.folder / "review").exists():
        typer.echo(f"look through them: {made.folder / 'review' / 'index.html'}, or boneage review {made.folder}")


def records(
    folder: Annotated[Path, typer.Argument(help="Record folder.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check counts, hashes and that no split shares a radiograph.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe a record folder, or check it."""
    from tfrecords.info import read_info
    from tfrecords.verify import verify as run

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
            typer.echo("verified: counts, hashes and splits are right")
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise BoneAgeError(f"{folder}: {count}; prepare the records again, or restore the folder.")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle of a training run.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    views: Views = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions.csv, evaluation.json and evaluation.png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle on one split: MAE, bias, shares within 6/12/24 months, by sex and age, with 95% intervals."""
    import rich

    from boneage.evaluation import evaluate as run
    from boneage.evaluation import table, to_json
    from boneage.sex import SexEvaluation, table_of_sex

    evaluation = run(bundle, data=data, split=split, views=views, out=out)
    if as_json:
        typer.echo(to_json(evaluation), nl=False)
        return
    rich.print(table_of_sex(evaluation) if isinstance(evaluation, SexEvaluation) else table(evaluation))
    if out is not None:
        typer.echo(f"written: {out}")


def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Radiographs: PNG, JPEG, TIFF, DICOM.")
    ],
    bundle: Annotated[Path | None, typer.Option(help="Bundle of a training run; the packaged one without it.")] = None,
    sex_bundle: Annotated[
        Path | None,
        typer.Option(help="Bundle that tells the sex, to warn and to fill in; the packaged bundle has its own."),
    ] = None,
    sex: Annotated[str | None, typer.Option(help="female or male, for all files; DICOM files bring their own.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV or spreadsheet with id,male or id,sex.")] = None,
    views: Views = None,
    reference: Reference = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each hand and what in it the answer rests on.")
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(help="Folder for a structured report and a secondary capture in the study of each DICOM file."),
    ] = None,
    fhir: Annotated[Path | None, typer.Option(help="Folder for a FHIR R4 Observation of each answer.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; a killed run goes on with it.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; one per core without it, where there are many files.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict bone age from raw files; each file gets an answer or a reason."""
    from boneage.prediction import predict as run

    with show_progress("Predicting", quiet=as_json) as report:
        frame = run(
            inputs,
            bundle=bundle,
            sex_bundle=sex_bundle,
            sex=sex,
            table=table,
            views=views,
            reference=reference,
            pictures=pictures,
            dicom=dicom,
            fhir=fhir,
            out=out,
            workers=workers,
            progress=report,
        )
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2, double_precision=2))
        return
    for row in frame.to_dict("records"):
        answer = (
            f"{row['bone_age_months']:.1f} months ({row['bone_age_months'] / 12:.1f} years){_interval(row)}"
            if row["accepted"]
            else row["detail"]
        )
        if not math.isnan(row["sds"]):
            answer += f", standard deviation score {row['sds']:+.1f}"
        if row["warnings"] == "sex_from_image":
            answer += f", taken for {row['sex']}"
        elif row["warnings"]:
            answer += f"; the recorded sex, {row['sex']}, looks wrong"
        if row["accepted"] and row["detail"]:
            answer += f"; {row['detail']}"
        typer.echo(f"{row['id'] or row['file']}: {answer}")
    if dicom is not None:
        left_out = frame["accepted"] & (frame["detail"] == "") & ~frame["reports"].str.contains(".dcm", regex=False)
        if count := int(left_out.sum()):
            typer.echo(f"{dicom}: no report for {count:,} of the answers, whose files are no DICOM")
    if out is not None:
        typer.echo(f"written: {out}")


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Radiographs: PNG, JPEG, TIFF, DICOM.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the masks and segments.csv.", show_default=False)],
    segmenter: Segmenter = "hand_sam",
    sam_model: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    workers: Workers = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Find the hand in raw files: a mask each, and a table of score, angle, side and what cannot be trusted."""
    from preprocessing.segment import segment as run

    config = read_preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="segment")
    with show_progress("Segmenting", quiet=as_json) as report:
        frame = run(inputs, out=out, config=config, workers=workers, progress=report)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2, double_precision=4))
        return
    typer.echo(f"{out}: {len(frame):,} files, {int(frame['accepted'].sum()):,} accepted")
    for reasons, count in frame.loc[~frame["accepted"], "reasons"].value_counts().items():
        typer.echo(f"  {reasons}: {count:,}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("demo"),
) -> None:
    """Run the whole path on synthetic radiographs: draw, prepare, train, evaluate, predict."""
    from boneage.demo import demo as run

    run(out)


# In the order of the help.
for command in (
    prepare,
    records,
    review,
    train,
    tune,
    best,
    evaluate,
    predict,
    calibrate,
    ensemble,
    export,
    segment,
    train_masks,
    train_sam,
    train_landmarks,
    ui,
    sync,
    demo,
    serve,
):
    app.command()(command)


def _interval(row: dict[Any, Any]) -> str:
    """Say between which months the bone age lies, where the bundle knows."""
    if math.isnan(row["low_months"]):
        return ""
    return f", between {row['low_months']:.0f} and {row['high_months']:.0f}"


def main() -> NoReturn:
    """Run the command line; what the user can put right is one line and status 1, wrong usage is status 2."""
    debug = "--debug" in sys.argv
    # TensorFlow's C++ side greets on standard error; its errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow itself turns oneDNN on only where the processor has AVX-512, and trains faster by it without.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        sys.exit(app())
    except (BoneAgeError, ValueError) as error:
        if debug:
            raise
        typer.echo(f"boneage: {error}", err=True)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if debug or extra is None:
            raise
        typer.echo(f"boneage: this needs {error.name}; install it by: pip install 'boneage[{extra}]'", err=True)
    sys.exit(1)
