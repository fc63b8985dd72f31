"""The review desk: the page on which people decide on prepared radiographs, and mend what can be mended."""

import dataclasses
from collections.abc import Set
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import cv2
import numpy as np
import pydantic
from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from boneage.web.decisions import Decisions, join, state_of, verdict
from boneage.web.desk import Desk, trace
from boneage.web.history import History
from boneage.web.pictures import draw_crop, draw_plain
from boneage.web.render import render
from boneage.web.safety import Access
from boneage.web.shell import enclose, tell_problem
from boneage.web.uploads import BadRequest, read_body
from preprocessing.correct import Click, find_contradicted
from preprocessing.review import Review
from preprocessing.sheets import Tile
from tfrecords.errors import BoneAgeError

PAGE_HANDS = 48
STATES = ("undecided", "kept", "mended", "rejected", "disputed")
_PICTURE_PX = 1200
_MAX_BODY_BYTES = 65536
_NOT_FOLLOWED = "Not every click is followed: the hand is one piece, without holes. Click nearer to its outline."


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which radiographs are shown.

    Args:
        state: One of `STATES`; `""` for all.
        gate: `"accepted"` or `"rejected"` by the gate, or one of its reasons; `""` for all.
        start: Place among all radiographs, worst first, from which on they are shown.
    """

    state: str = ""
    gate: str = ""
    start: int = 0

    def fits(self, tile: Tile, state: str) -> bool:
        """Tell whether a radiograph is shown; of disputed ones, the place is asked alone."""
        if self.state not in ("", "disputed", state):
            return False
        return self.gate in ("", "rejected" if tile.reasons else "accepted", *tile.reasons)

    def to_query(self, **change: Any) -> str:
        """Write it, with a change, as the query of an address."""
        values = dataclasses.asdict(dataclasses.replace(self, **change))
        return urlencode({name: value for name, value in values.items() if value})


class Correction(pydantic.BaseModel):
    """What a person says of a mask.

    Args:
        clicks: `(x, y, on_hand)` in pixels of the radiograph.
        box: Where the hand is, `(left, top, right, bottom)` in pixels; anywhere without it.
    """

    clicks: list[tuple[pydantic.FiniteFloat, pydantic.FiniteFloat, bool]] = pydantic.Field([], max_length=100)
    box: tuple[int, int, int, int] | None = None


class Decision(Correction):
    """A decision on one radiograph.

    Args:
        decision: What is done.
        degrees: Turn of the crop that is seen, counter-clockwise positive, for `rotate`.
    """

    decision: Literal["keep", "reject", "rotate", "flip", "mask"]
    degrees: float = pydantic.Field(0.0, ge=-360, le=360)


def create_review(desk: Desk, decisions: Decisions, *, token: str | None = None) -> FastAPI:
    """Make the web application of the review desk.

    Args:
        desk: The radiographs.
        decisions: What the reviewer decides.
        token: Secret that every request must give; None where this machine alone can ask.

    Returns:
        The application, for any ASGI server.
    """
    app = FastAPI(title="boneage review", docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, desk, decisions)
    _add_actions(app, desk, decisions)
    enclose(app, access=Access(token, History()))

    @app.exception_handler(BoneAgeError)
    async def answer_error(request: Request, error: BoneAgeError) -> Response:
        return tell_problem(request, BadRequest(409, str(error)))

    @app.exception_handler(OSError)
    async def answer_disk_error(request: Request, error: OSError) -> Response:
        message = f"{error.filename}: {error.strerror}; the disk does not take it, put that right and do it again."
        return tell_problem(request, BadRequest(507, message))

    return app


Sent = TypeVar("Sent", bound=Correction)
# Its fields are what an address asks for; nothing fits what there is not.
Shown = Annotated[Filter, Depends()]


def _add_pages(app: FastAPI, desk: Desk, decisions: Decisions) -> None:
    reasons = sorted({reason for tile in desk.tiles for reason in tile.reasons})

    def describe(number: int) -> dict[str, Any]:
        return {"tile": desk.tiles[number], **_describe(desk, decisions, number)}

    def list_matches(shown: Filter, disputed: Set[str]) -> list[int]:
        return [
            number
            for number, tile in enumerate(desk.tiles)
            if shown.fits(tile, state_of(decisions.find(tile.id)))
            and (shown.state != "disputed" or tile.id in disputed)
        ]

    def find_disputed(shown: Filter) -> tuple[set[str], dict[str, dict[str, Review]]]:
        """Return what is disputed, and what others decided where that is shown: elsewhere each decides on his own."""
        others = decisions.read_others()
        disputed = set(join({**others, decisions.reviewer: decisions.reviews})[1])
        return disputed, others if shown.state == "disputed" else {}

    @app.get("/")
    def show_grid(shown: Shown) -> Response:
        disputed, others = find_disputed(shown)
        matches = list_matches(shown, disputed)
        later = [number for number in matches if number >= shown.start]
        earlier = [number for number in matches if number < shown.start]
        hands = [describe(number) for number in later[:PAGE_HANDS]]
        for hand in hands:
            hand["others"] = {
                name: verdict(theirs[hand["tile"].id]) for name, theirs in others.items() if hand["tile"].id in theirs
            }
        return render(
            "review.html",
            hands=hands,
            shown=shown,
            states=STATES if decisions.reviewer else STATES[:-1],
            reasons=reasons,
            num_matches=len(matches),
            num_earlier=len(earlier),
            previous=earlier[-PAGE_HANDS:][0] if earlier else None,
            next=later[PAGE_HANDS] if len(later) > PAGE_HANDS else None,
            num_decided=len(decisions),
            num_all=len(desk.tiles),
            num_disputed=len(disputed),
            reviewer=decisions.reviewer,
            agreements=decisions.compare(),
            path=decisions.path,
        )

    @app.get("/hands/{number}")
    def show_hand(number: int, shown: Shown) -> Response:
        review = _find(desk, decisions, number)
        hand = desk.look(number, review).hand
        matches = list_matches(shown, find_disputed(shown)[0])
        return render(
            "mask.html",
            hand=describe(number),
            shown=shown,
            size=hand.pixels.shape[::-1],
            outline=trace(hand.segmentation.mask),
            previous=max((each for each in matches if each < number), default=None),
            next=min((each for each in matches if each > number), default=None),
            num_decided=len(decisions),
            num_all=len(desk.tiles),
            reviewer=decisions.reviewer,
            path=decisions.path,
        )

    @app.get("/hands/{number}/tile.jpg")
    def show_tile(number: int) -> Response:
        return Response(desk.draw_tile(number, _find(desk, decisions, number)), media_type="image/jpeg")

    @app.get("/hands/{number}/radiograph.jpg")
    def show_radiograph(number: int) -> Response:
        look = desk.look(number, _find(desk, decisions, number))
        return Response(draw_plain(look.hand.pixels, longest_px=_PICTURE_PX), media_type="image/jpeg")

    @app.get("/hands/{number}/crop.png")
    def show_crop(number: int) -> Response:
        crop = desk.look(number, _find(desk, decisions, number)).crop
        # Where there is no hand there is no crop, and nothing to see.
        return Response(draw_crop(np.zeros((1, 1), np.uint8) if crop is None else crop), media_type="image/png")


def _add_actions(app: FastAPI, desk: Desk, decisions: Decisions) -> None:
    def correct(number: int, correction: Correction) -> tuple[np.ndarray, list[Click]]:
        """Return the mask, and the clicks that it contradicts all the same."""
        clicks = [Click(*click) for click in correction.clicks]
        try:
            mask = desk.correct(number, _find(desk, decisions, number), clicks=clicks, box=correction.box)
        except ValueError as error:
            raise BadRequest(422, str(error)) from None
        return mask, find_contradicted(mask, clicks)

    def decide(number: int, asked: Decision) -> dict[str, Any]:
        mask = b""
        if asked.decision == "mask":
            drawn, _ = correct(number, asked)
            if not drawn.any():
                raise BadRequest(422, "no hand comes of it: click on the hand, or draw a box around it.")
            mask = cv2.imencode(".png", drawn.astype(np.uint8) * 255)[1].tobytes()
        id = desk.tiles[number].id
        decisions.decide(id, asked.decision, degrees=asked.degrees, mask=mask)
        return _describe(desk, decisions, number)

    @app.post("/hands/{number}/outline")
    async def draw_outline(number: int, request: Request) -> dict[str, str]:
        _find(desk, decisions, number)
        correction = await _read(request, Correction)
        mask, contradicted = await run_in_threadpool(correct, number, correction)
        return {"outline": trace(mask), "told": _NOT_FOLLOWED if contradicted else ""}

    @app.post("/hands/{number}/decision")
    async def take_decision(number: int, request: Request) -> dict[str, Any]:
        _find(desk, decisions, number)
        return await run_in_threadpool(decide, number, await _read(request, Decision))

    @app.post("/undo")
    def undo() -> dict[str, Any]:
        id = decisions.undo()
        if id is None:
            raise BadRequest(409, "there is nothing to undo since the server was started.")
        (number,) = (number for number, tile in enumerate(desk.tiles) if tile.id == id)
        return _describe(desk, decisions, number)

    @app.post("/joint")
    def write_joint() -> dict[str, str]:
        if not decisions.reviewer:
            raise BadRequest(409, "there is one reviewer without a name; start with --reviewer to join several.")
        path, num_joint, num_disputed = decisions.write_joint()
        left_out = f"; {num_disputed:,} disputed are left out, and stay as the gate has them" if num_disputed else ""
        return {"told": f"{num_joint:,} decisions are in {path}{left_out}."}


def _describe(desk: Desk, decisions: Decisions, number: int) -> dict[str, Any]:
    """Tell how a radiograph stands, for the page."""
    id = desk.tiles[number].id
    review = decisions.find(id)
    return {
        "number": number,
        "id": id,
        "state": state_of(review),
        "verdict": verdict(review),
        # Pictures are asked for anew when what is decided changes.
        "version": quote(" ".join(review.rows)),
        "num_decided": len(decisions),
    }


def _find(desk: Desk, decisions: Decisions, number: int) -> Review:
    """Return what was decided of a radiograph, if there is such a one."""
    if not 0 <= number < len(desk.tiles):
        raise BadRequest(404, "there is no such radiograph.")
    return decisions.find(desk.tiles[number].id)


async def _read(request: Request, kind: type[Sent]) -> Sent:
    try:
        return kind.model_validate_json(await read_body(request, max_bytes=_MAX_BODY_BYTES))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(422, f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}.") from None
