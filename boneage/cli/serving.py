"""The commands `boneage serve` and `boneage review`."""

import contextlib
import importlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boneage.base.errors import BoneAgeError
from boneage.cli.options import BundleOption, CdcTable, Reference, SexBundle, WhoTables

if TYPE_CHECKING:
    from fastapi import FastAPI

    from boneage.inference.reader import Reader

# Modules installed by the extra `serve`.
SERVE_MODULES = ("fastapi", "jinja2", "prometheus_client", "python_multipart", "uvicorn")

Host = Annotated[str, typer.Option(help="Address to listen on; any address other than localhost requires --token.")]
Port = Annotated[int, typer.Option(help="Port (0: any free port).", min=0, max=65535)]
Token = Annotated[
    str | None,
    typer.Option(
        help="Secret required with every request, as Authorization: Bearer or on the login page.",
        envvar="BONEAGE_TOKEN",
        show_envvar=True,
    ),
]


class ServeError(BoneAgeError):
    """Raised if the server cannot listen on an address, or its options contradict each other."""


def serve(
    bundle: BundleOption = None,
    sex_bundle: SexBundle = None,
    reference: Reference = None,
    tables: Annotated[
        Path | None,
        typer.Option(help="Tables of Bayley and Pinneau, as in `boneage height` (default: no adult height)."),
    ] = None,
    cdc: CdcTable = None,
    who: WhoTables = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    save_readings: Annotated[
        Path | None, typer.Option(help="Folder for anonymous crops and readings (default: nothing is stored).")
    ] = None,
    max_upload_mb: Annotated[
        int, typer.Option(help="Maximum size of one request or watched file, in MB.", min=1, max=1000)
    ] = 100,
    watch: Annotated[
        Path | None, typer.Option(help="Folder to watch: new files are read, results go to --out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the structured reports, captures, FHIR and readings.csv of --watch."),
    ] = None,
    store_scp: Annotated[
        int | None,
        typer.Option(
            help="Port of a local DICOM storage node (C-STORE); received files are read like those of --watch "
            "(0: any free port).",
            min=0,
            max=65535,
        ),
    ] = None,
) -> None:
    """Serve a web page and a REST API that read bone age, on localhost by default."""
    _check_installed()
    from boneage.inference.loading import load
    from boneage.serve.app import create_app
    from boneage.serve.uploads import UploadLimits
    from boneage.studies.child_height import load_height_tables
    from boneage.web.safety import check_access

    check_access(host, token)
    if (watch is None) != (out is None) or (watch is None and store_scp is not None):
        raise ServeError("--watch requires --out, --out requires --watch, and --store-scp requires both.")
    max_bytes = max_upload_mb * 2**20
    with contextlib.ExitStack() as stack:
        _lock_folders(stack, {"--save-readings": save_readings, "--out": out}, watch=watch)
        reader = load(bundle, sex_bundle=sex_bundle, reference=reference)
        heights = load_height_tables(tables, cdc=cdc or (), who=who or ())
        limits = UploadLimits(max_bytes=max_bytes)
        app = create_app(reader, token=token, save_readings=save_readings, limits=limits, heights=heights)
        listener = stack.enter_context(_open(host, port, title="boneage"))
        if watch is not None and out is not None:
            received = stack.enter_context(_watch(watch, out=out, reader=reader, max_bytes=max_bytes))
            typer.echo(f"watching {watch}; results go to {out}")
            if store_scp is not None:
                from boneage.serve.receive import AE_TITLE, receive

                taken = stack.enter_context(receive(received, port=store_scp, max_bytes=max_bytes))
                typer.echo(f"DICOM storage node {AE_TITLE} listens on 127.0.0.1:{taken}")
        _run(app, listener)


