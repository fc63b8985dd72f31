"""The review desk: a web page to decide on prepared radiographs and to correct them."""

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

from boneage.base.errors import BoneAgeError
from boneage.inference.drawing import draw_crop, draw_plain
from boneage.inference.messages import list_reasons
from boneage.preprocessing.hand.interactive_correction import Click, find_contradicted_clicks
from boneage.preprocessing.jobs.contact_sheets import Tile
from boneage.preprocessing.sources.review_csv import Review
from boneage.review.agreement import join_reviews
from boneage.review.decisions import Decisions, describe_verdict, review_state
from boneage.review.desk import Desk, trace_outline
from boneage.web.render import render
from boneage.web.requests import RequestError, read_body
from boneage.web.safety import Access
from boneage.web.sessions import Sessions
from boneage.web.shell import add_shell, error_response

PAGE_HANDS = 48
STATES = ("undecided", "kept", "corrected", "rejected", "disputed")
_PICTURE_PX = 1200
_MAX_BODY_BYTES = 65536
_MAX_COMMENT = 500
_NOT_FOLLOWED = (
    "Some clicks have no effect: the mask is one connected region without holes. Click closer to its outline."
)


@dataclasses.dataclass(frozen=True)
class Filter:
    """Filter of the radiographs shown.

    Args:
        state: One of `STATES`; `""` for all.
        gate: `"accepted"` or `"rejected"` by the gate, or one of its reasons; `""` for all.
        start: Index of the first radiograph shown, worst first.
    """

    state: str = ""
    gate: str = ""
    start: int = 0

    def matches(self, tile: Tile, state: str) -> bool:
        """Whether a radiograph matches; the caller checks whether it is disputed."""
        if self.state not in ("", "disputed", state):
            return False
        return self.gate in ("", "rejected" if tile.reasons else "accepted", *tile.reasons)

    def to_query(self, **change: Any) -> str:
        """Return the filter, with changes, as a URL query."""
        values = dataclasses.asdict(dataclasses.replace(self, **change))
        return urlencode({name: value for name, value in values.items() if value})


class Correction(pydantic.BaseModel):
    """Clicks and box of a mask correction.

    Args:
        clicks: `(x, y, on_hand)` in pixels of the radiograph.
        box: Box around the hand, `(left, top, right, bottom)` in pixels, or None.
    """

    clicks: list[tuple[pydantic.FiniteFloat, pydantic.FiniteFloat, bool]] = pydantic.Field([], max_length=100)
    box: tuple[int, int, int, int] | None = None


class Decision(Correction):
    """A decision on one radiograph.

    Args:
        decision: The decision.
        degrees: Rotation of the crop shown, counter-clockwise positive, for `rotate`.
    """

    decision: Literal["keep", "reject", "rotate", "flip", "mask"]
    degrees: float = pydantic.Field(0.0, ge=-360, le=360)


class Comment(pydantic.BaseModel):
    """A comment on a radiograph.

    Args:
        comment: The text; an empty one removes the comment.
    """

    comment: str = pydantic.Field(max_length=_MAX_COMMENT)


def create_review(desk: Desk, decisions: Decisions, *, token: str | None = None) -> FastAPI:
    """Make the web application of the review desk.

    Args:
        desk: The radiographs.
        decisions: Decisions of the reviewer.
        token: Secret required with every request; None if the server is reachable locally only.

    Returns:
        The application, for any ASGI server.
    """
    app = FastAPI(title="boneage review", docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, desk, decisions)
    _add_actions(app, desk, decisions)
    add_shell(app, access=Access(token, Sessions()))

    @app.exception_handler(BoneAgeError)
    async def answer_error(request: Request, error: BoneAgeError) -> Response:
        return error_response(request, RequestError(409, str(error)))

    @app.exception_handler(OSError)
    async def answer_disk_error(request: Request, error: OSError) -> Response:
        message = f"{error.filename}: {error.strerror}; free disk space or fix permissions, then repeat."
        return error_response(request, RequestError(507, message))

    return app


Sent = TypeVar("Sent", bound=pydantic.BaseModel)
# Read from the URL query; unknown values match nothing.
Shown = Annotated[Filter, Depends()]


