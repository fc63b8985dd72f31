"""Login, static files, security middleware and error pages, shared by the web applications."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from boneage.web import login
from boneage.web.metrics import RequestMetrics
from boneage.web.render import render
from boneage.web.requests import RequestError
from boneage.web.safety import Access, SecurityMiddleware

_STATIC = Path(__file__).parent / "static"


def add_shell(app: FastAPI, *, access: Access, metrics: RequestMetrics | None = None) -> None:
    """Add login, static files, security middleware and error pages to an application.

    Args:
        app: The application, with its pages.
        access: Access control.
        metrics: Request metrics, or None.
    """
    app.add_middleware(SecurityMiddleware, access=access, metrics=metrics)
    app.include_router(login.make_router(access))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    @app.get("/healthz", summary="Liveness of the server")
    async def get_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.exception_handler(RequestError)
    async def handle_request_error(request: Request, error: RequestError) -> Response:
        return error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid_body(request: Request, error: RequestValidationError) -> Response:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"][1:])) or "body"
        return error_response(request, RequestError(422, f"`{place}`: {fault['msg']}."))

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> Response:
        message = "page not found." if error.status_code == 404 else f"{error.detail}."
        return error_response(request, RequestError(error.status_code, message, headers=dict(error.headers or {})))


def error_response(request: Request, error: RequestError) -> Response:
    """Return an error response: a page for browsers, JSON for programs."""
    if _is_page(request):
        return render("problem.html", status=error.status, headers=error.headers, message=error.message)
    return JSONResponse({"detail": error.message}, error.status, error.headers)


def _is_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.scope["path"].startswith("/api/")
