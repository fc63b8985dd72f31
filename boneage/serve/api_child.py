"""The REST API about a child: `POST /api/v1/follow` and `POST /api/v1/height`."""

import dataclasses
import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from boneage.base.sex import parse_sex
from boneage.evaluation.conformal import MAX_BONE_AGE_MONTHS
from boneage.serve.ages import MAX_AGE_MONTHS
from boneage.serve.child import MAX_ERROR_MONTHS, ToldVisit, follow_visits
from boneage.serve.service import Service
from boneage.studies.child_height import BLANK, find_heights
from boneage.studies.columns import MAX_HEIGHT_CM, MIN_HEIGHT_CM
from boneage.web.requests import RequestError

_MAX_BODY_BYTES = 65536
_MAX_VISITS = 200
_FOLLOW_EXAMPLE: dict[str, Any] = {
    "sex": "female",
    "error_months": 4,
    "visits": [
        {"chronological_age_months": 84, "bone_age_months": 89},
        {"chronological_age_months": 96, "bone_age_months": 118},
    ],
}
_HEIGHT_EXAMPLE: dict[str, Any] = {
    "sex": "male",
    "height_cm": 152.4,
    "bone_age_months": 159,
    "chronological_age_months": 160,
    "mother_cm": 165,
    "father_cm": 180,
}

