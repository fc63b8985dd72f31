"""The error of a rejected request, and small request bodies read within a limit."""

from starlette.requests import Request


class RequestError(Exception):
    """Raised if a request is rejected; has an HTTP status and a one-line message."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


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
