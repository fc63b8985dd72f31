"""Access control and security headers of every request."""

import dataclasses
import hmac
import ipaddress
import logging
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boneage.base.errors import describe_error
from boneage.web.metrics import RequestMetrics
from boneage.web.sessions import Sessions

SESSION_COOKIE = "boneage_session"
MIN_TOKEN = 16
_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Paths that the login form needs, available without a token.
_OPEN_PATHS = ("/healthz", "/login", "/static/style.css", "/static/icon.svg")
# Referrers are sent to the same origin only; without any, browsers would omit the Origin header of a form too.
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
# RFC 9110 7.2 and RFC 6454 7: a host name or address with an optional port, after a scheme or the word null.
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._~-]+)?(:\d{0,5})?", re.IGNORECASE)
_ORIGIN = re.compile(rf"null|[a-z][a-z0-9+.-]*://(?P<host>{_HOST.pattern})", re.IGNORECASE)
_log = logging.getLogger("boneage.web")


def is_loopback(host: str) -> bool:
    """Whether a host name is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_access(host: str, token: str | None) -> None:
    """Check that a server reachable from other machines requires a token.

    Raises:
        ValueError: If it has no token, or the token is too short.
    """
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"--host {host} is reachable from other machines; set --token or $BONEAGE_TOKEN, or omit --host."
            )
    elif len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"--token must have at least {MIN_TOKEN} printable ASCII characters. Received: {len(token)}. Generate one: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )


@dataclasses.dataclass(frozen=True)
class Access:
    """Access control.

    Args:
        token: The secret; None if every local user has access.
        history: The sessions of logged-in users.
    """

    token: str | None = dataclasses.field(repr=False)
    history: Sessions

    def matches(self, given: str) -> bool:
        """Compare a secret with the token in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def denial_response(self, request: Request) -> Response | None:
        """Return the response to a denied request; None if it is allowed."""
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        host = _HOST.fullmatch(hosts[0] if hosts else "")
        origin = _ORIGIN.fullmatch(origins[0]) if origins else None
        if host is None or len(hosts) > 1 or len(origins) > 1 or (origins and origin is None):
            return JSONResponse({"detail": "malformed Host or Origin header."}, 400)
        if self.token is None and not is_loopback((host["name"] or "").strip("[]").rstrip(".").lower()):
            # DNS rebinding: another host name resolves to this machine, and its pages would be of the same origin.
            return JSONResponse({"detail": "use 127.0.0.1 or localhost as host name."}, 421)
        if request.method not in _SAFE_METHODS and not _is_same_origin(request, origin):
            return JSONResponse({"detail": "this request comes from another site."}, 403)
        if self.token is None or request.scope["path"] in _OPEN_PATHS:
            return None
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.matches(given.strip()):
            return None
        if self.history.is_authenticated(request.cookies.get(SESSION_COOKIE)):
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return JSONResponse(
            {"detail": "token required: Authorization: Bearer TOKEN."}, 401, {"WWW-Authenticate": "Bearer"}
        )


class SecurityMiddleware:
    """Middleware for access control, security headers, request metrics and internal errors.

    Args:
        app: The application.
        access: Access control.
        metrics: Request metrics, or None.
    """

    def __init__(self, app: ASGIApp, *, access: Access, metrics: RequestMetrics | None = None):
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
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
            response = self._access.denial_response(Request(scope))
            await (response or self._app)(scope, receive, send_guarded)
        except Exception as error:
            _log.error("request failed: %s", describe_error(error))
            if not status:
                failed = JSONResponse({"detail": "internal server error; see the server log."}, 500)
                await failed(scope, receive, send_guarded)
        finally:
            if self._metrics is not None:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                path = getattr(scope.get("route"), "path", "other")
                seconds = time.perf_counter() - began
                self._metrics.count_request(path=path, method=method, status=status, seconds=seconds)


def _is_same_origin(request: Request, origin: re.Match[str] | None) -> bool:
    """Whether a request comes from a page of this server, or from a program."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    if origin is None:
        # Browsers send the origin of a form; programs, which use the REST API, do not.
        return bool(request.scope["path"].startswith("/api/"))
    return (origin["host"] or "").lower() == request.headers.get("host", "").lower()
