"""The pages: upload and readings, report."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from boneage.serve.history import Entry, write_csv
from boneage.serve.service import Service
from boneage.web.login import find_session, set_cookie
from boneage.web.render import render
from boneage.web.requests import RequestError
from boneage.web.safety import SESSION_COOKIE, Access


def make_router(service: Service, access: Access) -> APIRouter:
    """Make the routes of the pages."""
    router = APIRouter(include_in_schema=False)
    history, model = service.history, service.model

    def find_entry(request: Request, id: str) -> Entry:
        entry = history.get(id, session=find_session(request, history))
        if entry is None:
            raise RequestError(404, "no such reading in this session; readings are kept in memory only.")
        return entry

    @router.get("/")
    async def show_page(request: Request) -> Response:
        entries = history.list_entries(find_session(request, history))
        latest = [entry for entry in entries if entry.batch == entries[0].batch]
        return render(
            "page.html",
            model=model,
            latest=latest,
            earlier=entries[len(latest) :],
            limits=service.limits,
            is_stored=service.store is not None,
            can_leave=access.token is not None,
        )

    @router.post("/")
    async def read(request: Request) -> Response:
        answers = await service.answer(request, age_field="chronological_age_years", age_unit_months=12.0)
        session = find_session(request, history) or history.open(is_authenticated=False)
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

    @router.get("/readings/{id}/occlusion.png")
    async def show_occlusion_map(request: Request, id: str) -> Response:
        return _image(await service.draw_occlusion_png(find_entry(request, id).answer), "image/png")

    @router.get("/readings.csv")
    async def download(request: Request) -> Response:
        return PlainTextResponse(
            write_csv(history.list_entries(find_session(request, history)), model=model.label),
            headers={"Content-Disposition": 'attachment; filename="bone_ages.csv"'},
            media_type="text/csv",
        )

    @router.post("/forget")
    async def forget(request: Request) -> Response:
        if session := find_session(request, history):
            history.forget(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    return router


def _image(data: bytes | None, media_type: str) -> Response:
    if data is None:
        raise RequestError(404, "no such image.")
    return Response(data, media_type=media_type)
