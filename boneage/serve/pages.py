"""The pages: upload and readings, report."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from boneage.inference.messages import format_age
from boneage.serve.ages import PAGE_AGE
from boneage.serve.api_page import list_objects, list_operations
from boneage.serve.cards import Card
from boneage.serve.child import FIELDS, parse_child
from boneage.serve.history import Entry, write_csv
from boneage.serve.kept import CAPTURE, OBSERVATION, REPORT
from boneage.serve.readings import Answer
from boneage.serve.service import Service
from boneage.serve.uploads import parse_given_sex
from boneage.web.login import find_session, set_cookie
from boneage.web.render import render
from boneage.web.requests import RequestError, read_form
from boneage.web.safety import SESSION_COOKIE, Access

_DICOM = "application/dicom"
_GONE = "this film is no longer on the server, which keeps films for a while only; go back and choose the file again."


def make_router(service: Service, access: Access) -> APIRouter:
    """Make the routes of the pages."""
    router = APIRouter(include_in_schema=False)
    history, model, input_px = service.history, service.model, service.reader.age_bundle.input_size

    def make_card(entry: Entry, latest: list[Entry]) -> Card:
        others = [other.answer for other in latest if other.batch == entry.batch and other.id != entry.id]
        return Card(entry, others, reference=service.reader.reference, heights=service.heights)

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
            input_px=input_px,
            cards=[make_card(entry, latest) for entry in latest],
            earlier=entries[len(latest) :],
            limits=service.limits,
            has_heights=service.has_heights,
            is_stored=service.store is not None,
            can_leave=access.token is not None,
        )

    @router.post("/")
    async def read(request: Request) -> Response:
        answers = await service.answer(request, age_form=PAGE_AGE)
        session = find_session(request, history) or history.open(is_authenticated=False)
        history.add(answers, session=session)
        response = RedirectResponse("/#readings", 303)
        set_cookie(request, response, session)
        return response

    @router.post("/files")
    async def read_one_by_one(request: Request, batch: str | None = None) -> Response:
        """Read a part of a batch, so that the page can show how far it is."""
        answers = await service.answer(request, age_form=PAGE_AGE)
        session = find_session(request, history) or history.open(is_authenticated=False)
        batch = history.add(answers, session=session, batch=batch)
        results = [
            {"accepted": answer.accepted, "text": ", ".join(map(_summarise, answer.hands))} for answer in answers
        ]
        response = JSONResponse({"batch": batch, "results": results})
        set_cookie(request, response, session)
        return response

    @router.get("/readings/{id}")
    async def show_report(request: Request, id: str) -> Response:
        entry = find_entry(request, id)
        card = make_card(entry, history.list_entries(entry.session))
        return render("report.html", model=model, card=card, entry=entry, input_px=input_px)

    @router.get("/readings/{id}/view")
    async def show_viewer(request: Request, id: str) -> Response:
        entry = find_entry(request, id)
        if entry.answer.film is None:
            raise RequestError(404, "no such image.")
        return render("view.html", entry=entry, film=entry.answer.film, input_px=input_px)

    @router.get("/readings/{id}/film.jpg")
    async def show_film(request: Request, id: str) -> Response:
        film = find_entry(request, id).answer.film
        return _image(film.jpeg if film else None, "image/jpeg")

    @router.get("/readings/{id}/input.png")
    async def show_input(request: Request, id: str) -> Response:
        return _image(service.draw_input(find_entry(request, id).answer), "image/png")

    @router.post("/readings/{id}/again")
    async def read_film_again(request: Request, id: str) -> Response:
        session = find_session(request, history)
        entry = history.get(id, session=session)
        if entry is None or entry.answer.kept is None:
            raise RequestError(410, _GONE)
        fields = await read_form(request, fields=("sex", *PAGE_AGE.fields))
        sex, age_months = parse_given_sex(fields.get("sex", "")), PAGE_AGE.parse(fields)
        answer = await service.read_again(entry.answer, sex=sex, chronological_age_months=age_months)
        history.replace(id, answer=answer)
        return RedirectResponse(f"/#reading-{id}", 303)

    @router.post("/readings/{id}/child")
    async def tell_child(request: Request, id: str) -> Response:
        find_entry(request, id)
        history.replace(id, child=parse_child(await read_form(request, fields=FIELDS)))
        return RedirectResponse(f"/#course-{id}", 303)

    def add_download(name: str, media_type: str) -> None:
        @router.get(f"/readings/{{id}}/{name}")
        async def download_report(request: Request, id: str) -> Response:
            data = await service.make_report(find_entry(request, id).answer, name)
            if data is None:
                raise RequestError(404, "this reading has no such report.")
            disposition = f'attachment; filename="bone_age_{name}"'
            return Response(data, media_type=media_type, headers={"Content-Disposition": disposition})

    for name, media_type in ((OBSERVATION, "application/fhir+json"), (REPORT, _DICOM), (CAPTURE, _DICOM)):
        add_download(name, media_type)

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

    @router.get("/docs")
    async def show_interface(request: Request) -> Response:
        document = request.app.openapi()
        return render(
            "api.html",
            **{name: document["info"][name] for name in ("title", "version", "description")},
            operations=list_operations(document),
            objects=list_objects(document),
            address=f"http://{request.headers['host']}",
            needs_token=access.token is not None,
        )

    @router.post("/forget")
    async def forget(request: Request) -> Response:
        if session := find_session(request, history):
            history.forget(session)
        response = RedirectResponse("/", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    return router


def _summarise(answer: Answer) -> str:
    """Return the bone age, with the hand on a film of two, or the reasons why there is none."""
    hand = f"{answer.hand} hand " if answer.hand else ""
    return answer.detail or f"{hand}{format_age(answer.bone_age_months or 0.0)}"


def _image(data: bytes | None, media_type: str) -> Response:
    if data is None:
        raise RequestError(404, "no such image.")
    return Response(data, media_type=media_type)
