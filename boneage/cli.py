"""The command line: each command is the function of the same name."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from boneage.web.command import serve
from tfrecords.errors import BoneAgeError

if TYPE_CHECKING:
    from preprocessing.pipeline import PreprocessingConfig

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
    **dict.fromkeys(("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn"), "serve"),
    **dict.fromkeys(("keras", "keras_tuner", "mlflow", "psutil", "tensorflow"), "train"),
    **dict.fromkeys(("segment_anything", "torch"), "sam"),
}

Data = Annotated[Path, typer.Option(help="Record folder that `boneage prepare` made.", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]
Segmenter = Annotated[
    str, typer.Option(help="What finds the hand: hand_sam, unet, sam (by torch), or none for the whole frame.")
]
SamModel = Annotated[
    str | None, typer.Option(help="Segment Anything of --segmenter sam: vit_b, which it is without, vit_l or vit_h.")
]
SamCheckpoint = Annotated[
    Path | None, typer.Option(help="Checkpoint of that model; the official one, fetched once, without it.")
]
Views = Annotated[
    str | None,
    typer.Option(help="Looks at each radiograph: one, mirrored, or ten turned and mirrored; the bundle's without it."),
]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core without it.", min=1)]
Table = Annotated[Path | None, typer.Option(help="CSV or spreadsheet with labels or sex, one row a radiograph.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False) -> None:
    """Bone age in months from radiographs of the hand. Research use: not a medical device."""


@app.command()
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

    config = _preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="prepare")
    with _progress("Preparing", quiet=as_json) as report:
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
        _print_json({"folder": str(made.folder), "records": counts, "rejected": reasons, "digest": made.info["digest"]})
        return
    typer.echo(f"{made.folder}: " + (", ".join(f"{count:,} {name}" for name, count in counts.items()) or "no records"))
    if reasons:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        typer.echo(f"{len(made.rejected):,} rejected ({listed}): see {made.folder / 'rejected.csv'}")
    if made.info["duplicates"]:
        typer.echo(f"{len(made.info['duplicates']):,} groups of equal pixels: see {made.folder / 'dataset_info.json'}")
    if (made.folder / "review").exists():
        typer.echo(f"look through them: {made.folder / 'review' / 'index.html'}")


@app.command()
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
        _print_json({**info, "faults": faults} if verify else info)
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


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/rsna100_lite0.toml.")],
    data: Data,
    run: Annotated[Path | None, typer.Option(help="Run folder to make; runs/<experiment> without it.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; 'none' tracks nothing.")] = None,
    distribution: Annotated[
        str,
        typer.Option(help="none (one device), mirrored (all GPUs here), multiworker (by TF_CONFIG), or auto."),
    ] = "auto",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a network; writes a run folder with history, plots, evaluation and a bundle."""
    if as_json:
        # Keras prints its progress to standard output, which belongs to the JSON document.
        sys.stdout = sys.stderr
    from boneage.training import train as work

    made = work(
        experiment,
        data=data,
        run=run,
        overrides=settings or (),
        resume=resume,
        tracking_uri=tracking_uri,
        distribution=distribution,
    )
    if as_json:
        sys.stdout = sys.__stdout__
        _print_json(
            {
                "run": str(made.folder),
                "bundle": str(made.bundle),
                "validation_error": made.validation_error,
                "history": made.history,
            }
        )
        return
    if "mae" in made.history[0]:
        typer.echo(f"validation MAE {made.validation_error:.2f} months")
    else:
        typer.echo(f"validation: {100 * made.validation_error:.1f}% of sexes told wrong")
    typer.echo(f"bundle: {made.bundle}")


