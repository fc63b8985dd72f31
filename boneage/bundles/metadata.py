"""What the metadata of a bundle must hold: a bundle may come from a stranger, who can make its digest as well."""

from typing import Annotated, Any, Literal, Self

import pydantic

from boneage.configuration.training import TTA_TRANSFORMS
from boneage.tfrecords.schema import SEXES

MAX_INPUT_SIZE_PX = 4096

_Line = tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]
_Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


# Those of `boneage.evaluation.metrics`, which lies above.
BANDS = ("0-5", "5-10", "10-13", "13-16", "16+")


class _Youngest(pydantic.BaseModel):
    up_to_months: pydantic.FiniteFloat
    offset_months: pydantic.FiniteFloat


class _Oldest(pydantic.BaseModel):
    from_months: pydantic.FiniteFloat
    offset_months: pydantic.FiniteFloat


class _Interval(pydantic.BaseModel):
    """Half widths, or offsets of both ends, in months, by sex and band of age."""

    half_width_months: dict[str, dict[str, pydantic.FiniteFloat]] | None = None
    offsets_months: dict[str, dict[str, _Line]] | None = None
    youngest: dict[str, _Youngest] = pydantic.Field(default_factory=dict)
    oldest: dict[str, _Oldest] = pydantic.Field(default_factory=dict)
    coverage_share: float | None = pydantic.Field(None, ge=0, le=1)
    measured_coverage_share: float | None = pydantic.Field(None, ge=0, le=1)

    @pydantic.model_validator(mode="after")
    def _check_cells(self) -> Self:
        cells = self.half_width_months or self.offsets_months or {}
        if any(set(BANDS) - cells.get(sex, {}).keys() for sex in SEXES):
            raise ValueError(f"needs the sexes {', '.join(SEXES)} with the bands {', '.join(BANDS)}")
        return self


class _Calibration(pydantic.BaseModel):
    female: _Line
    male: _Line


class _Metadata(pydantic.BaseModel):
    """The fields that inference uses; others are free."""

    model_config = pydantic.ConfigDict(strict=True)

    task: Literal["age", "sex"]
    input_size: int = pydantic.Field(ge=1, le=MAX_INPUT_SIZE_PX)
    use_sex: bool
    chronological_age: Literal["none", "input", "relative"] = "none"
    tta: str = pydantic.Field(pattern="|".join(f"^{name}$" for name in TTA_TRANSFORMS))
    fingerprint: str = pydantic.Field(max_length=64)
    preprocessing: dict[str, Any] = pydantic.Field(default_factory=dict)
    sha256: dict[str, _Sha256]
    boneage_version: str = pydantic.Field("", max_length=64)
    network: str | None = pydantic.Field(None, max_length=200)
    licence: str | None = pydantic.Field(None, max_length=1000)
    validation_error: float | None = None
    interval: Annotated[_Interval | None, pydantic.Field(strict=False)] = None
    interval_without_age: Annotated[_Interval | None, pydantic.Field(strict=False)] = None
    calibration: Annotated[_Calibration | None, pydantic.Field(strict=False)] = None


def find_fault(metadata: dict[str, Any]) -> str:
    """Return what is wrong with metadata in one line, empty if nothing is."""
    try:
        _Metadata.model_validate(metadata)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
