"""The command line: each command is the function of the same name."""

import io
import math
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import boneage
from boneage.base.errors import BoneAgeError, printable
from boneage.base.progress import show_progress
from boneage.cli.evaluation import describe_group, evaluate, stress
from boneage.cli.growth import dose, follow, height
from boneage.cli.hub import publish
from boneage.cli.importing import import_
from boneage.cli.options import (
    AgeUnit,
    BundleOption,
    Json,
    Reference,
    SexBundle,
    Tta,
    exit_unanswered,
)
from boneage.cli.outcomes import outcomes
from boneage.cli.preparation import prepare, records, segment
from boneage.cli.reference import app as reference
from boneage.cli.serving import SERVE_MODULES, review, serve
from boneage.cli.studies import agree
from boneage.cli.tracking import best, sync, ui
from boneage.cli.training import (
    calibrate,
    ensemble,
    export,
    recipes,
    settings,
    train,
    train_landmarks,
    train_sam,
    train_unet,
    tune,
)

app = typer.Typer(
    name="boneage",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130

# The extra that installs each optional module.
EXTRAS = {
    "apache_beam": "beam",
    "huggingface_hub": "hub",
    **dict.fromkeys((*SERVE_MODULES, "highdicom", "pynetdicom"), "serve"),
    **dict.fromkeys(("keras", "keras_tuner", "mlflow", "onnx", "psutil", "sqlalchemy", "tensorflow"), "train"),
    **dict.fromkeys(("segment_anything", "torch"), "sam"),
    **dict.fromkeys(("scipy", "statsmodels"), "studies"),
}


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"boneage {boneage.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback for errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Bone age in months from radiographs of the hand. Research use: not a medical device."""


def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Radiographs: PNG, JPEG, TIFF, DICOM.")
    ],
    bundle: BundleOption = None,
    sex_bundle: SexBundle = None,
    sex: Annotated[
        str | None,
        typer.Option(help="female or male (or F, M), for all files without a sex of their own (DICOM files have one)."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV or spreadsheet with id,male or id,sex; with bone ages too, the error is printed."),
    ] = None,
    age_unit: AgeUnit = None,
    tta: Tta = None,
    reference: Reference = None,
    occlusion_maps: Annotated[
        Path | None,
        typer.Option(help="Folder for occlusion maps: change of the prediction in months when a patch is blurred."),
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(help="Folder for a structured report and a secondary capture per DICOM file, in its study."),
    ] = None,
    fhir: Annotated[Path | None, typer.Option(help="Folder for one FHIR R4 Observation per prediction.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; an interrupted run resumes from it.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of worker processes (default: one per CPU core; one for fewer than 25 files).", min=1
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict bone age from radiograph files; every file gets a prediction or a rejection reason."""
    from boneage.cohorts.predictions import measure_predictions
    from boneage.inference.predict import predict as run

    with show_progress("Predicting", quiet=as_json) as report:
        frame = run(
            inputs,
            bundle=bundle,
            sex_bundle=sex_bundle,
            sex=sex,
            table=table,
            age_unit=age_unit,
            tta=tta,
            reference=reference,
            occlusion_maps=occlusion_maps,
            dicom=dicom,
            fhir=fhir,
            out=out,
            workers=workers,
            progress=report,
        )
    measured = None if table is None else measure_predictions(frame, inputs, table=table, age_unit=age_unit)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2, double_precision=2))
        if measured is not None:
            # Standard output is reserved for the JSON document.
            typer.echo(describe_group(measured), err=True)
        exit_unanswered(frame["accepted"], what="a prediction")
        return
    for row in frame.to_dict("records"):
        # A UID tells nobody which file it is.
        name = row["id"] if row["id"] and row["id"] in row["file"] else row["file"] or row["id"]
        described = _describe(row)
        typer.echo(described if described.startswith(f"{name}: ") else f"{name}: {described}")
    if dicom is not None:
        left_out = frame["accepted"] & (frame["detail"] == "") & ~frame["reports"].str.contains(".dcm", regex=False)
        if count := int(left_out.sum()):
            typer.echo(f"{dicom}: no DICOM report for {count:,} predictions: their files are not DICOM")
    if out is not None:
        typer.echo(f"written: {out}")
    if (frame["accepted"] & (frame["interval"] == "")).any():
        typer.echo("no prediction interval with this model; `boneage calibrate` sets one")
    if measured is not None:
        typer.echo(describe_group(measured))
    exit_unanswered(frame["accepted"], what="a prediction")


def demo(
    out: Annotated[Path, typer.Option(help="Folder to create.")] = Path("demo"),
) -> None:
    """Run the complete workflow on synthetic radiographs: generate, prepare, train, evaluate, predict."""
    from boneage.cli.demo import demo as run

    run(out)


# In the order of the help.
for command in (
    prepare,
    records,
    review,
    train,
    tune,
    recipes,
    settings,
    best,
    evaluate,
    stress,
    predict,
    calibrate,
    ensemble,
    export,
    import_,
    publish,
    agree,
    follow,
    height,
    outcomes,
    dose,
    segment,
    train_unet,
    train_sam,
    train_landmarks,
    ui,
    sync,
    demo,
    serve,
):
    # Python's own word `import` needs an underscore behind it.
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
app.add_typer(reference)


def _describe(row: dict[Any, Any]) -> str:
    """Describe a row of `predict` in one line."""
    from boneage.inference.messages import explain_warning
    from boneage.inference.statements import tells_sex

    if not row["accepted"]:
        return str(row["detail"])
    text = _format_months(row)
    if not math.isnan(row["sds"]):
        text += f", standard deviation score {row['sds']:+.1f} by {row['reference']}, {row['determination']}"
    if row["hand"]:
        right = {name.removeprefix("right_"): value for name, value in row.items() if name.startswith("right_")}
        text = f"{row['hand']} hand {text}; right hand {_format_months(right)}"
    warnings = {
        "two_hands": "two hands, told apart by their thumbs as on a film made palms down",
        "sex_from_image": f"sex predicted from the image: {row['sex']}"
        if tells_sex(row["male_probability"])
        else f"sex not known, and the image does not tell it: taken as {row['sex']}",
        "sex_looks_wrong": f"the recorded sex ({row['sex']}) does not match the image",
        "sex_unknown": "sex unknown: the mean for both sexes",
        "age_unit_doubtful": "the chronological age, more than 4 standard deviations away, was not used: "
        "if it is right, say its unit with --age-unit",
    }
    # The others are longer than a few words, and stand as they are in reports.
    told = [warnings.get(name) or explain_warning(name).rstrip(".") for name in row["warnings"].split(";") if name]
    return "; ".join([text, *told, *filter(None, [row["detail"]])])


def _format_months(row: dict[Any, Any]) -> str:
    """Format a bone age and its interval."""
    return f"{row['bone_age_months']:.1f} months ({row['bone_age_months'] / 12:.1f} years){_interval(row)}"


def _interval(row: dict[Any, Any]) -> str:
    """Format the prediction interval; empty if the bundle has none."""
    if not row["interval"]:
        return ""
    if row["interval"].endswith("or more"):
        return f", {row['low_months']:.0f} or more"
    return f", between {row['low_months']:.0f} and {row['high_months']:.0f}"


def _name_options(message: str, *, words: Sequence[str]) -> str:
    """Name the options of a command in the message of its function, which names its arguments: `tta` is --tta.

    Args:
        message: The message.
        words: The words of the command line, of which the command is found.
    """
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    options = {
        parameter.name: parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"
    }

    def name_option(found: re.Match[str]) -> str:
        # A function states the unit of a number in the name of its argument.
        return options.get(found[1]) or options.get(re.sub("_(months|cm)$", "", found[1])) or found[0]

    return re.sub(r"`(\w+)`", name_option, message)


def main() -> NoReturn:
    """Run the command line: an error is one line and status 1, wrong usage is status 2, Ctrl-C one line and 130."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        # File names may hold what the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # TensorFlow enables oneDNN only on CPUs with AVX-512; training is faster with it on others as well.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Keras 3.15 asks NumPy for `np.object` when it exports to ONNX: no user can change it.
    warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
    try:
        status = app(prog_name="boneage", standalone_mode=False)
        if status == _INTERRUPTED:  # Typer ends so after Ctrl-C
            typer.echo("boneage: interrupted", err=True)
        sys.exit(status or 0)  # a command returns None
    except typer.TyperException as error:
        # Without a message the help has been printed.
        if text := error.format_message():
            context: typer.Context | None = getattr(error, "ctx", None)
            command = "boneage" if context is None else context.command_path
            end = "" if text.endswith((".", "?")) else "."
            typer.echo(f"boneage: {printable(text)}{end} See `{command} --help`.", err=True)
        sys.exit(error.exit_code)
    except BoneAgeError as error:
        if debug:
            raise
        typer.echo(f"boneage: {printable(str(error))}", err=True)
    except ValueError as error:
        if debug:
            raise
        typer.echo(f"boneage: {printable(_name_options(str(error), words=sys.argv[1:]))}", err=True)
    except OSError as error:
        if debug:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        typer.echo(f"boneage: {printable(str(what))}; fix this and run the same command again.", err=True)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if debug or extra is None:
            raise
        typer.echo(f"boneage: requires {error.name}; install it with: pip install 'boneage[{extra}]'", err=True)
    sys.exit(1)
