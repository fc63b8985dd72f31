"""The REST interface: `POST /api/v1/predict`."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from boneage.web.readings import Answer
from boneage.web.service import Service
from boneage.web.uploads import MAX_AGE_MONTHS, UNKNOWN_SEX
from tfrecords.schema import SEXES

_EXAMPLE: dict[str, Any] = {
    "file": "1520.png",
    "accepted": True,
    "bone_age_months": 118.4,
    "low_months": 104.1,
    "high_months": 132.7,
    "sex": "female",
    "male_share": 0.0713,
    "chronological_age_months": 111.0,
    "difference_months": 7.4,
    "sds": 0.6,
    "warnings": [],
    "reasons": [],
    "detail": "",
    "model": "default (efficientnet_lite0) 0123456789ab",
}
_REFUSED: dict[str, Any] = {
    **_EXAMPLE,
    "file": "foot.png",
    "accepted": False,
    **dict.fromkeys(("bone_age_months", "low_months", "high_months", "male_share", "difference_months", "sds")),
    "reasons": ["no_hand"],
    "detail": "No hand was found in it.",
}


class Prediction(BaseModel):
    """What one file was answered."""

    file: str = Field(description="Name of the file as it was sent, without folders.")
    accepted: bool = Field(description="Whether there is a bone age.")
    bone_age_months: float | None = Field(description="Bone age in months; null where not accepted.")
    low_months: float | None = Field(description="Lower end of its interval; null where the model knows none.")
    high_months: float | None = Field(description="Upper end of its interval.")
    sex: str | None = Field(description="The sex that the answer holds for: female, male, or null.")
    male_share: float | None = Field(description="Probability of a boy by the image, in [0, 1]; null if not told.")
    chronological_age_months: float | None = Field(description="As sent, else as a DICOM file tells.")
    difference_months: float | None = Field(description="Bone age less chronological age.")
    sds: float | None = Field(description="Standard deviation score by the reference table; null if not known.")
    warnings: list[str] = Field(description="Codes: sex_looks_wrong, sex_from_image.")
    reasons: list[str] = Field(description="Codes that tell why there is no bone age.")
    detail: str = Field(description="The reasons in words.")
    model: str = Field(description="Name and digest of the model.")


class Problem(BaseModel):
    """Why a request was not answered."""

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
                        "description": "Sex of all the children; a DICOM file brings its own.",
                    },
                    "chronological_age_months": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": MAX_AGE_MONTHS,
                        "description": "Chronological age of all the children, in months; optional.",
                    },
                },
            },
            "encoding": {"files": {"contentType": "application/octet-stream"}},
            "examples": {
                "girl": {"summary": "A girl", "value": {"sex": "female"}},
                "boy": {"summary": "A boy of 10 1/2", "value": {"sex": "male", "chronological_age_months": 126}},
                "unknown": {"summary": "Sex not known", "value": {"sex": "unknown"}},
            },
        }
    },
}
_PROBLEMS = {
    400: "The form cannot be read.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site.",
    408: "The upload took too long.",
    413: "Too many bytes or files.",
    415: "Not a multipart form.",
    422: "A field is missing or wrong.",
    503: "Too many readings at the moment; see Retry-After.",
}


def add_examples(schema: dict[str, Any]) -> dict[str, Any]:
    """Put the examples of answers into the OpenAPI schema; FastAPI itself would drop what is null in them."""
    schema["components"]["schemas"]["Prediction"]["examples"] = [_EXAMPLE, _REFUSED]
    return schema


def make_router(service: Service) -> APIRouter:
    """Make the routes of the REST interface."""
    router = APIRouter(prefix="/api/v1")

    @router.post(
        "/predict",
        response_model=list[Prediction],
        responses={status: {"model": Problem, "description": told} for status, told in _PROBLEMS.items()},
        openapi_extra={"requestBody": _FORM},
        summary="Read bone age in radiographs",
    )
    async def predict(request: Request) -> list[Prediction]:
        """Answer for every file, in the order sent: a bone age, or the reasons why there is none.

        Research use: not a medical device.
        """
        answers = await service.answer(request, age_field="chronological_age_months", age_unit_months=1.0)
        return [describe_answer(answer, model=service.model.label) for answer in answers]

    return router


def describe_answer(answer: Answer, *, model: str) -> Prediction:
    """Return an answer as the interface gives it."""
    values = {name: getattr(answer, name) for name in Prediction.model_fields if name != "model"}
    values |= {"warnings": list(answer.warnings), "reasons": list(answer.reasons)}
    return Prediction(model=model, **values)
