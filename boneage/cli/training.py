"""The commands that train, tune, calibrate, combine and export networks."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from boneage.cli.options import Data, Json, Settings, Tta, add_row, make_table, print_json, print_table, read_settings

Tracking = Annotated[str | None, typer.Option(help="MLflow tracking URI; 'none' turns tracking off.")]


def train(
    experiment: Annotated[
        str,
        typer.Argument(help="Experiment file, or a packaged recipe such as rsna_lite0; see `boneage recipes`."),
    ],
    data: Data,
    run: Annotated[Path | None, typer.Option(help="Run folder to create (default: runs/<experiment>).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    tracking_uri: Tracking = None,
    distribution: Annotated[
        str,
        typer.Option(help="none (one device), mirrored (all local GPUs), multiworker (from TF_CONFIG), or auto."),
    ] = "auto",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a network; writes a run folder with history, plots, evaluation and bundle."""
    if as_json:
        # Keras prints its progress to standard output, which is reserved for the JSON document.
        sys.stdout = sys.stderr
    from boneage.evaluation.conformal import format_coverage
    from boneage.training.train import train as work

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
        print_json(
            {
                "run": str(made.folder),
                "bundle": str(made.bundle),
                "validation_error": made.validation_error,
                "interval": made.interval,
                "history": made.history.to_dict("records"),
            }
        )
        return
    if "mae" in made.history:
        typer.echo(f"validation MAE {made.validation_error:.2f} months")
        typer.echo(format_coverage(made.interval))
    else:
        typer.echo(f"validation: sex classification error {100 * made.validation_error:.1f}%")
    typer.echo(f"bundle: {made.bundle}")


