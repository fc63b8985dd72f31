"""The pages: upload and readings, report."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from boneage.web.history import Entry, write_csv
from boneage.web.login import session_of, set_cookie
from boneage.web.render import render
from boneage.web.safety import SESSION_COOKIE, Access
from boneage.web.service import Service
from boneage.web.uploads import BadRequest


def make_router(service: Service, access: Access) -> APIRouter:
    """Make the routes of the pages."""
    router = APIRouter(include_in_schema=False)
    history, model = service.history, service.model

    def find_entry(request: Request, id: str) -> Entry:
        entry = history.get(id, session=session_of(request, history))
        if entry is None:
            raise BadRequest(404, "there is no such reading in this session; readings are kept in memory only.")
        return entry

    @router.get("/")
    async def show_page(request: Request) -> Response:
        entries = history.entries_of(session_of(request, history))
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
        session = session_of(request, history) or history.open(is_known=False)
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
            write_csv(history.entries_of(session_of(request, history)), model=model.label),
            headers={"Content-Disposition": 'attachment; filename="bone_ages.csv"'},
            media_type="text/csv",
        )

    @router.post("/forget")
    async def forget(request: Request) -> Response:
        if session := session_of(request, history):
            history.forget(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    return router


def _image(data: bytes | None, media_type: str) -> Response:
    if data is None:
        raise BadRequest(404, "there is no such picture.")
    return Response(data, media_type=media_type)
