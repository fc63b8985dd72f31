"""The commands that look at training runs in MLflow, compare them, and send it what it lacks."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from boneage.options import Json, TrackingUri, print_json


def ui(
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow on the runs that `boneage train` tracked."""
    from boneage.mlflow_store import find_experiment_page, hide_password, is_server
    from boneage.tracking import resolve_uri

    uri = resolve_uri(tracking_uri)
    page = find_experiment_page(uri)
    if is_server(uri):
        typer.echo(f"MLflow is a server already: {hide_password(uri).rstrip('/')}/{page}")
        return
    typer.echo(
        f"MLflow on {hide_password(uri)}: http://127.0.0.1:{port}/{page} (takes a while to answer; Ctrl-C ends it)"
    )
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(port)])  # noqa: S606 - no shell, every word is ours or an argument of its own


def best(
    run: Annotated[str | None, typer.Argument(help="Run to promote, by its id or how that begins.")] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Register the run, or the best one, as models:/boneage@champion.")
    ] = False,
    metric: Annotated[str, typer.Option(help="val_mae, or val_error_share of networks that tell the sex.")] = "val_mae",
    data: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Records of the runs; those of the newest run without it.")
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """Compare training runs on the same records, best first; promote one for other commands to use."""
    import rich

    from boneage.leaderboard import best as work
    from boneage.leaderboard import tabulate

    board = work(metric=metric, data=data, promote=promote, run=run, tracking_uri=tracking_uri)
    if as_json:
        print_json(
            {"metric": board.metric, "data": board.data, "runs": json.loads(board.runs.to_json(orient="records"))}
        )
        return
    rich.print(tabulate(board))


def sync(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    tracking_uri: TrackingUri = None,
) -> None:
    """Send MLflow what it has not been sent of training runs, because the store was down or is another one."""
    from boneage.delivery import sync as work

    for folder, count in work(runs, tracking_uri=tracking_uri).items():
        typer.echo(f"{folder}: {count:,} entries sent" if count else f"{folder}: nothing to send")
