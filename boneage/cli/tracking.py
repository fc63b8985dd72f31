"""The commands that show and compare training runs in MLflow, and send pending entries to it."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from boneage.cli.options import Json, TrackingUri, print_json, print_table


def ui(
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on localhost.", min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI with the training runs."""
    from boneage.registry.settings import resolve_uri
    from boneage.registry.store import find_experiment_page, is_server, redact_credentials

    uri = resolve_uri(tracking_uri)
    page = find_experiment_page(uri)
    if is_server(uri):
        typer.echo(f"MLflow already runs as a server: {redact_credentials(uri).rstrip('/')}/{page}")
        return
    typer.echo(
        f"MLflow on {redact_credentials(uri)}: http://127.0.0.1:{port}/{page} (starts in seconds; stop with Ctrl-C)"
    )
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(port)])  # noqa: S606 - no shell, and each word is one argument


def best(
    run: Annotated[str | None, typer.Argument(help="Run to promote: its id or a unique prefix.")] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Register the run, by default the best one, as models:/boneage@champion.")
    ] = False,
    metric: Annotated[str, typer.Option(help="val_mae, or val_error_share for sex classification.")] = "val_mae",
    digest: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Digest of the records (default: those of the newest finished run)."),
    ] = None,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
) -> None:
    """List training runs on the same records, best first; register one as the champion."""
    from boneage.tracking.registry import best as work
    from boneage.tracking.registry import leaderboard_table

    board = work(metric=metric, digest=digest, promote=promote, run=run, tracking_uri=tracking_uri)
    if as_json:
        print_json(
            {
                "metric": board.metric,
                "digest": board.digest,
                "runs": json.loads(board.runs.to_json(orient="records")),
                "others": board.others,
            }
        )
        return
    print_table(leaderboard_table(board))
    for other, count in board.others.items():
        typer.echo(f"on other records: {count:,} {'run' if count == 1 else 'runs'}, --digest {other}")


def sync(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    tracking_uri: TrackingUri = None,
) -> None:
    """Send pending tracking entries of run folders to MLflow, after an outage or to another store."""
    from boneage.tracking.sync import sync as work

    for folder, count in work(runs, tracking_uri=tracking_uri).items():
        typer.echo(f"{folder}: {count:,} entries sent" if count else f"{folder}: nothing to send")
