"""What every request meets first: whose it is, where it comes from, and what no answer may lack."""

import dataclasses
import hmac
import ipaddress
import logging
import time
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boneage.web.history import History
from boneage.web.metrics import Metrics
from boneage.web.readings import name_error

SESSION_COOKIE = "boneage_session"
MIN_TOKEN = 16
_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What the login form needs before there is a token.
_OPEN_PATHS = ("/healthz", "/login", "/static/style.css", "/static/icon.svg")
# Referrers go to the same origin alone; with none at all, browsers would not name the origin of a form either.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_log = logging.getLogger("boneage.web")


def is_loopback(host: str) -> bool:
    """Tell whether a host name is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_access(host: str, token: str | None) -> None:
    """Check that a server which others can reach asks for a token.

    Raises:
        ValueError: If it does not, or the token is too easily guessed.
    """
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"--host {host} can be reached from other machines; give a secret by --token or in $BONEAGE_TOKEN, "
                "or leave --host out."
            )
    elif len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"--token must have at least {MIN_TOKEN} printable ASCII characters. Received: {len(token)}. Make one by: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may ask.

    Args:
        token: The secret; None where everyone on this machine may.
        history: The sessions, whose cookies stand for a token that was given.
    """

    token: str | None = dataclasses.field(repr=False)
    history: History

    def fits(self, given: str) -> bool:
        """Compare a secret with the token, in a time that tells nothing."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def refuse(self, request: Request) -> Response | None:
        """Return the answer to a request that may not go on; None where it may."""
        if self.token is None and not is_loopback(_host_name(request)):
            # Another site's name that was made to lead here: its pages would be of the same origin as ours.
            return JSONResponse({"detail": "ask for 127.0.0.1 or localhost."}, 421)
        if request.method not in _SAFE_METHODS and not _is_same_origin(request):
            return JSONResponse({"detail": "this request comes from another site."}, 403)
        if self.token is None or request.url.path in _OPEN_PATHS:
            return None
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.fits(given.strip()):
            return None
        if self.history.is_known(request.cookies.get(SESSION_COOKIE)):
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return JSONResponse(
            {"detail": "give the token: Authorization: Bearer TOKEN."}, 401, {"WWW-Authenticate": "Bearer"}
        )


class Shield:
    """Middleware: access, headers, counts, and no traceback for anyone.

    Args:
        app: What answers.
        access: Who may ask.
        metrics: Where requests are counted, if they are.
    """

    def __init__(self, app: ASGIApp, *, access: Access, metrics: Metrics | None = None):
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            response = self._access.refuse(Request(scope))
            await (response or self._app)(scope, receive, send_guarded)
        except Exception as error:
            _log.error("a request failed: %s", name_error(error))
            if not status:
                failed = JSONResponse({"detail": "this failed, for a reason that is in the server's log."}, 500)
                await failed(scope, receive, send_guarded)
        finally:
            if self._metrics is not None:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                path = getattr(scope.get("route"), "path", "other")
                seconds = time.perf_counter() - began
                self._metrics.count_request(path=path, method=method, status=status, seconds=seconds)


def _host_name(request: Request) -> str:
    return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").rstrip(".")


def _is_same_origin(request: Request) -> bool:
    """Tell whether a request comes from our own page, or from no page at all, as those of programs do."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    if origin is None:
        # A browser names the origin of a form; only programs, which use the interface for them, do not.
        return request.url.path.startswith("/api/")
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
