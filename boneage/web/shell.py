"""What every application of this package has around its pages: the shield, the login, static files, told problems."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from boneage.web import login
from boneage.web.metrics import Metrics
from boneage.web.render import render
from boneage.web.safety import Access, Shield
from boneage.web.uploads import BadRequest

_STATIC = Path(__file__).parent / "static"


def enclose(app: FastAPI, *, access: Access, metrics: Metrics | None = None) -> None:
    """Put the shell around an application.

    Args:
        app: The application, with its pages.
        access: Who may ask.
        metrics: Where requests are counted, if they are.
    """
    app.add_middleware(Shield, access=access, metrics=metrics)
    app.include_router(login.make_router(access))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    @app.get("/healthz", summary="Whether the server lives")
    async def tell_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.exception_handler(BadRequest)
    async def answer_bad_request(request: Request, error: BadRequest) -> Response:
        return tell_problem(request, error)

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> Response:
        message = "there is no such page." if error.status_code == 404 else f"{error.detail}."
        return tell_problem(request, BadRequest(error.status_code, message, headers=dict(error.headers or {})))


def tell_problem(request: Request, error: BadRequest) -> Response:
    """Tell why a request was not answered: people by a page, programs by JSON."""
    if _is_page(request):
        return render("problem.html", status=error.status, headers=error.headers, message=error.message)
    return JSONResponse({"detail": error.message}, error.status, error.headers)


def _is_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
