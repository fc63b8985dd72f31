"""The error of a rejected request, and small request bodies read within a limit."""

import math
from collections.abc import Collection
from urllib.parse import parse_qsl

from starlette.requests import Request

_MAX_FORM_BYTES, _MAX_FORM_FIELDS = 8192, 100


class RequestError(Exception):
    """Raised if a request is rejected; has an HTTP status and a one-line message."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def parse_number(text: str, *, name: str, low: float, high: float) -> float | None:
    """Parse a number of a form, with a decimal point or comma.

    Args:
        text: What was typed, blank if nothing was.
        name: The field, as errors begin.
        low: The lowest number allowed.
        high: The highest.

    Returns:
        The number; None if the text is blank.

    Raises:
        RequestError: If it is no number, or outside its limits.
    """
    if not text:
        return None
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # also rejects NaN
        raise RequestError(422, f"{name} must be a number from {low:g} to {high:g}. Received: {text[:40]!r}.")
    return number


async def read_form(request: Request, *, fields: Collection[str]) -> dict[str, str]:
    """Read a small form of text fields, `application/x-www-form-urlencoded`.

    Args:
        request: The request.
        fields: The names that it may have.

    Returns:
        What was typed, without blanks around it, by name.

    Raises:
        RequestError: If it is too large, is no such form, or has an unknown or a duplicate field.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RequestError(415, "send a form of type application/x-www-form-urlencoded.")
    body = await read_body(request, max_bytes=_MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise RequestError(400, "the form has too many fields.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in fields or name in found:
            raise RequestError(422, f"unknown or duplicate field. Received: {name[:40]!r}.")
        found[name] = value.strip()
    return found


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """Read a request body of limited size.

    Raises:
        RequestError: If it is larger than `max_bytes`.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise RequestError(413, f"request body too large: at most {max_bytes:,} bytes.")
    return body