@app.command()
def tune(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/tune_heads.toml.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the search; one that was killed goes on.", show_default=False)],
    trials: Annotated[int, typer.Option(help="Number of trials, two of them references.", min=3)] = 60,
    tuner: Annotated[str, typer.Option(help="hyperband, bayesian, random or grid.")] = "hyperband",
    seed: Annotated[int, typer.Option(help="Seed of the division, the search and the heads.", min=0)] = 0,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's store; 'none' tracks nothing.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Search for the best head on a frozen network, judged by a part of the training split; writes trials.csv."""
    import rich

    from boneage.tuning import tune as run
    from boneage.tuning_report import lay_out

    made = run(
        experiment,
        data=data,
        out=out,
        num_trials=trials,
        tuner=tuner,
        seed=seed,
        overrides=settings or (),
        tracking_uri=tracking_uri,
        progress=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        _print_json(made.summary)
        return
    rich.print(lay_out(made.summary))
    typer.echo(f"written: {made.folder / 'trials.csv'}, {made.folder / 'tune.json'}")


@app.command()
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


@app.command()
def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Radiographs: PNG, JPEG, TIFF, DICOM.")
    ],
    bundle: Annotated[Path | None, typer.Option(help="Bundle of a training run; the packaged one without it.")] = None,
    sex_bundle: Annotated[Path | None, typer.Option(help="Bundle that tells the sex, to warn and to fill in.")] = None,
    sex: Annotated[str | None, typer.Option(help="female or male, for all files; DICOM files bring their own.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV or spreadsheet with id,male or id,sex.")] = None,
    views: Views = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each hand and what in it the answer rests on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write.")] = None,
    as_json: Json = False,
) -> None:
    """Predict bone age from raw files; each file gets an answer or a reason."""
    from boneage.prediction import predict as run

    with _progress("Predicting", quiet=as_json) as report:
        frame = run(
            inputs,
            bundle=bundle,
            sex_bundle=sex_bundle,
            sex=sex,
            table=table,
            views=views,
            pictures=pictures,
            out=out,
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
        if row["warnings"] == "sex_from_image":
            answer += f", taken for {row['sex']}"
        elif row["warnings"]:
            answer += f"; the recorded sex, {row['sex']}, looks wrong"
        typer.echo(f"{row['id'] or row['file']}: {answer}")
    if out is not None:
        typer.echo(f"written: {out}")


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to correct.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the corrected bundle.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Correct a bundle by a line for each sex, fitted to about 100 labelled records; reports before and after."""
    from boneage.calibration import calibrate as run

    made = run(bundle, data=data, out=out)
    if as_json:
        _print_json({**dataclasses.asdict(made), "bundle": str(made.bundle)})
        return
    difference = made.comparison.difference_months
    for sex, (slope, offset) in made.lines.items():
        typer.echo(f"{sex}: {slope:.3f} x answer {offset:+.1f} months")
    typer.echo(
        f"MAE on {made.comparison.num_images} records, each corrected without it: {made.comparison.mae_months:.2f} "
        f"months, before {made.comparison.baseline_mae_months:.2f} "
        f"({difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]); "
        f"bias {made.bias_after_months:+.1f}, before {made.bias_before_months:+.1f}"
    )
    typer.echo(f"bundle: {made.bundle}")


@app.command()
def ensemble(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to join.")],
    out: Annotated[Path, typer.Option(help="Folder of the joined bundle.", show_default=False)],
) -> None:
    """Join bundles into one that answers with their mean."""
    from boneage.ensemble import ensemble as run

    typer.echo(f"bundle: {run(bundles, out=out)}")


@app.command()
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

    config = _preprocessing(segmenter, sam_model, sam_checkpoint, settings, where="segment")
    with _progress("Segmenting", quiet=as_json) as report:
        frame = run(inputs, out=out, config=config, workers=workers, progress=report)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2, double_precision=4))
        return
    typer.echo(f"{out}: {len(frame):,} files, {int(frame['accepted'].sum()):,} accepted")
    for reasons, count in frame.loc[~frame["accepted"], "reasons"].value_counts().items():
        typer.echo(f"  {reasons}: {count:,}")


@app.command()
def train_masks(
    radiographs: Annotated[Path, typer.Argument(help="Folder of radiographs.")],
    masks: Annotated[Path, typer.Option(help="Folder of hand masks of the same names.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the network, its card and measures.", show_default=False)],
    settings: Settings = None,
) -> None:
    """Train the U-Net that draws hand masks, from a few dozen of them; every fifth one is kept to measure it."""
    from boneage.config import build
    from boneage.hand.network import HandTraining
    from boneage.hand.train import train_masks as run

    config = build(HandTraining, _overrides(settings), where="train-masks")
    _print_json(run(radiographs, masks=masks, out=out, config=config)["unseen"])


@app.command()
def train_sam(
    radiographs: Annotated[Path, typer.Argument(help="Folder of radiographs.")],
    masks: Annotated[Path, typer.Option(help="Folder of hand masks of the same names.", show_default=False)],
    unlabelled: Annotated[Path, typer.Option(help="Folder of radiographs without such masks.", show_default=False)],
    segments: Annotated[Path, typer.Option(help="What `boneage segment` wrote of those.", show_default=False)],
    split: Annotated[Path, typer.Option(help="CSV with id,split; only train is learnt from.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the network, its card and measures.", show_default=False)],
    settings: Settings = None,
) -> None:
    """Train hand-SAM, the small Segment Anything model for hands, measured by cross-validation; needs torch."""
    from boneage.config import build
    from preprocessing.sam.train import Phases
    from preprocessing.sam.train import train_hand_sam as run

    made = run(
        radiographs,
        masks=masks,
        unlabelled=unlabelled,
        segments=segments,
        split=split,
        out=out,
        phases=build(Phases, _overrides(settings), where="train-sam"),
        progress=lambda line: typer.echo(line, err=True),
    )
    _print_json(made["cross_validated"])


@app.command()
def train_landmarks(
    table: Annotated[Path, typer.Argument(help="CSV of hand landmarks.")],
    radiographs: Annotated[Path, typer.Option(help="Folder of their radiographs, <id>.png.", show_default=False)],
    split: Annotated[Path, typer.Option(help="CSV with id,split; validation is kept to measure.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the network, its card and measures.", show_default=False)],
    settings: Settings = None,
) -> None:
    """Train the network that places wrist and finger joints, from which angle and side of a hand are told."""
    from boneage.config import build
    from boneage.hand.network import HandTraining
    from boneage.hand.train import train_landmarks as run

    config = build(HandTraining, _overrides(settings), where="train-landmarks")
    _print_json(run(table, radiographs=radiographs, split=split, out=out, config=config)["unseen"])


@app.command()
def ui(
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's store; the one that training uses without it.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow on the runs that `boneage train` tracked."""
    from boneage.tracking import resolve_uri

    if importlib.util.find_spec("mlflow") is None:
        raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")
    uri = resolve_uri(tracking_uri)
    typer.echo(f"MLflow on {uri}: http://127.0.0.1:{port} (takes a while to answer; Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    os.execv(sys.executable, command)  # noqa: S606 - no shell, every word is ours or an argument of its own


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("demo"),
) -> None:
    """Run the whole path on synthetic radiographs: draw, prepare, train, evaluate, predict."""
    from boneage.demo import demo as run

    run(out)


app.command()(serve)


def _preprocessing(
    segmenter: str, sam_model: str | None, sam_checkpoint: Path | None, settings: list[str] | None, *, where: str
) -> "PreprocessingConfig":
    """Build the preprocessing from options and settings."""
    from boneage.config import build
    from preprocessing.pipeline import PreprocessingConfig

    sam = {"sam_model": sam_model, "sam_checkpoint": sam_checkpoint and str(sam_checkpoint)}
    given = {name: value for name, value in sam.items() if value}
    config = build(PreprocessingConfig, {"segmenter": segmenter, **given, **_overrides(settings)}, where=where)
    if given and config.segmenter != "sam":
        raise ValueError(
            f"--{next(iter(given)).replace('_', '-')} needs --segmenter sam. Received: {config.segmenter}."
        )
    return config


def _interval(row: dict[Any, Any]) -> str:
    """Say between which months the bone age lies, where the bundle knows."""
    known = row["low_months"] == row["low_months"]  # not NaN
    return f", between {row['low_months']:.0f} and {row['high_months']:.0f}" if known else ""


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    """Read settings; `gate.max_edge_share=0.2` goes into the table `gate`."""
    from boneage.config import parse_override

    values: dict[str, Any] = {}
    for key, value in map(parse_override, settings or []):
        *tables, name = key.split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
        target[name] = value
    return values


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@contextlib.contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Draw a progress bar on standard error from the first report on; gives the function to report to."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=quiet)
    task = bar.add_task(title, total=None)

    def report(finished: int, total: int) -> None:
        bar.start()  # not before: what has to be fetched first draws a bar of its own
        bar.update(task, completed=finished, total=total)

    try:
        yield report
    finally:
        bar.stop()


def main() -> NoReturn:
    """Run the command line; what the user can put right is one line and status 1, wrong usage is status 2."""
    debug = "--debug" in sys.argv
    # TensorFlow's C++ side greets on standard error; its errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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
