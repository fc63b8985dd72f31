"""The command `boneage publish`."""

import dataclasses
from typing import Annotated

import typer

from boneage.cli.options import Json, print_json


def publish(
    bundle: Annotated[str, typer.Argument(help="Bundle to publish, or 'default' for the packaged model.")],
    to: Annotated[str, typer.Argument(metavar="hf://OWNER/NAME", help="Repository on the hub; created if missing.")],
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of the weights, such as CC-BY-NC-4.0 (default: what the bundle states)."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another bundle in the repository.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a bundle on the Hugging Face hub, with a model card; the token in HF_TOKEN must allow it."""
    from boneage.tracking.publish import publish as run

    made = run(bundle, to, licence=licence, private=private, replace=replace)
    if as_json:
        print_json(dataclasses.asdict(made))
        return
    typer.echo(f"licence of the weights: {made.licence}")
    if not made.is_trainable:
        typer.echo("without weights to train from: the network cannot be built from them alone")
    typer.echo(f"{'published' if made.is_new else 'is there already'}: {made.name}")
    typer.echo(f"page: {made.page}")
