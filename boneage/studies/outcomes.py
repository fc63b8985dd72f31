"""How far predicted adult heights lie from those that children reached, and what bone age tells of later events."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.base.files import check_output, write_json, write_text
from boneage.base.locks import lock_folder
from boneage.base.spreadsheets import format_frame
from boneage.evaluation.bootstrap import Estimate, resample
from boneage.studies.events import EventModel, model_event
from boneage.studies.outcomes_plot import plot_outcomes
from boneage.studies.outcomes_table import OutcomesError, read_outcomes

METHODS_FILE, DIFFERENCES_FILE, AGES_FILE = "methods.csv", "differences.csv", "ages.csv"
REPORT_FILE, FIGURE_FILE = "outcomes.json", "outcomes.png"
GPPE_YEARS = {"female": (8, 16), "male": (10, 18)}
"""Ages over which the growth potential prediction error is averaged: from the first up to the second, in years."""
MIN_PER_YEAR = 5
"""Radiographs of one year of age and sex from which on their standard deviation counts."""
_CODES = {"female": 0.0, "male": 1.0}
_NUM_YEARS = 8
_NUM_CLASSES = len(GPPE_YEARS) * _NUM_YEARS
Values = Float[np.ndarray, "*resamples radiographs"]


@dataclasses.dataclass(frozen=True)
class MethodOutcome:
    """The errors of one method on the radiographs that all methods answered.

    Args:
        method: Name of the method.
        group: `all`, `female` or `male`.
        num_radiographs: Radiographs that all methods answered.
        num_children: Children whom they show.
        num_unanswered: Radiographs that this method did not answer.
        bias_cm: Mean of predicted less reached height.
        rmse_cm: Root of the mean of its square.
        gppe_percent: Growth potential prediction error: the standard deviation of the error of the growth potential,
            (adult height − height) / adult height, within each year of age, averaged over `GPPE_YEARS`; None where
            heights or ages are unknown or too few. Of `all` the mean of girls and boys.

    The ends of the intervals are NaN where all radiographs are of one child.
    """

    method: str
    group: str
    num_radiographs: int
    num_children: int
    num_unanswered: int
    bias_cm: Estimate
    rmse_cm: Estimate
    gppe_percent: Estimate | None


@dataclasses.dataclass(frozen=True)
class MethodDifference:
    """Two methods on the same radiographs, the first less the second.

    Args:
        first: Name of the first method.
        second: Name of the second.
        group: `all`, `female` or `male`.
        rmse_cm: Difference of the RMSE.
        gppe_percent: Difference of the growth potential prediction error; None where it is unknown.
    """

    first: str
    second: str
    group: str
    rmse_cm: Estimate
    gppe_percent: Estimate | None


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of children, beside what was predicted.

    Args:
        methods: The errors of each method, by group.
        differences: Each two methods, by group.
        ages: By `method`, `sex` and `age_years`: `num_radiographs`, and `sd_percent`, the standard deviation of the
            error of the growth potential, NaN of fewer than `MIN_PER_YEAR`.
        events: What bone age tells of each event.
        num_without_height: Radiographs whose child has no adult height.
    """

    methods: list[MethodOutcome]
    differences: list[MethodDifference]
    ages: pd.DataFrame
    events: list[EventModel]
    num_without_height: int


def outcomes(cohort: str | Path, *, out: str | Path, num_resamples: int = 1000, seed: int = 0) -> Outcomes:
    """Measure predictions of adult height by the heights reached, and bone age by menarche and growth spurt.

    Args:
        cohort: Table with a row for each radiograph, see `boneage.studies.outcomes_table.read_outcomes`.
        out: Folder for `methods.csv`, `differences.csv`, `ages.csv`, `outcomes.png` and `outcomes.json`.
        num_resamples: Bootstrap resamples of the children.
        seed: Seed of the resampling.

    Returns:
        The errors of each method, the differences between methods, and the models of the events.

    Raises:
        BoneAgeError: If the table cannot be used, or another process writes `out`.
    """
    check_output(Path(out), is_folder=True)
    table = read_outcomes(cohort)
    events = [model_event(table.frame, event) for event in table.events]
    frame = table.frame[table.frame["final_height_cm"].notna()]
    predicted = table.predicted.loc[frame.index]
    answered = predicted.notna().all(axis=1)
    paired, predicted_of_all = frame[answered], predicted[answered]
    if paired.empty and len(predicted.columns):
        raise OutcomesError(
            f"{cohort}: no radiograph has the height that was reached and an answer of all methods; fill them in, or "
            "leave out the columns of the predictions."
        )
    methods, differences, ages = [], [], []
    if len(predicted.columns):
        for group in ("all", *GPPE_YEARS):
            is_in = np.full(len(paired), True) if group == "all" else (paired["sex"] == group).to_numpy()
            if not is_in.any() or (group == "all" and (paired["sex"] == "").all()):
                continue
            own, missing = paired[is_in], predicted.isna()
            estimates = estimate_errors(own, predicted_of_all[is_in], num_resamples=num_resamples, seed=seed)
            of_group = slice(None) if group == "all" else frame["sex"] == group
            for method in predicted:
                methods.append(
                    MethodOutcome(
                        method=str(method),
                        group=group,
                        num_radiographs=len(own),
                        num_children=int(own["child"].nunique()),
                        num_unanswered=int(missing.loc[of_group, method].sum()),
                        bias_cm=estimates[f"{method} bias"],
                        rmse_cm=estimates[f"{method} rmse"],
                        gppe_percent=estimates.get(f"{method} gppe"),
                    )
                )
            for first, second in itertools.combinations(map(str, predicted), 2):
                name = f"{first} - {second}"
                differences.append(
                    MethodDifference(first, second, group, estimates[f"{name} rmse"], estimates.get(f"{name} gppe"))
                )
        ages = [row for method in predicted for row in _list_ages(paired, predicted_of_all[method])]
    found = Outcomes(
        methods,
        differences,
        pd.DataFrame(ages, columns=["method", "sex", "age_years", "num_radiographs", "sd_percent"]),
        events,
        num_without_height=len(table.frame) - len(frame),
    )
    out = Path(out)
    with lock_folder(out):
        write_text(out / METHODS_FILE, format_frame(_tabulate(found.methods), float_format="%.3f"))
        write_text(out / DIFFERENCES_FILE, format_frame(_tabulate(found.differences), float_format="%.3f"))
        write_text(out / AGES_FILE, format_frame(found.ages, float_format="%.3f"))
        if found.methods:
            plot_outcomes(paired, predicted_of_all, found.ages, out / FIGURE_FILE)
        write_json(out / REPORT_FILE, to_report(found))
    return found


