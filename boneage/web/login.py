"""The login form, and the session of a logged-in user."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from boneage.web.render import render
from boneage.web.requests import read_body
from boneage.web.safety import SESSION_COOKIE, Access
from boneage.web.sessions import Sessions

_MAX_LOGIN_BYTES = 4096


def find_session(request: Request, history: Sessions) -> str | None:
    """Return the session that a request belongs to."""
    return history.find(request.cookies.get(SESSION_COOKIE))


def set_cookie(request: Request, response: Response, session: str) -> None:
    """Set the cookie of a session on a response."""
    response.set_cookie(
        SESSION_COOKIE, session, httponly=True, samesite="strict", secure=request.scope["scheme"] == "https", path="/"
    )


def make_router(access: Access) -> APIRouter:
    """Make the routes of the login."""
    router = APIRouter(include_in_schema=False)
    history = access.history

    @router.get("/login")
    async def show_login() -> Response:
        return render("login.html", is_wrong=False)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        body = await read_body(request, max_bytes=_MAX_LOGIN_BYTES)
        if not access.matches(parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()):
            return render("login.html", status=403, is_wrong=True)
        # A session from before the login could be known to someone else (session fixation).
        if session := find_session(request, history):
            history.forget(session)
        response = RedirectResponse("/", 303)
        set_cookie(request, response, history.open(is_authenticated=True))
        return response

    return router