Sex = Annotated[Literal["female", "male", "unknown"], Field(description="female, male or unknown.")]
ChronologicalAge = Annotated[
    float, Field(ge=0, le=MAX_AGE_MONTHS, allow_inf_nan=False, description="Chronological age in months.")
]
BoneAge = Annotated[float, Field(ge=0, le=MAX_BONE_AGE_MONTHS, allow_inf_nan=False, description="Bone age in months.")]
Low = Annotated[
    float | None,
    Field(ge=0, le=MAX_BONE_AGE_MONTHS, allow_inf_nan=False, description="Lower end of its prediction interval."),
]
High = Annotated[
    float | None,
    Field(ge=0, le=MAX_BONE_AGE_MONTHS, allow_inf_nan=False, description="Upper end; 240 if it is open."),
]
Centimetres = Annotated[float | None, Field(ge=MIN_HEIGHT_CM, le=MAX_HEIGHT_CM, allow_inf_nan=False)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SentVisit(_Sent):
    """A bone age of the child."""

    chronological_age_months: ChronologicalAge
    bone_age_months: BoneAge
    low_months: Low = None
    high_months: High = None


class FollowRequest(_Sent):
    """The bone ages of one child."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FOLLOW_EXAMPLE]})
    sex: Sex = "unknown"
    visits: list[SentVisit] = Field(min_length=1, max_length=_MAX_VISITS, description="Its bone ages, in any order.")
    error_months: float | None = Field(
        None,
        gt=0,
        le=MAX_ERROR_MONTHS,
        allow_inf_nan=False,
        description="Standard deviation of the error of one bone age, such as Dahlberg's error of `boneage agree`; "
        "null for that of each prediction interval.",
    )


class FollowedVisit(BaseModel):
    """The bone age at one age."""

    chronological_age_months: float = Field(description="Chronological age in months.")
    bone_age_months: float = Field(description="Bone age in months, the mean of several at this age.")
    low_months: float | None = Field(description="Lower end of the prediction interval; null without one.")
    high_months: float | None = Field(description="Upper end; null without one and where it is open.")
    error_months: float | None = Field(description="Standard deviation of the error; null if unknown.")
    sds: float | None = Field(description="Standard deviation score by the reference; null if unknown.")
    num_radiographs: int = Field(description="Bone ages at this age.")


class FollowedStep(BaseModel):
    """What changed from one visit to a later one."""

    from_age_months: float = Field(description="Chronological age at the first visit.")
    to_age_months: float = Field(description="Chronological age at the second.")
    change_months: float = Field(description="Change of the bone age.")
    velocity: float = Field(description="Months of bone age per year.")
    velocity_error: float | None = Field(description="Its standard deviation; null if an error is unknown.")
    velocity_low: float | None = Field(description="Lower end of its 95% interval.")
    velocity_high: float | None = Field(description="Upper end.")
    smallest_change_months: float | None = Field(description="The smallest change that is real.")
    is_real: bool | None = Field(description="Whether the bone age changed by more than that.")
    pace: str | None = Field(description="accelerated, slowed or within error; null if an error is unknown.")


class FollowAnswer(BaseModel):
    """The course of the bone age of one child."""

    reference: str = Field(description="Name of the growth reference.")
    visits: list[FollowedVisit] = Field(description="In the order of age.")
    steps: list[FollowedStep] = Field(description="From each visit to the next.")
    overall: FollowedStep | None = Field(description="From the first visit to the last; null with one visit.")
    remarks: list[str] = Field(description="What the reader of the course has to know.")


class HeightRequest(_Sent):
    """What is known of one child; height and bone age are of one day."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HEIGHT_EXAMPLE]})
    sex: Sex = "unknown"
    height_cm: Centimetres = Field(None, description="Its height in cm.")
    bone_age_months: BoneAge | None = None
    low_months: Low = None
    high_months: High = None
    chronological_age_months: ChronologicalAge | None = None
    maturation: Literal["average", "accelerated", "retarded"] | None = Field(
        None, description="Which table holds; null for that by bone age and age."
    )
    mother_cm: Centimetres = Field(None, description="Height of its mother in cm.")
    father_cm: Centimetres = Field(None, description="Height of its father in cm.")


class HeightAnswer(BaseModel):
    """The heights of one child."""

    maturation: str | None = Field(description="Which table holds; null if unknown.")
    percent_of_adult_height: float | None = Field(description="Percent of adult height reached.")
    adult_height_cm: float | None = Field(description="Predicted adult height by Bayley and Pinneau.")
    adult_height_low_cm: float | None = Field(description="Its lower end by the interval of the bone age alone.")
    adult_height_high_cm: float | None = Field(description="Its upper end likewise.")
    target_height_cm: float | None = Field(description="Target height of the parents.")
    target_low_cm: float | None = Field(description="Lower end of its range.")
    target_high_cm: float | None = Field(description="Upper end of its range.")
    cdc_sds: float | None = Field(description="Standard deviation score of the height by the CDC's table.")
    who_sds: float | None = Field(description="Standard deviation score of the height by the WHO's table.")
    reasons: list[str] = Field(description="Why something is unknown.")


class _SmallBody(APIRoute):
    """A route that takes small bodies only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_small(request: Request) -> Response:
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                raise RequestError(411, "the header Content-Length is needed.")
            if int(length) > _MAX_BODY_BYTES:
                raise RequestError(413, f"request body too large: at most {_MAX_BODY_BYTES:,} bytes.")
            return await answer(request)

        return answer_small


def make_router(service: Service, *, responses: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Make the routes.

    Args:
        service: The service, for its growth reference and its tables of heights.
        responses: The problems that requests may have, for the description.
    """
    router = APIRouter(prefix="/api/v1", route_class=_SmallBody, responses=responses)

    @router.post("/follow", response_model=FollowAnswer, summary="Follow the bone age of a child")
    def follow(sent: FollowRequest) -> dict[str, Any]:
        """Return velocity, the smallest real change, and acceleration of bone ages that are known, as `boneage follow`.

        Research use: not a medical device.
        """
        sex, reference = parse_sex(sent.sex), service.reader.reference
        visits = [ToldVisit(**visit.model_dump(), sex=sex) for visit in sent.visits]
        course = follow_visits(visits, reference=reference, error_months=sent.error_months)
        return {**dataclasses.asdict(course), "reference": reference.label}

    @router.post("/height", response_model=HeightAnswer, summary="Find the heights of a child")
    def height(sent: HeightRequest) -> dict[str, Any]:
        """Return predicted adult height, target height and scores of the height, as `boneage height`.

        The tables are those that the server was started with (--tables, --cdc, --who).
        Research use: not a medical device.
        """
        told = {name: value for name, value in sent.model_dump(exclude={"sex"}).items() if value is not None}
        found = find_heights({**BLANK, **told, "sex": parse_sex(sent.sex) or ""}, service.heights)
        reasons = [reason for reason in str(found.pop("reasons")).split("; ") if reason]
        reasons += [f"{what}: this server has no table, {option}" for what, option in service.missing_tables]
        return {**{name: _to_json(value) for name, value in found.items()}, "reasons": reasons}

    return router


def _to_json(value: object) -> object:
    """Round a number to two digits; None where unknown."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 2)
    return value or None