def _add_pages(app: FastAPI, desk: Desk, decisions: Decisions) -> None:
    reasons = sorted({reason for tile in desk.tiles for reason in tile.reasons})
    # The first sentence tells the reason, what follows tells what to do.
    named_reasons = {reason: list_reasons([reason])[0].split(". ")[0].rstrip(".") for reason in reasons}

    def describe(number: int) -> dict[str, Any]:
        return {"tile": desk.tiles[number], **_describe(desk, decisions, number)}

    def list_matches(shown: Filter, disputed: Set[str]) -> list[int]:
        return [
            number
            for number, tile in enumerate(desk.tiles)
            if shown.matches(tile, review_state(decisions.find(tile.id)))
            and (shown.state != "disputed" or tile.id in disputed)
        ]

    def find_disputed(shown: Filter) -> tuple[set[str], dict[str, dict[str, Review]]]:
        """Return disputed ids and, where shown, the decisions of others: elsewhere reviewers decide independently."""
        others = decisions.read_others()
        disputed = set(join_reviews({**others, decisions.reviewer: decisions.reviews})[1])
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
                name: describe_verdict(theirs[hand["tile"].id])
                for name, theirs in others.items()
                if hand["tile"].id in theirs
            }
        return render(
            "review.html",
            hands=hands,
            shown=shown,
            states=STATES if decisions.reviewer else STATES[:-1],
            reasons=named_reasons,
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
        hand = desk.process(number, review).hand
        matches = list_matches(shown, find_disputed(shown)[0])
        return render(
            "mask.html",
            hand=describe(number),
            shown=shown,
            size=hand.pixels.shape[::-1],
            max_comment=_MAX_COMMENT,
            outline=trace_outline(hand.segmentation.mask),
            previous=max((match for match in matches if match < number), default=None),
            next=min((match for match in matches if match > number), default=None),
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
        processed = desk.process(number, _find(desk, decisions, number))
        return Response(draw_plain(processed.hand.pixels, longest_px=_PICTURE_PX), media_type="image/jpeg")

    @app.get("/hands/{number}/crop.png")
    def show_crop(number: int) -> Response:
        crop = desk.process(number, _find(desk, decisions, number)).crop
        # Without a hand there is no crop; the image is a black pixel.
        return Response(draw_crop(np.zeros((1, 1), np.uint8) if crop is None else crop), media_type="image/png")


def _add_actions(app: FastAPI, desk: Desk, decisions: Decisions) -> None:
    def correct(number: int, correction: Correction) -> tuple[np.ndarray, list[Click]]:
        """Return the corrected mask, and the clicks that it still contradicts."""
        clicks = [Click(*click) for click in correction.clicks]
        try:
            mask = desk.correct(number, _find(desk, decisions, number), clicks=clicks, box=correction.box)
        except ValueError as error:
            raise RequestError(422, str(error)) from None
        return mask, find_contradicted_clicks(mask, clicks)

    def decide(number: int, asked: Decision) -> dict[str, Any]:
        mask = b""
        if asked.decision == "mask":
            drawn, _ = correct(number, asked)
            if not drawn.any():
                raise RequestError(422, "the mask is empty: click on the hand or draw a box around it.")
            mask = cv2.imencode(".png", drawn.astype(np.uint8) * 255)[1].tobytes()
        id = desk.tiles[number].id
        decisions.decide(id, asked.decision, degrees=asked.degrees, mask=mask)
        return _describe(desk, decisions, number)

    @app.post("/hands/{number}/outline")
    async def draw_outline(number: int, request: Request) -> dict[str, Any]:
        _find(desk, decisions, number)
        correction = await _read(request, Correction)
        mask, contradicted = await run_in_threadpool(correct, number, correction)
        not_followed = [place for place, click in enumerate(correction.clicks) if Click(*click) in contradicted]
        message = _NOT_FOLLOWED if contradicted else ""
        return {"outline": trace_outline(mask), "not_followed": not_followed, "message": message}

    @app.post("/hands/{number}/decision")
    async def take_decision(number: int, request: Request) -> dict[str, Any]:
        _find(desk, decisions, number)
        return await run_in_threadpool(decide, number, await _read(request, Decision))

    @app.post("/hands/{number}/comment")
    async def take_comment(number: int, request: Request) -> dict[str, Any]:
        _find(desk, decisions, number)
        comment = await _read(request, Comment)
        await run_in_threadpool(decisions.comment, desk.tiles[number].id, comment.comment)
        return _describe(desk, decisions, number)

    def describe_id(id: str) -> dict[str, Any]:
        (number,) = (number for number, tile in enumerate(desk.tiles) if tile.id == id)
        return _describe(desk, decisions, number)

    @app.post("/undo")
    def undo() -> dict[str, Any]:
        id = decisions.undo()
        if id is None:
            raise RequestError(409, "nothing to undo since the server was started.")
        return describe_id(id)

    @app.post("/redo")
    def redo() -> dict[str, Any]:
        id = decisions.redo()
        if id is None:
            raise RequestError(409, "nothing to redo.")
        return describe_id(id)

    @app.post("/joint")
    def write_joint() -> dict[str, str]:
        if not decisions.reviewer:
            raise RequestError(409, "merging decisions needs --reviewer.")
        path, num_joint, num_disputed = decisions.write_joint()
        left_out = (
            f"; {num_disputed:,} disputed ones are left out and keep the decision of the gate" if num_disputed else ""
        )
        return {"message": f"{num_joint:,} decisions are in {path}{left_out}."}


def _describe(desk: Desk, decisions: Decisions, number: int) -> dict[str, Any]:
    """Describe the state of a radiograph for the page."""
    id = desk.tiles[number].id
    review = decisions.find(id)
    return {
        "number": number,
        "id": id,
        "state": review_state(review),
        "verdict": describe_verdict(review),
        "comment": review.comment,
        # The browser requests the images again when the decision changes.
        "version": quote(" ".join(review.decisions)),
        "num_decided": len(decisions),
    }


def _find(desk: Desk, decisions: Decisions, number: int) -> Review:
    """Return the decision on a radiograph, if it exists."""
    if not 0 <= number < len(desk.tiles):
        raise RequestError(404, "radiograph not found.")
    return decisions.find(desk.tiles[number].id)


async def _read(request: Request, kind: type[Sent]) -> Sent:
    try:
        return kind.model_validate_json(await read_body(request, max_bytes=_MAX_BODY_BYTES))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise RequestError(422, f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}.") from None
