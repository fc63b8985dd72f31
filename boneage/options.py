"""What the commands share: options, settings, progress, JSON."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from preprocessing.pipeline import PreprocessingConfig

Data = Annotated[Path, typer.Option(help="Record folder that `boneage prepare` made.", show_default=False)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow's store; MLFLOW_TRACKING_URI or sqlite:///mlruns/mlflow.db without it.")
]
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
Reference = Annotated[
    Path | None,
    typer.Option(
        help="CSV of sex, chronological_age_months, mean_months, sd_months for standard deviation scores; the Brush "
        "Foundation's table without it."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Processes; one per core without it.", min=1)]
Table = Annotated[Path | None, typer.Option(help="CSV or spreadsheet with labels or sex, one row a radiograph.")]


def read_preprocessing(
    segmenter: str, sam_model: str | None, sam_checkpoint: Path | None, settings: list[str] | None, *, where: str
) -> "PreprocessingConfig":
    """Build the preprocessing from options and settings."""
    from boneage.config import build
    from preprocessing.pipeline import PreprocessingConfig

    sam = {"sam_model": sam_model, "sam_checkpoint": sam_checkpoint and str(sam_checkpoint)}
    given = {name: value for name, value in sam.items() if value}
    config = build(PreprocessingConfig, {"segmenter": segmenter, **given, **read_settings(settings)}, where=where)
    if given and config.segmenter != "sam":
        raise ValueError(
            f"--{next(iter(given)).replace('_', '-')} needs --segmenter sam. Received: {config.segmenter}."
        )
    return config


def read_settings(settings: list[str] | None) -> dict[str, Any]:
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


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


@contextlib.contextmanager
def show_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
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
