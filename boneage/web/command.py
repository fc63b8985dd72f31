"""The command `boneage serve`."""

import contextlib
import importlib
import socket
from pathlib import Path
from typing import Annotated

import typer

from boneage.options import Reference
from tfrecords.errors import BoneAgeError

# What the extra `serve` installs.
NEEDED = ("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn")


class ServeError(BoneAgeError):
    """An address that cannot be served on."""


def serve(
    bundle: Annotated[Path | None, typer.Option(help="Bundle that answers; the packaged one without it.")] = None,
    sex_bundle: Annotated[
        Path | None, typer.Option(help="Bundle that tells the sex, to warn where the recorded one looks wrong.")
    ] = None,
    reference: Reference = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            help="Secret that every request must give, as Authorization: Bearer or on the login page.",
            envvar="BONEAGE_TOKEN",
            show_envvar=True,
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder to keep crops and readings in, without names; nothing is kept else.")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(help="Most megabytes of one request.", min=1, max=1000)] = 100,
) -> None:
    """Serve a page and a REST interface that read bone age, on this machine alone unless told otherwise."""
    for name in NEEDED:
        importlib.import_module(name)
    import uvicorn

    from boneage.reader import load_reader
    from boneage.web.app import create_app
    from boneage.web.safety import check_access, is_loopback
    from boneage.web.uploads import Bounds

    check_access(host, token)
    reader = load_reader(bundle, sex_bundle=sex_bundle, reference=reference)
    app = create_app(reader, token=token, store=store, bounds=Bounds(max_bytes=max_upload_mb * 2**20))
    with contextlib.closing(_listen(host, port)) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"boneage serves on http://{shown}:{bound} (research use, not a medical device; Ctrl-C ends it)")
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
