"""The commands `boneage serve` and `boneage review`."""

import contextlib
import importlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfrecords.errors import BoneAgeError

if TYPE_CHECKING:
    from fastapi import FastAPI

# What the extra `serve` installs.
NEEDED = ("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn")

Host = Annotated[str, typer.Option(help="Address to listen on; another than this machine's needs --token.")]
Port = Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)]
Token = Annotated[
    str | None,
    typer.Option(
        help="Secret that every request must give, as Authorization: Bearer or on the login page.",
        envvar="BONEAGE_TOKEN",
        show_envvar=True,
    ),
]


class ServeError(BoneAgeError):
    """An address that cannot be served on."""


def serve(
    bundle: Annotated[Path | None, typer.Option(help="Bundle that answers; the packaged one without it.")] = None,
    sex_bundle: Annotated[
        Path | None, typer.Option(help="Bundle that tells the sex, to warn where the recorded one looks wrong.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder to keep crops and readings in, without names; nothing is kept else.")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(help="Most megabytes of one request.", min=1, max=1000)] = 100,
) -> None:
    """Serve a page and a REST interface that read bone age, on this machine alone unless told otherwise."""
    _check_installed()
    from boneage.reader import load_reader
    from boneage.web.app import create_app
    from boneage.web.safety import check_access
    from boneage.web.uploads import Bounds

    check_access(host, token)
    reader = load_reader(bundle, sex_bundle=sex_bundle)
    app = create_app(reader, token=token, store=store, bounds=Bounds(max_bytes=max_upload_mb * 2**20))
    _run(app, host=host, port=port, title="boneage serves")


def review(
    records: Annotated[Path, typer.Argument(help="Record folder that `boneage prepare` made.")],
    source: Annotated[Path, typer.Option(help="What the records were prepared from.", show_default=False)],
    decisions: Annotated[
        Path, typer.Option(help="CSV to write, for `boneage prepare --review`; masks that are drawn lie beside it.")
    ] = Path("decisions.csv"),
    reviewer: Annotated[
        str, typer.Option(help="Name, where several review: each has a CSV of his own, decisions.NAME.csv.")
    ] = "",
    host: Host = "127.0.0.1",
    port: Port = 8001,
    token: Token = None,
) -> None:
    """Serve a page to look through prepared radiographs: keep, reject, rotate, flip, and correct masks by clicks."""
    _check_installed()
    from boneage.web.decisions import Decisions
    from boneage.web.desk import Desk
    from boneage.web.review import create_review
    from boneage.web.safety import check_access

    check_access(host, token)
    desk = Desk(records, source=source)
    taken = Decisions(decisions, reviewer=reviewer, ids={tile.id for tile in desk.tiles})
    typer.echo(f"{len(desk.tiles):,} radiographs, {len(taken):,} decided; decisions go into {taken.path}")
    _run(create_review(desk, taken, token=token), host=host, port=port, title="boneage reviews")


def _check_installed() -> None:
    for name in NEEDED:
        importlib.import_module(name)


def _run(app: "FastAPI", *, host: str, port: int, title: str) -> None:
    """Serve an application until it is told to end."""
    import uvicorn

    from boneage.web.safety import is_loopback

    with contextlib.closing(_listen(host, port)) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"{title} on http://{shown}:{bound} (research use, not a medical device; Ctrl-C ends it)")
        if not is_loopback(host):
            typer.echo("others can reach it: put a proxy with TLS before it, or the token travels in the clear")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=200, ws="none"
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Open the port, so that an address of no use is told before anything else.

    Raises:
        ServeError: If it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServeError(f"{host}:{port}: {error.strerror}; choose another --host or --port.") from error