def tune(
    experiment: Annotated[
        str,
        typer.Argument(help="Experiment file, or a packaged recipe such as tune_heads; see `boneage recipes`."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the search; an interrupted search resumes.", show_default=False)],
    num_trials: Annotated[int, typer.Option(help="Number of trials, including the two reference heads.", min=3)] = 60,
    tuner: Annotated[str, typer.Option(help="hyperband, bayesian, random or grid.")] = "hyperband",
    seed: Annotated[int, typer.Option(help="Seed of the split, the search and the heads.", min=0)] = 0,
    tracking_uri: Tracking = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Search for the best head; heads are trained with their backbone and judged on held-out training radiographs."""
    import contextlib

    from boneage.tuning.report import summary_table
    from boneage.tuning.tune import tune as run

    # Keras prints the progress of every training to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        made = run(
            experiment,
            data=data,
            out=out,
            num_trials=num_trials,
            tuner=tuner,
            seed=seed,
            overrides=settings or (),
            tracking_uri=tracking_uri,
            progress=lambda line: typer.echo(line, err=True),
        )
    if made is None:
        typer.echo("no trials left; the chief writes the results", err=True)
        return
    if as_json:
        print_json(made.summary)
        return
    print_table(summary_table(made.summary))
    typer.echo(f"written: {made.folder / 'trials.csv'}, {made.folder / 'tune.json'}")


def recipes(as_json: Json = False) -> None:
    """List the packaged recipes that `boneage train` and `boneage tune` take by name."""
    from boneage.configuration.recipes import list_recipes

    listed = list_recipes()
    if as_json:
        print_json(listed)
        return
    table = make_table("", ("Recipe", "Title"))
    for name, title in listed.items():
        add_row(table, name, title)
    print_table(table)


def settings(
    command: Annotated[
        str,
        typer.Argument(help="train, tune, prepare, segment, train-unet, train-landmarks or train-sam."),
    ] = "train",
    as_json: Json = False,
) -> None:
    """List the keys that `--set` takes in a command, with type, default and description."""
    from boneage.configuration.settings import list_settings

    listed = list_settings(command)
    if as_json:
        print_json([dataclasses.asdict(setting) for setting in listed])
        return
    table = make_table("", ("Key", "Type", "Default", "Description"))
    for setting in listed:
        add_row(table, setting.key, setting.type, json.dumps(setting.default), setting.description)
    print_table(table)


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle to calibrate.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the calibrated bundle.", show_default=False)],
    split: Annotated[
        str | None, typer.Option(help="train, validation or test (default: all); never what the bundle has seen.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the bundle even if the correction does not lower the error.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Calibrate a bundle by one linear correction per sex, from about 100 labelled records that it has not seen."""
    from boneage.evaluation.calibrate import calibrate as run
    from boneage.evaluation.calibrate import describe_effect
    from boneage.evaluation.conformal import format_coverage

    made = run(bundle, data=data, out=out, split=split, force=force)
    if as_json:
        print_json({**dataclasses.asdict(made), "bundle": str(made.bundle)})
        return
    for sex, (slope, offset) in made.lines.items():
        typer.echo(f"{sex}: {slope:.3f} x prediction {offset:+.1f} months")
    typer.echo(describe_effect(made.comparison))
    typer.echo(f"bias {made.bias_after_months:+.1f} months, before {made.bias_before_months:+.1f}")
    typer.echo(format_coverage(made.interval))
    typer.echo(f"bundle: {made.bundle}")


def ensemble(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to combine.")],
    out: Annotated[Path, typer.Option(help="Folder of the ensemble.", show_default=False)],
    tta: Tta = None,
) -> None:
    """Combine bundles into an ensemble that predicts their mean."""
    from boneage.tfrecords.quiet import import_tensorflow

    import_tensorflow()
    from boneage.bundles.join import ensemble as run

    typer.echo(f"bundle: {run(bundles, out=out, tta=tta)}")


def train_unet(
    radiographs: Annotated[Path, typer.Argument(help="Folder of radiographs.")],
    masks: Annotated[Path, typer.Option(help="Folder of hand masks of the same names.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for the network, its model card and its metrics.", show_default=False)
    ],
    settings: Settings = None,
) -> None:
    """Train the U-Net for hand segmentation from a few dozen masks; one fifth is held out for evaluation."""
    from boneage.configuration.build import build
    from boneage.configuration.hand_networks import HandTrainingConfig
    from boneage.hand_networks.train import train_unet as run

    config = build(HandTrainingConfig, read_settings(settings), where="train-unet")
    print_json(run(radiographs, masks=masks, out=out, config=config)["unseen"])


def train_sam(
    radiographs: Annotated[Path, typer.Argument(help="Folder of radiographs.")],
    masks: Annotated[Path, typer.Option(help="Folder of hand masks of the same names.", show_default=False)],
    unlabelled: Annotated[Path, typer.Option(help="Folder of radiographs without such masks.", show_default=False)],
    segments: Annotated[
        Path, typer.Option(help="Output folder of `boneage segment` for those radiographs.", show_default=False)
    ],
    split: Annotated[
        Path, typer.Option(help="CSV with id,split; only the train split is used for training.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the network, its model card and its metrics.", show_default=False)
    ],
    settings: Settings = None,
) -> None:
    """Train hand-SAM, the small Segment Anything model for hands, with cross-validation; needs torch."""
    from boneage.configuration.build import build
    from boneage.preprocessing.sam_training.schedule import HandSamSchedule
    from boneage.preprocessing.sam_training.train import train_hand_sam as run

    given = read_settings(settings)
    # What is not set is that of the phase, not that of any training.
    kept = {
        name: {**defaults, **given.pop(name, {})} for name, defaults in dataclasses.asdict(HandSamSchedule()).items()
    }
    made = run(
        radiographs,
        masks=masks,
        unlabelled=unlabelled,
        segments=segments,
        split=split,
        out=out,
        schedule=build(HandSamSchedule, {**kept, **given}, where="train-sam"),
        progress=lambda line: typer.echo(line, err=True),
    )
    print_json(made["cross_validated"])


def train_landmarks(
    table: Annotated[Path, typer.Argument(help="CSV of hand landmarks.")],
    radiographs: Annotated[Path, typer.Option(help="Folder of their radiographs, <id>.png.", show_default=False)],
    split: Annotated[
        Path,
        typer.Option(help="CSV with id,split; the validation split is held out for evaluation.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the network, its model card and its metrics.", show_default=False)
    ],
    settings: Settings = None,
) -> None:
    """Train the hand landmark network (wrist and finger joints), which gives the angle and side of a hand."""
    from boneage.configuration.build import build
    from boneage.configuration.hand_networks import HandTrainingConfig
    from boneage.hand_networks.train import train_landmarks as run

    config = build(HandTrainingConfig, read_settings(settings), where="train-landmarks")
    print_json(run(table, radiographs=radiographs, split=split, out=out, config=config)["unseen"])


def export(
    bundle: Annotated[Path, typer.Argument(help="Bundle of a training run.")],
    out: Annotated[Path, typer.Option(help="File to write; a folder for saved_model.", show_default=False)],
    format: Annotated[
        str, typer.Option(help="onnx, saved_model (TensorFlow), tflite, or openvino if it is installed.")
    ] = "onnx",
    as_json: Json = False,
) -> None:
    """Export a bundle's network for another runtime and compare its output with Keras."""
    from boneage.tfrecords.quiet import import_tensorflow

    import_tensorflow()
    from boneage.bundles.export import export as run

    difference = run(bundle, out=out, format=format)
    if as_json:
        print_json({"path": str(out), "format": format, "largest_difference": difference})
        return
    typer.echo(f"{out}: written; largest difference from Keras: {difference:.5f}")
    if format == "openvino":
        typer.echo("compile it with INFERENCE_PRECISION_HINT=f32: OpenVINO's default bfloat16 is less exact")
