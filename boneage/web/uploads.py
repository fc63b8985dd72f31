"""The form of an upload, read in memory and within bounds: nothing of a radiograph touches the disk."""

import asyncio
import contextlib
import dataclasses
import math
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from boneage.web.readings import Upload
from tfrecords.schema import SEXES

UNKNOWN_SEX = "unknown"
MAX_AGE_MONTHS = 300.0
_MAX_NAME = 120
_MAX_FIELD_BYTES = 1024
_MAX_FIELDS = 10
# When whoever is turned away may come again.
RETRY_SECONDS = "10"


class BadRequest(Exception):
    """A request that is not answered, with its status and one line that says why."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much one request may bring.

    Args:
        max_bytes: Bytes of the whole body.
        max_files: Files.
    """

    max_bytes: int
    max_files: int = 50


class Room:
    """The bytes that all requests of the moment may hold in memory together.

    Args:
        max_bytes: How many.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes, self._num_bytes = max_bytes, 0

    @contextlib.contextmanager
    def enter(self) -> Iterator[Callable[[int], None]]:
        """Let a request in, and give a function that takes bytes, which are given back when the request ends.

        It raises BadRequest where there is no room for them.
        """
        held = 0

        def take(num_bytes: int) -> None:
            nonlocal held
            if self._num_bytes + num_bytes > self._max_bytes:
                raise BadRequest(
                    503,
                    "too much is being uploaded at the moment; try again in a while.",
                    headers={"Retry-After": RETRY_SECONDS},
                )
            self._num_bytes += num_bytes
            held += num_bytes

        try:
            yield take
        finally:
            self._num_bytes -= held


class _InMemory(MultiPartParser):
    """Keeps every file in memory, whose bounds are those of the whole body."""

    spool_max_size = 2**62


async def read_uploads(
    request: Request,
    *,
    bounds: Bounds,
    take: Callable[[int], None],
    until: float,
    age_field: str,
    age_unit_months: float,
) -> list[Upload]:
    """Read the files of a form, with the sex and the chronological age that hold for all of them.

    Args:
        request: The request.
        bounds: How much it may bring.
        take: Called with the number of bytes that have come, as `Room.enter` gives it.
        until: Moment on the monotonic clock by which all of it must be here.
        age_field: Name of the field with the chronological age.
        age_unit_months: Months in the unit of that field.

    Raises:
        BadRequest: If it is no such form, or more than the bounds allow.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest(415, "send a form of type multipart/form-data, with `files` and `sex`.")
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > bounds.max_bytes:
        raise _too_large(bounds)
    parser = _InMemory(
        request.headers,
        _count(request, bounds, take=take),
        max_files=bounds.max_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            form = await parser.parse()
    except TimeoutError:
        raise BadRequest(408, "the upload took too long; send fewer files at once.") from None
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise BadRequest(413, f"at most {bounds.max_files} files at once; send the rest after them.") from None
        raise BadRequest(400, "the form cannot be read; send it as multipart/form-data.") from None
    except ClientDisconnect:
        raise BadRequest(400, "the upload was broken off.") from None
    try:
        files, fields = await _sort(form, age_field=age_field)
    finally:
        await form.close()
    sex = _sex(fields.get("sex", ""))
    age_months = _age_months(fields.get(age_field, ""), field=age_field, unit_months=age_unit_months)
    return [Upload(name, data, sex, age_months) for name, data in files]


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read a body that ought to be small.

    Raises:
        BadRequest: If it is not.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise BadRequest(413, f"at most {max_bytes:,} bytes may be sent here.")
    return body


async def _sort(form: FormData, *, age_field: str) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Tell the files of a form, by name and content, from its fields."""
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "files":
                raise BadRequest(422, f"files belong into the field `files`. Received: {_show(name)}.")
            data = await value.read()
            if value.filename or data:  # a form without a chosen file sends an empty one without a name
                files.append((clean_name(value.filename or ""), data))
        elif name == "files":
            raise BadRequest(422, "`files` must hold files, each sent with its name.")
        elif name not in ("sex", age_field):
            raise BadRequest(422, f"the fields are `files`, `sex` and `{age_field}`. Received: {_show(name)}.")
        elif name in fields:
            raise BadRequest(422, f"`{name}` was sent twice; it holds for all files of a request.")
        else:
            fields[name] = value.strip()
    if not files:
        raise BadRequest(422, "no file was sent; put at least one into the field `files`.")
    return files, fields


async def _count(request: Request, bounds: Bounds, *, take: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """Pass the body on, and stop where it is longer than it may be, whatever its header claimed."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > bounds.max_bytes:
            raise _too_large(bounds)
        take(len(chunk))
        yield chunk


def _too_large(bounds: Bounds) -> BadRequest:
    most = bounds.max_bytes / 2**20
    return BadRequest(413, f"more than {most:g} MB at once; send fewer files, or start with a larger --max-upload-mb.")


def _sex(value: str) -> str | None:
    if value in ("", UNKNOWN_SEX):
        return None
    if value not in SEXES:
        raise BadRequest(422, f"`sex` must be female, male or unknown. Received: {_show(value)}.")
    return value


def _age_months(value: str, *, field: str, unit_months: float) -> float | None:
    if not value:
        return None
    try:
        months = float(value.replace(",", ".")) * unit_months
    except ValueError:
        months = math.nan
    if not 0 <= months <= MAX_AGE_MONTHS:  # not so for NaN either
        most = MAX_AGE_MONTHS / unit_months
        raise BadRequest(422, f"`{field}` must be a number from 0 to {most:g}. Received: {_show(value)}.")
    return round(months, 2)


def clean_name(name: str) -> str:
    """Return the last part of a file name, without what no name should hold, and cut to a length."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(each for each in last if each.isprintable()).strip()
    return kept if len(kept) <= _MAX_NAME else f"{kept[: _MAX_NAME - 12]}...{kept[-9:]}"


def _show(value: str) -> str:
    return repr(value[:40])