def to_report(found: Outcomes) -> dict[str, object]:
    """Return what is written as JSON."""
    ages = found.ages.astype(object).where(found.ages.notna(), None).to_dict("records")
    return {
        "methods": [_to_dict(method) for method in found.methods],
        "differences": [_to_dict(difference) for difference in found.differences],
        "ages": ages,
        "events": [dataclasses.asdict(event) for event in found.events],
        "num_without_height": found.num_without_height,
    }


def _to_dict(found: "MethodOutcome | MethodDifference") -> dict[str, object]:
    """Make a dictionary in which the ends of an interval that cannot be given are None."""

    def to_item(value: object) -> object:
        if not isinstance(value, Estimate):
            return value
        return {name: None if np.isnan(number) else number for name, number in dataclasses.asdict(value).items()}

    return {field.name: to_item(getattr(found, field.name)) for field in dataclasses.fields(found)}


def find_growth_potential(height_cm: Values, adult_cm: Values) -> Values:
    """Return the growth potential: the share of the adult height that is still to grow, in percent.

    Args:
        height_cm: Height, in cm.
        adult_cm: Adult height, reached or predicted, in cm.
    """
    potential: Values = 100 * (adult_cm - height_cm) / adult_cm
    return potential


def average_deviations(errors: Values, years: Values, sexes: Values) -> Values:
    """Return the standard deviation within each year of age and sex, averaged over `GPPE_YEARS`, then over the sexes.

    Args:
        errors: Of the growth potential, in percent.
        years: Age in whole years; NaN where unknown.
        sexes: 0 for girls, 1 for boys.

    Returns:
        The average, shape `(*resamples)`; NaN where no year has `MIN_PER_YEAR` errors.
    """
    classes = np.full(np.shape(errors), _NUM_CLASSES)  # the last is that of all others
    for number, (sex, (first, last)) in enumerate(GPPE_YEARS.items()):
        is_in = (sexes == _CODES[sex]) & (years >= first) & (years < last) & ~np.isnan(errors)
        classes = np.where(is_in, number * _NUM_YEARS + np.where(is_in, years, first) - first, classes)
    resamples = classes.reshape(-1, np.shape(errors)[-1]).astype(np.int64)
    places = resamples + (_NUM_CLASSES + 1) * np.arange(len(resamples))[:, None]
    centred = np.nan_to_num(errors - np.nanmean(errors)) if np.isfinite(errors).any() else np.zeros(np.shape(errors))
    count, total, squares = (
        np.bincount(places.ravel(), weights, minlength=len(resamples) * (_NUM_CLASSES + 1))
        .reshape(len(resamples), -1)[:, :_NUM_CLASSES]
        .reshape(len(resamples), len(GPPE_YEARS), _NUM_YEARS)
        for weights in (None, centred.ravel(), centred.ravel() ** 2)
    )
    variances = (squares - total**2 / np.maximum(count, 1)) / np.maximum(count - 1, 1)
    deviations = np.where(count >= MIN_PER_YEAR, correct_deviation(np.sqrt(np.maximum(variances, 0)), count), np.nan)
    return _average(_average(deviations)).reshape(np.shape(errors)[:-1])


def correct_deviation(sd: Values, number: Values) -> Values:
    """Return standard deviations of at least two normal values without what they lack on average.

    That of `n` values is too small by the factor 4 (n - 1) / (4 n - 3), up to terms of 1 / n^2.
    """
    corrected: Values = sd * (4 * number - 3) / (4 * np.maximum(number - 1, 1))
    return corrected


