"""Shared by the commands: options, settings, JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table as RichTable

    from boneage.preprocessing.config import PreprocessingConfig

Data = Annotated[Path, typer.Option(help="Record folder written by `boneage prepare`.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one setting; can be given several times. `boneage settings COMMAND` lists the keys.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow tracking URI (default: $MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db)."),
]
Segmenter = Annotated[
    str | None,
    typer.Option(help="Hand segmentation: hand_sam (default), unet, sam (needs torch), or none (use the whole frame)."),
]
SamModel = Annotated[
    str | None, typer.Option(help="Segment Anything model for --segmenter sam: vit_b (default), vit_l or vit_h.")
]
SamCheckpoint = Annotated[
    Path | None,
    typer.Option(help="Checkpoint of the Segment Anything model (default: the official one, downloaded once)."),
]
Tta = Annotated[
    str | None,
    typer.Option(
        help="Test-time augmentation: none, mirrored (image and mirror image) or ten (also rotated); "
        "default: as saved in the bundle."
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        help="CSV for standard deviation scores with the columns sex, chronological_age_months, and mean_months, "
        "sd_months or L, M, S, such as `boneage reference fit` writes (default: Brush Foundation table)."
    ),
]
CdcTable = Annotated[
    list[Path] | None, typer.Option(help="CDC's table of stature for age, as downloaded (default: no CDC score).")
]
WhoTables = Annotated[
    list[Path] | None,
    typer.Option(
        help="WHO's table of height for age, as downloaded; given twice, for boys and for girls (default: no WHO "
        "score)."
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(help="Bundle: a folder, models:/NAME@ALIAS, hf://OWNER/NAME (default: the packaged model)."),
]
SexBundle = Annotated[
    Path | None,
    typer.Option(
        help="Bundle that classifies sex: checks the recorded sex and fills in an unknown one (default for the "
        "packaged model: the packaged sex bundle)."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Number of worker processes (default: one per CPU core).", min=1)]
AgeUnit = Annotated[
    str | None,
    typer.Option(
        help="Unit of ages whose column does not state it (as bone_age_years does): months, years, or auto: years "
        "where all values of a column lie below 20 (default: months, but what may be years is refused)."
    ),
]
Table = Annotated[Path | None, typer.Option(help="CSV or spreadsheet with labels or sex, one row per radiograph.")]

# Columns of words in tables for the terminal, beside the first.
_WORDS = frozenset(
    {"Default", "Description", "Level", "Maturation", "Pace", "Second", "Sex", "System", "Title", "Type"}
)
# Of a table that is not cut off, in characters.
_WIDEST = 10_000


def read_preprocessing(
    segmenter: str | None,
    sam_model: str | None,
    sam_checkpoint: Path | None,
    settings: list[str] | None,
    *,
    where: str,
    like: str | None = None,
) -> "PreprocessingConfig":
    """Build the preprocessing from options and settings, or take that of the bundle `like`.

    Raises:
        ValueError: If they are no preprocessing, or contradict that of the bundle.
    """
    from boneage.configuration.build import build
    from boneage.preprocessing.config import PreprocessingConfig

    sam = {"sam_model": sam_model, "sam_checkpoint": sam_checkpoint and str(sam_checkpoint)}
    given = {name: value for name, value in sam.items() if value}
    options = {**({"segmenter": segmenter} if segmenter else {}), **given, **read_settings(settings)}
    if like is not None:
        from boneage.inference.loading import read_preprocessing as read_like

        config = read_like(like)
        _check_like(config, options, like=like, where=where)
        return config
    config = build(PreprocessingConfig, options, where=where)
    if given and config.segmenter != "sam":
        raise ValueError(
            f"--{next(iter(given)).replace('_', '-')} needs --segmenter sam. Received: {config.segmenter}."
        )
    return config


def _check_like(config: "PreprocessingConfig", options: dict[str, Any], *, like: str, where: str) -> None:
    """Check that options say nothing but what the preprocessing of a bundle says.

    Raises:
        ValueError: If one does.
    """
    from boneage.configuration.build import build
    from boneage.preprocessing.config import PreprocessingConfig

    own = dataclasses.asdict(config)
    merged = {**own, **options, "gate": {**own["gate"], **options.get("gate", {})}}
    wanted = dataclasses.asdict(build(PreprocessingConfig, merged, where=where))
    for key, value in {**{f"gate.{name}": value for name, value in wanted.pop("gate").items()}, **wanted}.items():
        table, _, name = key.rpartition(".")
        has = (own[table] if table else own)[name]
        if value != has:
            raise ValueError(f"--like {like} has {key}={has}. Received: {key}={value}; leave one of them out.")


def read_settings(settings: list[str] | None) -> dict[str, Any]:
    """Parse `--set` options; `gate.max_cut_score=0.05` goes into the table `gate`."""
    from boneage.configuration.build import parse_override

    values: dict[str, Any] = {}
    for key, value in map(parse_override, settings or []):
        *tables, name = key.split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
        target[name] = value
    return values


def make_table(title: str, headings: Sequence[str]) -> "RichTable":
    """Make a table for the terminal whose words are to the left and whose numbers are to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE_HEAD, show_edge=False, title_justify="left", padding=0, pad_edge=False)
    for number, heading in enumerate(headings):
        is_words = number == 0 or heading in _WORDS
        # Words may be long; a number that is cut off is another number.
        table.add_column(Text(heading), justify="left" if is_words else "right", overflow="fold", no_wrap=not is_words)
    return table


def add_row(table: "RichTable", *cells: str) -> None:
    """Add a row of plain text, which may be anything: names come from files."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


def print_table(table: "RichTable") -> None:
    """Print a table, beyond the width of the terminal rather than cut off; what is no terminal has no width."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    wide = console.options.update(width=_WIDEST)
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(
                Measurement.get(console, wide, cell).maximum for cell in (column.header, *column.cells)
            )
    needed = Measurement.get(console, wide, table)
    console.width = max(console.width, needed.minimum if console.is_terminal else needed.maximum)
    console.print(table)


def exit_unanswered(accepted: "pd.Series[bool]", *, what: str) -> None:
    """End with exit status 1 if no file has an answer."""
    if not accepted.any():
        typer.echo(f"boneage: no file has {what}; the reasons are listed above.", err=True)
        raise typer.Exit(1)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))
