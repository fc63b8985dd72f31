"""The commands that train, search, correct and join networks."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from boneage.options import Data, Json, Settings, Views, print_json, read_settings

Tracking = Annotated[str | None, typer.Option(help="MLflow's store; 'none' tracks nothing.")]


def train(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/rsna100_lite0.toml.")],
    data: Data,
    run: Annotated[Path | None, typer.Option(help="Run folder to make; runs/<experiment> without it.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    tracking_uri: Tracking = None,
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
        print_json(
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


def tune(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, such as experiments/tune_heads.toml.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the search; one that was killed goes on.", show_default=False)],
    trials: Annotated[int, typer.Option(help="Number of trials, two of them references.", min=3)] = 60,
    tuner: Annotated[str, typer.Option(help="hyperband, bayesian, random or grid.")] = "hyperband",
    seed: Annotated[int, typer.Option(help="Seed of the division, the search and the heads.", min=0)] = 0,
    tracking_uri: Tracking = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Search for the head that reads bone age best, each trained with its network, by a part of the training split."""
    import contextlib

    import rich

    from boneage.tuning import tune as run
    from boneage.tuning_report import lay_out

    # Keras prints the progress of each training.
    with contextlib.redirect_stdout(sys.stderr):
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
    if made is None:
        typer.echo("no trial is left; the chief writes what was found", err=True)
        return
    if as_json:
        print_json(made.summary)
        return
    rich.print(lay_out(made.summary))
    typer.echo(f"written: {made.folder / 'trials.csv'}, {made.folder / 'tune.json'}")


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
        print_json({**dataclasses.asdict(made), "bundle": str(made.bundle)})
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


def ensemble(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to join.")],
    out: Annotated[Path, typer.Option(help="Folder of the joined bundle.", show_default=False)],
    views: Views = None,
) -> None:
    """Join bundles into one that answers with their mean."""
    from boneage.ensemble import ensemble as run

    typer.echo(f"bundle: {run(bundles, out=out, views=views)}")


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

    config = build(HandTraining, read_settings(settings), where="train-masks")
    print_json(run(radiographs, masks=masks, out=out, config=config)["unseen"])


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
    from preprocessing.sam.fit import Phases
    from preprocessing.sam.train import train_hand_sam as run

    given = read_settings(settings)
    # What is not set is that of the phase, not that of any training.
    kept = {name: {**each, **given.pop(name, {})} for name, each in dataclasses.asdict(Phases()).items()}
    made = run(
        radiographs,
        masks=masks,
        unlabelled=unlabelled,
        segments=segments,
        split=split,
        out=out,
        phases=build(Phases, {**kept, **given}, where="train-sam"),
        progress=lambda line: typer.echo(line, err=True),
    )
    print_json(made["cross_validated"])


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

    config = build(HandTraining, read_settings(settings), where="train-landmarks")
    print_json(run(table, radiographs=radiographs, split=split, out=out, config=config)["unseen"])


def export(
    bundle: Annotated[Path, typer.Argument(help="Bundle of a training run.")],
    out: Annotated[Path, typer.Option(help="File to make; a folder for saved_model.", show_default=False)],
    format: Annotated[
        str, typer.Option(help="onnx, saved_model (TensorFlow), tflite, or openvino where it is installed.")
    ] = "onnx",
    as_json: Json = False,
) -> None:
    """Write a bundle's network for another runtime, compared with what it answers in Keras."""
    from boneage.export import export as run

    difference = run(bundle, out=out, format=format)
    if as_json:
        print_json({"path": str(out), "format": format, "largest_difference": difference})
        return
    typer.echo(f"{out}: written; its answers differ from Keras's by {difference:.5f} at most")
    if format == "openvino":
        typer.echo("compile it with INFERENCE_PRECISION_HINT f32: bfloat16, which OpenVINO prefers, is not that exact")
