"""The pages: upload and readings, report, login."""

from urllib.parse import parse_qs

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from boneage.web.history import Entry, write_csv
from boneage.web.safety import SESSION_COOKIE, Access
from boneage.web.service import Service
from boneage.web.uploads import BadRequest
from boneage.web.words import explain_reasons, explain_warning, say_age, say_difference

# The widest bone age that the scale beside a reading shows, in months.
_SCALE_MONTHS = 228.0
_MAX_LOGIN_BYTES = 4096

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("boneage.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"age": say_age, "difference": say_difference, "reasons": explain_reasons}
_templates.filters |= {
    "warning": explain_warning,
    "scaled": lambda months: round(100 * min(max(months / _SCALE_MONTHS, 0.0), 1.0), 2),
}


def render(name: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> HTMLResponse:
    """Render a template as an answer."""
    return HTMLResponse(_templates.get_template(name).render(**values), status, headers)


def make_router(service: Service, access: Access) -> APIRouter:
    """Make the routes of the pages."""
    router = APIRouter(include_in_schema=False)
    history, model = service.history, service.model

    def session_of(request: Request) -> str | None:
        return history.find(request.cookies.get(SESSION_COOKIE))

    def set_cookie(request: Request, response: Response, session: str) -> None:
        response.set_cookie(
            SESSION_COOKIE, session, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
        )

    def find_entry(request: Request, id: str) -> Entry:
        entry = history.get(id, session=session_of(request))
        if entry is None:
            raise BadRequest(404, "there is no such reading in this session; readings are kept in memory only.")
        return entry

    @router.get("/")
    async def show_page(request: Request) -> Response:
        entries = history.entries_of(session_of(request))
        latest = [each for each in entries if each.batch == entries[0].batch]
        return render(
            "page.html",
            model=model,
            latest=latest,
            earlier=entries[len(latest) :],
            bounds=service.bounds,
            is_stored=service.store is not None,
            can_leave=access.token is not None,
        )

    @router.post("/")
    async def read(request: Request) -> Response:
        answers = await service.answer(request, age_field="chronological_age_years", age_unit_months=12.0)
        session = session_of(request) or history.open(is_known=False)
        history.add(answers, session=session)
        response = RedirectResponse("/#readings", 303)
        set_cookie(request, response, session)
        return response

    @router.get("/readings/{id}")
    async def show_report(request: Request, id: str) -> Response:
        return render("report.html", model=model, entry=find_entry(request, id))

    @router.get("/readings/{id}/radiograph.jpg")
    async def show_radiograph(request: Request, id: str) -> Response:
        return _image(find_entry(request, id).answer.picture, "image/jpeg")

    @router.get("/readings/{id}/crop.png")
    async def show_crop(request: Request, id: str) -> Response:
        return _image(find_entry(request, id).answer.draw_crop(), "image/png")

    @router.get("/readings/{id}/importance.png")
    async def show_importance(request: Request, id: str) -> Response:
        return _image(await service.draw_importance(find_entry(request, id).answer), "image/png")

    @router.get("/readings.csv")
    async def download(request: Request) -> Response:
        return PlainTextResponse(
            write_csv(history.entries_of(session_of(request)), model=model.label),
            headers={"Content-Disposition": 'attachment; filename="bone_ages.csv"'},
            media_type="text/csv",
        )

    @router.post("/forget")
    async def forget(request: Request) -> Response:
        if session := session_of(request):
            history.forget(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    @router.get("/login")
    async def show_login() -> Response:
        return render("login.html", is_wrong=False)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        if not access.fits(await _read_token(request)):
            return render("login.html", status=403, is_wrong=True)
        # A session that was there before the token could be known to someone else.
        if session := session_of(request):
            history.forget(session)
        response = RedirectResponse("/", 303)
        set_cookie(request, response, history.open(is_known=True))
        return response

    return router


def show_problem(error: BadRequest) -> Response:
    """Show why a request of the page was not answered."""
    return render("problem.html", status=error.status, headers=error.headers, message=error.message)


async def _read_token(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_LOGIN_BYTES:
            raise BadRequest(413, "no token is that long.")
    return parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()


def _image(data: bytes | None, media_type: str) -> Response:
    if data is None:
        raise BadRequest(404, "there is no such picture.")
    return Response(data, media_type=media_type)
