"""The form for the token, and the session that stands for it."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from boneage.web.history import History
from boneage.web.render import render
from boneage.web.safety import SESSION_COOKIE, Access
from boneage.web.uploads import read_body

_MAX_LOGIN_BYTES = 4096


def session_of(request: Request, history: History) -> str | None:
    """Return the session that a request belongs to."""
    return history.find(request.cookies.get(SESSION_COOKIE))


def set_cookie(request: Request, response: Response, session: str) -> None:
    """Let a session's cookie go with an answer."""
    response.set_cookie(
        SESSION_COOKIE, session, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
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
        if not access.fits(parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()):
            return render("login.html", status=403, is_wrong=True)
        # A session that was there before the token could be known to someone else.
        if session := session_of(request, history):
            history.forget(session)
        response = RedirectResponse("/", 303)
        set_cookie(request, response, history.open(is_known=True))
        return response

    return router
