"""The REST API: `POST /api/v1/predict`."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from boneage.serve.ages import MAX_AGE_MONTHS, REST_AGE
from boneage.serve.readings import Answer
from boneage.serve.service import Service
from boneage.serve.uploads import UNKNOWN_SEX
from boneage.tfrecords.schema import SEXES

_EXAMPLE: dict[str, Any] = {
    "file": "1520.png",
    "accepted": True,
    "bone_age_months": 118.4,
    "low_months": 104.1,
    "high_months": 132.7,
    "interval": "104.1 to 132.7 months",
    "sex": "female",
    "male_probability": 0.0713,
    "chronological_age_months": 111.0,
    "difference_months": 7.4,
    "sds": 0.6,
    "reference": "Brush Foundation (Greulich and Pyle 1959)",
    "centile": 72.6,
    "determination": "normal",
    "score_missing": None,
    "by_sex": None,
    "side_detail": "thumb lies right: taken for a left hand",
    "hand": None,
    "right_hand": None,
    "warnings": [],
    "remarks": "",
    "reasons": [],
    "detail": "",
    "model": "default (efficientnet_lite0) 0123456789ab",
}
_REFUSED: dict[str, Any] = {
    **_EXAMPLE,
    "file": "foot.png",
    "accepted": False,
    **dict.fromkeys(
        ("bone_age_months", "low_months", "high_months", "interval", "male_probability", "difference_months", "sds")
    ),
    **dict.fromkeys(("reference", "centile", "determination")),
    "side_detail": "unknown",
    "reasons": ["no_hand"],
    "detail": "This may not be a hand radiograph: no hand was found.",
}


class RightHand(BaseModel):
    """The right hand of a film that shows two."""

    bone_age_months: float = Field(description="Bone age in months.")
    low_months: float | None = Field(description="Lower end of the prediction interval.")
    high_months: float | None = Field(description="Upper end of the prediction interval; 240 if it is open.")
    interval: str | None = Field(description="The interval as text.")
    difference_months: float | None = Field(description="Bone age minus chronological age, in months.")
    sds: float | None = Field(description="Standard deviation score; null if unknown.")


class Prediction(BaseModel):
    """The result of one file; of the left hand if it shows two."""

    file: str = Field(description="Name of the file as sent, without folders.")
    accepted: bool = Field(description="Whether there is a bone age.")
    bone_age_months: float | None = Field(description="Bone age in months; null if rejected.")
    low_months: float | None = Field(description="Lower end of the prediction interval; null if the model has none.")
    high_months: float | None = Field(description="Upper end of the prediction interval; 240 if it is open.")
    interval: str | None = Field(description="The interval as text: '165.4 months or more' if it has no upper end.")
    sex: str | None = Field(description="The sex assumed: female, male, or null.")
    male_probability: float | None = Field(
        description="Predicted probability that the child is male, in [0, 1]; null without a sex model."
    )
    chronological_age_months: float | None = Field(description="As sent, else from the DICOM file.")
    difference_months: float | None = Field(description="Bone age minus chronological age, in months.")
    sds: float | None = Field(description="Standard deviation score by the growth reference; null if unknown.")
    reference: str | None = Field(description="Name of the growth reference of the score; null without one.")
    centile: float | None = Field(description="Share of healthy children with a lower bone age, in percent.")
    determination: str | None = Field(
        description="delayed, normal or advanced, by two standard deviations; indeterminate if that cannot be told; "
        "null without a chronological age."
    )
    score_missing: str | None = Field(description="Why there is no standard deviation score; null if there is one.")
    by_sex: dict[str, float] | None = Field(description="Bone age in months for each sex; null if one was recorded.")
    side_detail: str = Field(description="The side by the header, the letter on the film and the image.")
    hand: str | None = Field(description="'left' if the file shows two hands: all other fields are its own; else null.")
    right_hand: RightHand | None = Field(description="The right hand of such a file; else null.")
    warnings: list[str] = Field(
        description="Codes: two_hands, hand_cut_off, sex_looks_wrong, sex_from_image, sex_unknown, age_looks_wrong, "
        "side_looks_wrong."
    )
    remarks: str = Field(description="The warnings as text.")
    reasons: list[str] = Field(description="Reason codes for the rejection.")
    detail: str = Field(description="The reasons as text.")
    model: str = Field(description="Name and digest of the model.")


class Problem(BaseModel):
    """Why a request was rejected."""

    detail: str


_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "Radiographs: PNG, JPEG, TIFF or DICOM. Repeat the field for several.",
                    },
                    "sex": {
                        "type": "string",
                        "enum": [*SEXES, UNKNOWN_SEX],
                        "default": UNKNOWN_SEX,
                        "description": "Sex for all files without a sex of their own (DICOM files have one).",
                    },
                    "chronological_age_months": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": MAX_AGE_MONTHS,
                        "description": "Chronological age for all files, in months; optional.",
                    },
                },
            },
            "encoding": {"files": {"contentType": "application/octet-stream"}},
            "examples": {
                "girl": {"summary": "A girl", "value": {"sex": "female"}},
                "boy": {"summary": "A boy of 10 1/2", "value": {"sex": "male", "chronological_age_months": 126}},
                "unknown": {"summary": "Unknown sex", "value": {"sex": "unknown"}},
            },
        }
    },
}
_PROBLEMS = {
    400: "The body cannot be parsed.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site.",
    408: "The upload took too long.",
    411: "The length of the body is not stated.",
    413: "Too many bytes or files.",
    415: "Not a multipart form.",
    422: "A field is missing or wrong.",
    503: "The server is busy; see Retry-After.",
}


def add_examples(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the response examples to the OpenAPI schema; FastAPI would drop their null values."""
    schema["components"]["schemas"]["Prediction"]["examples"] = [_EXAMPLE, _REFUSED]
    return schema


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems of a request for the OpenAPI schema, by status."""
    return {status: {"model": Problem, "description": _PROBLEMS[status]} for status in statuses}


def make_router(service: Service) -> APIRouter:
    """Make the routes of the REST API."""
    router = APIRouter(prefix="/api/v1")

    @router.post(
        "/predict",
        response_model=list[Prediction],
        responses=describe_problems(400, 401, 403, 408, 413, 415, 422, 503),
        openapi_extra={"requestBody": _FORM},
        summary="Read bone age in radiographs",
    )
    async def predict(request: Request) -> list[Prediction]:
        """Return a bone age or rejection reasons for every file, in the order sent.

        Research use: not a medical device.
        """
        answers = await service.answer(request, age_form=REST_AGE)
        return [describe_answer(answer, model=service.model.label) for answer in answers]

    return router


def describe_answer(answer: Answer, *, model: str) -> Prediction:
    """Convert an answer to the response model."""
    values = {name: getattr(answer, name) for name in Prediction.model_fields.keys() - {"model", "right_hand"}}
    values |= {"warnings": list(answer.warnings), "reasons": list(answer.reasons)}
    values["right_hand"] = answer.other and {name: getattr(answer.other, name) for name in RightHand.model_fields}
    return Prediction(model=model, **values)
