"""The command `boneage import`."""

from pathlib import Path
from typing import Annotated

import typer

from boneage.cli.options import Json, print_json


def import_(
    model: Annotated[Path, typer.Argument(help="ONNX file of a bone-age network, with its weights inside.")],
    spec: Annotated[
        Path, typer.Option(help="TOML file that says what its inputs and its output mean.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Import a network of others from an ONNX file and a specification, as a bundle; none of its code is run."""
    from boneage.bundles.import_model import DRAWN_MONTHS, import_model

    made = import_model(model, spec=spec, out=out)
    if as_json:
        described = {name: getattr(made.spec, name) for name in ("name", "licence", "source", "sha256")}
        print_json({"bundle": str(made.bundle), **described, "tried_months": made.tried_months})
        return
    typer.echo(f"{made.spec.name}: licence {made.spec.licence}, from {made.spec.source}")
    tried = ", ".join(f"{months:.1f} months as {sex}" for sex, months in made.tried_months.items())
    typer.echo(f"tried on a drawn hand of {DRAWN_MONTHS:.0f} months, which is no radiograph: {tried}")
    typer.echo("no prediction interval: `boneage calibrate` sets one from your own labels")
    typer.echo(f"bundle: {made.bundle}")
