"""Properties of the measured bone age in a structured report (PS3.16 TID 310): uncertainty, score, normal range."""

from highdicom.sr import (
    MeasurementProperties,
    MeasurementStatisticalProperties,
    NormalRangeProperties,
    NumContentItem,
    RelationshipTypeValues,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from boneage.inference.reading import Reading
from boneage.inference.reports.wording import has_interval, is_open

MONTHS = Code("mo", "UCUM", "month")
# PS3.16 CID 222.
_NORMALITIES = {
    "delayed": codes.SCT.AbnormallyLow,
    "normal": codes.SCT.Normal,
    "advanced": codes.SCT.AbnormallyHigh,
    "indeterminate": codes.SCT.NormalityUndetermined,
}


def make_properties(reading: Reading) -> MeasurementProperties:
    """Make the properties of a reading: interval, normality, score and centile with their reference, normal range."""
    comparison = reading.comparison
    statistics = normal_range = None
    if not comparison.missing:
        statistics = MeasurementStatisticalProperties(
            [
                _number(codes.DCM.ZScoreOfMeasurement, comparison.sds, codes.UCUM.NoUnits),
                _number(codes.DCM.PercentileRankingOfMeasurement, comparison.centile, codes.UCUM.Percent),
            ],
            description=comparison.reference,
        )
    if comparison.normal_months is not None:
        low, high = (float(round(end)) for end in comparison.normal_months)
        normal_range = NormalRangeProperties(
            [
                _number(codes.SCT.NormalRangeLowerLimit, low, MONTHS),
                _number(codes.SCT.NormalRangeUpperLimit, high, MONTHS),
            ],
            description="Two standard deviations about the mean",
            authority=comparison.reference,
        )
    properties = MeasurementProperties(
        normality=_NORMALITIES.get(comparison.determination),
        measurement_statistical_properties=statistics,
        normal_range_properties=normal_range,
    )
    if has_interval(reading):
        months = max(reading.bone_age_months, 0.0)
        # highdicom's arguments for these set no unit.
        if not is_open(reading):
            reach = reading.high_months - months
            properties.append(_number(codes.SCT.RangeOfUpperMeasurementUncertainty, reach, MONTHS))
        reach = months - reading.low_months
        properties.append(_number(codes.SCT.RangeOfLowerMeasurementUncertainty, reach, MONTHS))
    return properties


def _number(name: Code, value: float, unit: Code) -> NumContentItem:
    return NumContentItem(name, round(value, 1), unit, relationship_type=RelationshipTypeValues.HAS_PROPERTIES)
