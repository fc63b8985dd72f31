"""Growth curves by the LMS method: the distribution of a measurement at every age, fitted to one sex.

The logarithm of the median over the age, the logarithm of S, and L are cubic B-splines of the root of the age, with a
penalty on their second differences (of L on the first). The penalised likelihood of Cole and Green (1992,
doi:10.1002/sim.4780111005) is maximised by Fisher scoring with the information of their appendix, and the penalties are
those of the largest marginal likelihood (Wood and Fasiolo 2017, doi:10.1111/biom.12666).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline

from boneage.inference.lms import find_lms_score

Curve = Float[np.ndarray, " ages"]
Coefficients = Float[np.ndarray, "3 functions"]
Penalties = Float[np.ndarray, "3"]

_NUM_INTERVALS, _DEGREE = 14, 3
# Of L, M and S: the order of the differences that are penalised, and the smoothing from which the search starts.
_ORDERS = (1, 2, 2)
_START = (10.0, 10.0, 10.0)
_SMOOTHEST, _ROUGHEST = 1e7, 1e-3
_MAX_STEPS, _MAX_SEARCHES = 100, 60
# Of twice the logarithm of the likelihood: a thirtieth of the error of a curve.
_SMALL_GAIN = 1e-3
# Of the degrees of freedom of a curve, from one search to the next.
_SMALL_CHANGE = 0.02
# Medians and S of no children, where a step is too long; and L times S, beyond which the outer centiles do not exist
# (and from 0.83 on the information, an approximation for small S, is not positive definite).
_MAX_LOGARITHM, _MAX_SKEWNESS = 7.0, 0.5


class LmsFitError(ArithmeticError):
    """The likelihood has no maximum that can be found."""


@dataclass(frozen=True, eq=False)
class LmsCurves:
    """L, M and S by age.

    Args:
        ages_months: The youngest and the oldest age that they were fitted to, in months.
        coefficients: Of the splines of L, M and S, shape `(3, functions)`.
        degrees: Effective degrees of freedom of L, M and S, shape `(3,)`.
    """

    ages_months: tuple[float, float]
    coefficients: Coefficients
    degrees: Float[np.ndarray, "3"]

    def at(self, ages_months: Curve) -> tuple[Curve, Curve, Curve]:
        """Return L, M in months and S at ages within `ages_months`, each of shape `(ages,)`."""
        power, log_ratio, log_deviation = self.coefficients @ _make_basis(ages_months, self.ages_months).T
        return power, ages_months * np.exp(log_ratio), np.exp(log_deviation)


def fit_lms(
    ages_months: Curve, values: Curve, *, weights: Curve | None = None, start: LmsCurves | None = None
) -> LmsCurves:
    """Fit L, M and S by age, and how smooth they are.

    Args:
        ages_months: Ages, above 0, in months, shape `(ages,)`.
        values: The measurement at each, above 0, such as the bone age in months.
        weights: Weight of each, at least 0 (default: 1). One that weighs as much as n counts as n.
        start: Curves of much the same children, from which the search starts and whose range of ages it keeps.

    Raises:
        LmsFitError: If the likelihood has no maximum that can be found.
    """
    span = (float(ages_months.min()), float(ages_months.max())) if start is None else start.ages_months
    weights = np.ones(len(values)) if weights is None else weights
    basis = _make_basis(ages_months, span)
    size = basis.shape[1]
    coefficients = _find_start(size, ages_months, values, weights) if start is None else start.coefficients
    # Of one that is high the search would come down too slowly.
    penalties, degrees = np.array(_START), np.full(3, np.inf)
    for _ in range(_MAX_SEARCHES):
        coefficients, information = _maximise(coefficients, basis, ages_months, values, weights, penalties)
        covariance = np.linalg.inv(information + _join_penalties(penalties, size))
        before = degrees
        penalties, degrees = _improve_penalties(coefficients, covariance, penalties)
        if np.abs(degrees - before).max() < _SMALL_CHANGE:
            break
    return LmsCurves(span, coefficients, degrees)


def _make_basis(ages_months: Curve, span: tuple[float, float]) -> Float[np.ndarray, "ages functions"]:
    """Return the cubic B-splines with equal intervals of the root of the age; beyond the span its ends count."""
    low, high = np.sqrt(span)
    places = np.clip((np.sqrt(ages_months) - low) / (high - low), 0, 1) * _NUM_INTERVALS
    knots = np.arange(-_DEGREE, _NUM_INTERVALS + _DEGREE + 1, dtype=np.float64)
    dense: np.ndarray = BSpline.design_matrix(places, knots, _DEGREE).toarray()
    return dense


def _make_penalty(order: int, num_functions: int) -> Float[np.ndarray, "functions functions"]:
    differences = np.diff(np.eye(num_functions), order, axis=0)
    return differences.T @ differences


def _join_penalties(penalties: Penalties, num_functions: int) -> Float[np.ndarray, "all all"]:
    joined = np.zeros((3 * num_functions, 3 * num_functions))
    for number, (order, smoothing) in enumerate(zip(_ORDERS, penalties, strict=True)):
        own = slice(number * num_functions, (number + 1) * num_functions)
        joined[own, own] = smoothing * _make_penalty(order, num_functions)
    return joined


def _find_start(num_functions: int, ages: Curve, values: Curve, weights: Curve) -> Coefficients:
    """Start from a normal distribution with one ratio to the age and one coefficient of variation."""
    log_ratio = np.log(values / ages)
    middle = np.average(log_ratio, weights=weights)
    spread = np.sqrt(np.average((log_ratio - middle) ** 2, weights=weights))
    return np.repeat([[1.0], [middle], [np.log(spread)]], num_functions, axis=1)


def _maximise(
    coefficients: Coefficients,
    basis: Float[np.ndarray, "ages functions"],
    ages: Curve,
    values: Curve,
    weights: Curve,
    penalties: Penalties,
) -> tuple[Coefficients, Float[np.ndarray, "all all"]]:
    """Maximise the penalised likelihood; returns the coefficients, and the information without the penalty."""
    num_functions = basis.shape[1]
    penalty = _join_penalties(penalties, num_functions)
    height, gradient, information = _differentiate(coefficients, basis, ages, values, weights)
    height -= 0.5 * coefficients.ravel() @ penalty @ coefficients.ravel()
    for _ in range(_MAX_STEPS):
        flat = coefficients.ravel()
        slope = gradient - penalty @ flat
        step = np.linalg.solve(information + penalty, slope)
        gain = float(slope @ step)
        if gain < _SMALL_GAIN:
            return coefficients, information
        for share in 0.5 ** np.arange(12):
            tried = (flat + share * step).reshape(coefficients.shape)
            new_height, new_gradient, new_information = _differentiate(tried, basis, ages, values, weights)
            new_height -= 0.5 * tried.ravel() @ penalty @ tried.ravel()
            if new_height > height:
                break
        else:
            return coefficients, information
        coefficients, height, gradient, information = tried, new_height, new_gradient, new_information
    raise LmsFitError("no maximum of the likelihood was found")


def _differentiate(
    coefficients: Coefficients, basis: Float[np.ndarray, "ages functions"], ages: Curve, values: Curve, weights: Curve
) -> tuple[float, Float[np.ndarray, " all"], Float[np.ndarray, "all all"]]:
    """Return the log likelihood, its gradient, and the expected information (Cole and Green 1992, appendix)."""
    power, log_ratio, log_deviation = coefficients @ basis.T
    if np.abs(log_ratio).max() > _MAX_LOGARITHM or np.abs(log_deviation).max() > _MAX_LOGARITHM:
        return -np.inf, np.zeros(coefficients.size), np.eye(coefficients.size)
    median, deviation = ages * np.exp(log_ratio), np.exp(log_deviation)
    if np.abs(power * deviation).max() > _MAX_SKEWNESS:
        return -np.inf, np.zeros(coefficients.size), np.eye(coefficients.size)
    logarithm = np.log(values / median)
    scores = find_lms_score(values, power=power, median=median, deviation=deviation)
    likelihood = float(weights @ (power * logarithm - log_deviation - 0.5 * scores**2))
    excess = scores**2 - 1
    # d score / d L; its limit where L goes to 0.
    safe = np.where(np.abs(power) < 1e-4, 1.0, power)
    turn = np.where(
        np.abs(power) < 1e-4,
        0.5 * logarithm**2 / deviation,
        (np.exp(power * logarithm) * logarithm / deviation - scores) / safe,
    )
    slopes = np.stack([logarithm - scores * turn, scores / deviation + power * excess, excess])
    gradient = ((weights * slopes) @ basis).ravel()
    curvatures = {
        (0, 0): 1.75 * deviation**2,
        (0, 1): np.full_like(deviation, -0.5),
        (0, 2): power * deviation**2,
        (1, 1): 1 / deviation**2 + 2 * power**2,
        (1, 2): 2 * power,
        (2, 2): np.full_like(deviation, 2.0),
    }
    size = basis.shape[1]
    information = np.empty((3 * size, 3 * size))
    for (row, column), curvature in curvatures.items():
        block = basis.T @ ((weights * curvature)[:, None] * basis)
        information[row * size : (row + 1) * size, column * size : (column + 1) * size] = block
        information[column * size : (column + 1) * size, row * size : (row + 1) * size] = block
    return likelihood, gradient, information


def _improve_penalties(
    coefficients: Coefficients, covariance: Float[np.ndarray, "all all"], penalties: Penalties
) -> tuple[Penalties, Float[np.ndarray, "3"]]:
    """Move each penalty towards the largest marginal likelihood; also returns the degrees of freedom of each curve."""
    size = coefficients.shape[1]
    found, degrees = np.empty(3), np.empty(3)
    for number, (order, smoothing) in enumerate(zip(_ORDERS, penalties, strict=True)):
        own = slice(number * size, (number + 1) * size)
        penalty = _make_penalty(order, size)
        lost = smoothing * np.trace(covariance[own, own] @ penalty)
        roughness = float(coefficients[number] @ penalty @ coefficients[number])
        degrees[number] = size - lost
        found[number] = np.clip((size - order - lost) / max(roughness, 1e-12), _ROUGHEST, _SMOOTHEST)
    return found, degrees
