"""Parse upload forms in memory and within limits: no radiograph is written to disk."""

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from boneage.base.sex import UnknownSexError, parse_sex
from boneage.serve.ages import AgeForm
from boneage.serve.readings import Upload
from boneage.web.requests import RequestError

UNKNOWN_SEX = "unknown"
_MAX_NAME = 120
_MAX_FIELD_BYTES = 1024
_MAX_FIELDS = 10
# Value of the Retry-After header, in seconds.
RETRY_SECONDS = "10"


@dataclasses.dataclass(frozen=True)
class UploadLimits:
    """Limits of one request.

    Args:
        max_bytes: Maximum size of the body, in bytes.
        max_files: Maximum number of files.
    """

    max_bytes: int
    max_files: int = 50


class MemoryBudget:
    """Memory shared by all concurrent requests.

    Args:
        max_bytes: Maximum total, in bytes.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes, self._num_bytes = max_bytes, 0

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves bytes until the request ends.

        The function raises RequestError if the budget is exhausted.
        """
        held = 0

        def take(num_bytes: int) -> None:
            nonlocal held
            if self._num_bytes + num_bytes > self._max_bytes:
                raise RequestError(
                    503,
                    "server busy; try again later.",
                    headers={"Retry-After": RETRY_SECONDS},
                )
            self._num_bytes += num_bytes
            held += num_bytes

        try:
            yield take
        finally:
            self._num_bytes -= held


class _InMemory(MultiPartParser):
    """Keeps every file in memory; the limit of the body holds for all files together."""

    spool_max_size = 2**62


async def read_uploads(
    request: Request,
    *,
    limits: UploadLimits,
    take: Callable[[int], None],
    until: float,
    age_form: AgeForm,
) -> list[Upload]:
    """Read the files of a form, with their common sex and chronological age.

    Args:
        request: The request.
        limits: Limits of the request.
        take: Called with the number of bytes received; the function of `MemoryBudget.reserve`.
        until: Deadline of the upload on the monotonic clock.
        age_form: The fields with the chronological age.

    Raises:
        RequestError: If the form is invalid or exceeds a limit.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(415, "send a form of type multipart/form-data, with `files` and `sex`.")
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > limits.max_bytes:
        raise _too_large(limits)
    parser = _InMemory(
        request.headers,
        _count(request, limits, take=take),
        max_files=limits.max_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            form = await parser.parse()
    except TimeoutError:
        raise RequestError(408, "the upload took too long; send fewer files at once.") from None
    except (MultiPartException, FormParserError) as error:  # Starlette lets the parser's own pass at the end of a body.
        if "Too many files" in str(error):
            raise RequestError(413, f"at most {limits.max_files} files at once; send the rest after them.") from None
        raise RequestError(400, "the form cannot be read; send it as multipart/form-data.") from None
    except ClientDisconnect:
        raise RequestError(400, "the upload was interrupted.") from None
    try:
        files, fields = await _sort(form, age_form=age_form)
    finally:
        await form.close()
    sex, age_months = parse_given_sex(fields.get("sex", "")), age_form.parse(fields)
    return [Upload(name, data, sex, age_months) for name, data in files]


async def _sort(form: FormData, *, age_form: AgeForm) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Separate the files of a form, as name and content, from its other fields."""
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "files":
                raise RequestError(422, f"files must be in the field `files`. Received: {_show(name)}.")
            data = await value.read()
            if value.filename or data:  # a form without a chosen file sends an empty one without a name
                files.append((clean_name(value.filename or ""), data))
        elif name == "files":
            raise RequestError(422, "`files` must contain files with names.")
        elif name not in ("sex", *age_form.fields):
            valid = ", ".join(f"`{field}`" for field in ("files", "sex", *age_form.fields))
            raise RequestError(422, f"valid fields are {valid}. Received: {_show(name)}.")
        elif name in fields:
            raise RequestError(422, f"duplicate field `{name}`; it applies to all files of a request.")
        else:
            fields[name] = value.strip()
    if not files:
        raise RequestError(422, "no file received; send at least one in the field `files`.")
    return files, fields


async def _count(request: Request, limits: UploadLimits, *, take: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """Pass the body on, and stop if it exceeds the limit, independent of its Content-Length."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.max_bytes:
            raise _too_large(limits)
        take(len(chunk))
        yield chunk


def _too_large(limits: UploadLimits) -> RequestError:
    most = limits.max_bytes / 2**20
    return RequestError(
        413, f"more than {most:g} MB at once; send fewer files, or start the server with a larger --max-upload-mb."
    )


def parse_given_sex(value: str) -> str | None:
    """Parse the sex of a form.

    Raises:
        RequestError: If it is not understood.
    """
    try:
        return parse_sex(value)
    except UnknownSexError:
        raise RequestError(422, f"`sex` must be female, male or unknown. Received: {_show(value)}.") from None


def clean_name(name: str) -> str:
    """Return the base name of a file without unprintable characters, cut to a maximum length."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(character for character in last if character.isprintable()).strip()
    return kept if len(kept) <= _MAX_NAME else f"{kept[: _MAX_NAME - 12]}...{kept[-9:]}"


def _show(value: str) -> str:
    return repr(value[:40])