def review(
    records: Annotated[Path, typer.Argument(help="Record folder written by `boneage prepare`.")],
    source: Annotated[
        Path, typer.Option(help="Source of the records: the folder given to `boneage prepare`.", show_default=False)
    ],
    decisions: Annotated[
        Path, typer.Option(help="CSV to write, for `boneage prepare --decisions`; corrected masks are saved beside it.")
    ] = Path("decisions.csv"),
    reviewer: Annotated[
        str, typer.Option(help="Reviewer name; with several reviewers each has their own CSV, decisions.NAME.csv.")
    ] = "",
    host: Host = "127.0.0.1",
    port: Port = 8001,
    token: Token = None,
) -> None:
    """Serve a web page to review prepared radiographs: keep, reject, rotate, flip, and correct masks with clicks."""
    _check_installed()
    from boneage.base.locks import lock_output
    from boneage.base.spreadsheets import check_csv_name
    from boneage.review.app import create_review
    from boneage.review.decisions import Decisions, decisions_path
    from boneage.review.desk import Desk
    from boneage.web.safety import check_access

    check_access(host, token)
    check_csv_name("decisions", decisions)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_output(decisions_path(decisions, reviewer)))
        desk = Desk(records, source=source)
        taken = Decisions(decisions, reviewer=reviewer, ids={tile.id for tile in desk.tiles})
        typer.echo(f"{len(desk.tiles):,} radiographs, {len(taken):,} decided; decisions are written to {taken.path}")
        listener = stack.enter_context(_open(host, port, title="boneage review"))
        _run(create_review(desk, taken, token=token), listener)


def _lock_folders(stack: contextlib.ExitStack, outputs: dict[str, Path | None], *, watch: Path | None) -> None:
    """Lock the folders of a server until the stack ends.

    Raises:
        BoneAgeError: If a folder cannot be written to, or another process uses it.
    """
    from boneage.base.files import check_output
    from boneage.base.locks import lock_folder, lock_watched

    if watch is not None:
        try:
            check_output(watch, is_folder=True)
        except OSError as error:
            raise ServeError(f"{watch}: {error.strerror}; choose another folder with --watch.") from error
    for option, folder in outputs.items():
        if folder is not None:
            try:
                stack.enter_context(lock_folder(folder, mode=0o700))
            except OSError as error:
                raise ServeError(
                    f"{folder}: {error.strerror or error}; choose another folder with {option}."
                ) from error
    if watch is not None:
        with contextlib.suppress(OSError):  # a folder that can only be read; `Watch` tells what is wrong with others
            stack.enter_context(lock_watched(watch))


def _check_installed() -> None:
    for name in SERVE_MODULES:
        importlib.import_module(name)


@contextlib.contextmanager
def _open(host: str, port: int, *, title: str) -> Iterator[socket.socket]:
    """Open the port and print the address."""
    from boneage.web.safety import is_loopback

    with contextlib.closing(_listen(host, port)) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"{title} on http://{shown}:{bound} (research use, not a medical device; stop with Ctrl-C)")
        if not is_loopback(host):
            typer.echo(
                "reachable from other machines: put a TLS proxy in front of it, or the token is sent unencrypted"
            )
        yield listener


def _run(app: "FastAPI", listener: socket.socket) -> None:
    """Serve an application until it is stopped."""
    from boneage.web.connections import make_server

    make_server(app).run(sockets=[listener])


@contextlib.contextmanager
def _watch(folder: Path, *, out: Path, reader: "Reader", max_bytes: int) -> Iterator[Path]:
    """Watch a folder in a thread until the context ends; a file that is being read then is finished.

    Yields:
        The folder for files received by a storage node.
    """
    from boneage.serve.watch import Watch

    watch, stop = Watch(folder, out=out, reader=reader, max_bytes=max_bytes), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch")
    thread.start()
    try:
        yield watch.received
    finally:
        stop.set()
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    """Open the port before the application starts, so that a wrong address fails first.

    Raises:
        ServeError: If it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # Python appends what it tried, in parentheses.
        reason = str(error.strerror).partition(" (")[0]
        raise ServeError(f"{host}:{port}: {reason}; choose another --host or --port.") from error
