"""L, M and S: the power, the median and the coefficient of variation of a measurement among healthy children.

With them the standard deviation score of a measurement x is `((x / M)**L - 1) / (L * S)`, for L = 0 `ln(x / M) / S`
(Cole and Green 1992, doi:10.1002/sim.4780111005).
"""

import numpy as np
from jaxtyping import Float

Numbers = float | Float[np.ndarray, "..."]


def find_lms_score(value: Numbers, *, power: Numbers, median: Numbers, deviation: Numbers) -> Float[np.ndarray, "..."]:
    """Return the standard deviation score of a measurement by L, M and S.

    Args:
        value: The measurement, above 0; a number or an array, as the others.
        power: L, no unit.
        median: M, in the unit of the measurement.
        deviation: S, the coefficient of variation, no unit.

    Returns:
        The score, no unit, float64.

    Example:
        >>> float(find_lms_score(9.7, power=-0.1600954, median=9.476500305, deviation=0.11218624))  # CDC's, 9.7 kg
        0.20699...
    """
    logarithm = np.log(np.divide(value, median))
    # expm1 keeps its digits while L goes to 0.
    transformed = np.where(np.equal(power, 0), logarithm, np.expm1(power * logarithm) / _not_zero(power))
    return np.asarray(transformed / deviation)


def find_lms_value(score: Numbers, *, power: Numbers, median: Numbers, deviation: Numbers) -> Float[np.ndarray, "..."]:
    """Return the measurement that has a standard deviation score: the inverse of `find_lms_score`.

    Args:
        score: The score, no unit; a number or an array, as the others.
        power: L, no unit.
        median: M, in the unit of the measurement.
        deviation: S, no unit.

    Returns:
        The measurement, in the unit of the median, float64; 0 (for a negative L infinity) where no measurement has that
        score.
    """
    scaled = np.multiply(score, deviation)
    # Beyond -1 there is no measurement.
    inside = np.log1p(np.maximum(power * scaled, np.nextafter(-1, 0))) / _not_zero(power)
    exists = power * scaled > -1
    logarithm = np.where(np.equal(power, 0), scaled, inside)
    return np.asarray(np.where(exists, median * np.exp(logarithm), np.where(np.less(power, 0), np.inf, 0.0)))


def _not_zero(power: Numbers) -> Float[np.ndarray, "..."]:
    return np.where(np.equal(power, 0), 1.0, power)