def _average(values: Values) -> Values:
    """Return the mean over the last axis of those that are known."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


def estimate_errors(
    own: pd.DataFrame, predicted: pd.DataFrame, *, num_resamples: int, seed: int
) -> dict[str, Estimate]:
    """Estimate the errors of methods, and the differences of each two, with 95% intervals by bootstrap over children.

    Args:
        own: A row for each radiograph, as `OutcomesTable.frame`.
        predicted: Of the same rows, as `OutcomesTable.predicted`, without gaps.
        num_resamples: Bootstrap resamples of the children.
        seed: Seed of the resampling.

    Returns:
        `"NAME bias"` and `"NAME rmse"` in cm, `"NAME gppe"` in percent, and `"FIRST - SECOND rmse"`,
        `"FIRST - SECOND gppe"`; the last of each are left out where they are unknown.
    """
    names = [str(name) for name in predicted]
    height, final = own["height_cm"].to_numpy(), own["final_height_cm"].to_numpy()
    years = np.floor(own["chronological_age_months"].to_numpy() / 12)
    sexes = own["sex"].map(_CODES).to_numpy(np.float64)

    def compute(height: Values, final: Values, years: Values, sexes: Values, *answers: Values) -> dict[str, Values]:
        found = {}
        for name, answer in zip(names, answers, strict=True):
            error = answer - final
            found[f"{name} bias"] = error.mean(axis=-1)
            found[f"{name} rmse"] = np.sqrt((error**2).mean(axis=-1))
            of_potential = find_growth_potential(height, answer) - find_growth_potential(height, final)
            found[f"{name} gppe"] = average_deviations(of_potential, years, sexes)
        for first, second in itertools.combinations(names, 2):
            for metric in ("rmse", "gppe"):
                found[f"{first} - {second} {metric}"] = found[f"{first} {metric}"] - found[f"{second} {metric}"]
        return found

    values = (height, final, years, sexes, *(predicted[name].to_numpy() for name in predicted))
    groups = own["child"].to_numpy()
    resampled = resample(compute, *values, num_resamples=num_resamples, seed=seed, groups=groups)
    num_children = own["child"].nunique()
    return {
        name: _find_interval(
            float(value),
            resampled[name],
            num_children=num_children,
            is_positive=name in {f"{method} {metric}" for method in names for metric in ("rmse", "gppe")},
        )
        for name, value in compute(*values).items()
        if np.isfinite(value)
    }


def _find_interval(
    value: float, resampled: Float[np.ndarray, " resamples"], *, num_children: int, is_positive: bool
) -> Estimate:
    """Return the 95% interval by Student's t from the standard deviation of the resamples; NaN ends for one child.

    Resamples repeat some of the children, so that root mean squares and deviations are too small in most of them, and
    percentiles would lie too low. What cannot be negative has its interval on the scale of the logarithm.
    """
    # Imported here: it takes long, and only studies need it.
    from scipy.stats import t

    defined = resampled[np.isfinite(resampled)]
    if num_children < 2 or len(defined) < 2:
        return Estimate(value, np.nan, np.nan)
    reach = float(t.ppf(0.975, num_children - 1)) * np.sqrt(num_children / (num_children - 1))
    if is_positive and value > 0 and (defined > 0).all():
        ratio = np.exp(reach * np.log(defined).std(ddof=1))
        return Estimate(value, float(value / ratio), float(value * ratio))
    sd = defined.std(ddof=1)
    return Estimate(value, float(value - reach * sd), float(value + reach * sd))


def _list_ages(own: pd.DataFrame, answers: pd.Series) -> list[dict[str, object]]:
    """List the standard deviation of the error of the growth potential by sex and year of age."""
    errors = find_growth_potential(own["height_cm"], answers) - find_growth_potential(
        own["height_cm"], own["final_height_cm"]
    )
    rows: list[dict[str, object]] = []
    for (sex, year), of_year in errors.groupby([own["sex"], np.floor(own["chronological_age_months"] / 12)]):
        known = of_year.dropna()
        if sex and len(known):
            sd = float(correct_deviation(np.array(known.std()), np.array(len(known))))
            row = {"sex": sex, "age_years": int(year), "num_radiographs": len(known)}
            row["sd_percent"] = sd if len(known) >= MIN_PER_YEAR else np.nan
            rows.append({"method": answers.name, **row})
    return rows


def _tabulate(found: "list[MethodOutcome] | list[MethodDifference]") -> pd.DataFrame:
    """Make a row of each, an estimate as three columns."""
    rows = []
    for item in found:
        row: dict[str, object] = {}
        for field in dataclasses.fields(item):
            value = getattr(item, field.name)
            if isinstance(value, Estimate):
                row |= {field.name: value.value, f"{field.name}_from": value.low, f"{field.name}_to": value.high}
            else:
                row[field.name] = value
        rows.append(row)
    return pd.DataFrame(rows)
