"""The commands `boneage serve` and `boneage review`."""

import contextlib
import importlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.options import Reference
from tfrecords.errors import BoneAgeError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from boneage.reader import Reader

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
        Path | None,
        typer.Option(help="Bundle that tells the sex, to warn and to fill in; the packaged bundle has its own."),
    ] = None,
    reference: Reference = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder to keep crops and readings in, without names; nothing is kept else.")
    ] = None,
    max_upload_mb: Annotated[
        int, typer.Option(help="Most megabytes of one request, and of one watched file.", min=1, max=1000)
    ] = 100,
    watch: Annotated[
        Path | None, typer.Option(help="Folder to read what appears in it; what comes of it goes to --out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the structured reports, captures, FHIR and readings.csv of --watch."),
    ] = None,
    store_scp: Annotated[
        int | None,
        typer.Option(
            help="Port on which DICOM nodes of this machine may store what is read beside --watch; 0 takes a free one.",
            min=0,
            max=65535,
        ),
    ] = None,
) -> None:
    """Serve a page and a REST interface that read bone age, on this machine alone unless told otherwise."""
    _check_installed()
    from boneage.reader import load_reader
    from boneage.web.app import create_app
    from boneage.web.safety import check_access
    from boneage.web.uploads import Bounds

    check_access(host, token)
    if (watch is None) != (out is None) or (watch is None and store_scp is not None):
        raise ServeError("--watch and --out go together, and --store-scp with them; give the one that is missing.")
    reader = load_reader(bundle, sex_bundle=sex_bundle, reference=reference)
    max_bytes = max_upload_mb * 2**20
    app = create_app(reader, token=token, store=store, bounds=Bounds(max_bytes=max_bytes))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_open(host, port, title="boneage serves"))
        if watch is not None and out is not None:
            received = stack.enter_context(_watch(watch, out=out, reader=reader, max_bytes=max_bytes))
            typer.echo(f"what appears in {watch} is read into {out}")
            if store_scp is not None:
                from boneage.web.receive import AE_TITLE, receive

                taken = stack.enter_context(receive(received, port=store_scp, max_bytes=max_bytes))
                typer.echo(f"DICOM nodes of this machine may store to {AE_TITLE} at 127.0.0.1:{taken}")
        _run(app, listener)


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
    with _open(host, port, title="boneage reviews") as listener:
        _run(create_review(desk, taken, token=token), listener)


def _check_installed() -> None:
    for name in NEEDED:
        importlib.import_module(name)


@contextlib.contextmanager
def _open(host: str, port: int, *, title: str) -> Iterator[socket.socket]:
    """Open the port, and tell where it is."""
    from boneage.web.safety import is_loopback

    with contextlib.closing(_listen(host, port)) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"{title} on http://{shown}:{bound} (research use, not a medical device; Ctrl-C ends it)")
        if not is_loopback(host):
            typer.echo("others can reach it: put a proxy with TLS before it, or the token travels in the clear")
        yield listener


def _run(app: "FastAPI", listener: socket.socket) -> None:
    """Serve an application until it is told to end."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, limit_concurrency=200, ws="none"
    )
    uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _watch(folder: Path, *, out: Path, reader: "Reader", max_bytes: int) -> Iterator[Path]:
    """Watch a folder beside the page, until the context ends; the file that is being read then is finished.

    Returns:
        Where a storage node may put what it receives.
    """
    from boneage.web.watch import Watch

    watch, stop = Watch(folder, out=out, reader=reader, max_bytes=max_bytes), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch")
    thread.start()
    try:
        yield watch.received
    finally:
        stop.set()
        thread.join()


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
