"""A growth reference from healthy children: L, M and S of the bone age by chronological age and sex."""

import dataclasses
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from boneage.base.errors import BoneAgeError
from boneage.base.files import check_output, write_text
from boneage.base.locks import lock_output
from boneage.base.spreadsheets import check_csv_name, format_frame
from boneage.evaluation.bootstrap import number_groups
from boneage.inference.growth_reference import LMS_COLUMNS
from boneage.inference.lms import find_lms_score, find_lms_value
from boneage.studies.columns import BONE_AGE, CHILD, CHRONOLOGICAL_AGE, SEX, Column, parse_sexes, read_columns, require
from boneage.studies.differences import NUM_SDS
from boneage.studies.lms_fit import LmsCurves, LmsFitError, fit_lms
from boneage.studies.reference_plot import Worm, make_worms, plot_curves, plot_worms
from boneage.tfrecords.schema import SEXES

MIN_CHILDREN = 50
"""Effective number of children around an age from which on the age is in the table."""
WINDOW_ROOT_MONTHS = 0.5
"""How far the root of an age may lie from that of another to be around it: 3.5 months at 1 year, 11 at 10 years."""
MIN_SIDE_SHARE = 0.1
"""Share of the children around an age who must be as old or younger, and as old or older."""
MIN_SPAN_MONTHS = 12
CENTILES = {f"p{percent}": NormalDist().inv_cdf(percent / 100) for percent in (3, 10, 25, 50, 75, 90, 97)}
"""Standard deviation scores of the centiles of the table."""
# The share of resamples without a fit that is still accepted.
_MAX_FAILED_SHARE = 0.1

# No `weight`: in a clinic's table that is the one in kg.
_COLUMNS = {
    "child": CHILD,
    "sex": SEX,
    "chronological_age_months": CHRONOLOGICAL_AGE,
    "bone_age_months": BONE_AGE,
    "sampling_weight": Column(("samplingweight", "surveyweight"), {"": 1.0}, high=1e9),
}
_NEEDED = ("sex", "chronological_age_months", "bone_age_months")


class ReferenceFitError(BoneAgeError):
    """Children of whom no growth reference can be made."""


@dataclasses.dataclass(frozen=True)
class SexFit:
    """The reference of one sex.

    Args:
        num_radiographs: Radiographs that it was fitted to.
        num_children: Children whom they show.
        from_age_months: The youngest age of the table, in months.
        to_age_months: The oldest.
        degrees: Effective degrees of freedom of L, M and S.
        outside_share: Share of the scores outside the 95% bands of the worm plot; at most about 0.05 if the curves fit.
    """

    num_radiographs: int
    num_children: int
    from_age_months: int
    to_age_months: int
    degrees: dict[str, float]
    outside_share: float


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceFit:
    """A growth reference that was fitted.

    Args:
        table: What was written: `sex`, `chronological_age_months`, `L`, `M`, `S`, `num_children` (the effective number
            around that age), and the centiles `p3_months` to `p97_months`, each with its 95% band `p3_low_months` to
            `p3_high_months`.
        by_sex: What is to know of each sex of the table.
        refused: Why a sex is not in the table, by sex.
        num_incomplete: Radiographs left out, without sex, age, bone age or weight, or where one of the last three is 0.
        num_thin: Radiographs left out, of ages around which there are too few children.
        num_failed: Resamples that could not be fitted.
    """

    table: pd.DataFrame
    by_sex: dict[str, SexFit]
    refused: dict[str, str]
    num_incomplete: int
    num_thin: int
    num_failed: int


def reference_fit(
    cohort: str | Path, *, out: str | Path, num_resamples: int = 200, seed: int = 0, min_children: int = MIN_CHILDREN
) -> ReferenceFit:
    """Fit a growth reference to the bone ages of healthy children, by the LMS method (Cole and Green 1992).

    An age is in the table if the effective number of children around it is at least `min_children`: the square of the
    sum of their weights over the sum of the squares, where a child with several radiographs weighs as much as all of
    them and counts as one. Around an age lie those whose root differs by at most `WINDOW_ROOT_MONTHS`; a tenth of them
    must lie on either side. Of several runs of such ages the longest counts, for a table has no gaps.

    Args:
        cohort: Table with a row for each radiograph: `sex`, `chronological_age_months`, `bone_age_months`; optionally
            `child`, and `sampling_weight` for those of whom more were measured than there are. Headings may state
            years.
        out: CSV to write, a growth reference for `--reference`; beside it, by the same name, `.png` with the curves and
            `-worms.png` with the worm plot (van Buuren and Fredriks 2001, doi:10.1002/sim.746).
        num_resamples: Bootstrap resamples of the children, each with a fit of its own; a 95% band is the centile
            plus and minus 1.96 of their standard deviations.
        seed: Seed of the resampling.
        min_children: Effective number of children around an age that the table needs.

    Returns:
        The reference.

    Raises:
        BoneAgeError: If the table cannot be used, or the children are too few.
        ValueError: If `out` does not end with .csv, or there are fewer than 2 resamples or children.
    """
    out = Path(out)
    check_csv_name("out", out)
    for name, number in (("num_resamples", num_resamples), ("min_children", min_children)):
        if number < 2:
            raise ValueError(f"`{name}` must be at least 2. Received: {number}.")
    check_output(out, is_folder=False)
    children, num_incomplete = read_children(cohort)
    of_sexes = {sex: children[children["sex"] == sex] for sex in SEXES}
    runs = {sex: _find_run(own, min_children=min_children) for sex, own in of_sexes.items()}
    refused = {
        sex: f"{own['child'].nunique():,} children, nowhere {min_children} around each age of {MIN_SPAN_MONTHS} months "
        "on end"
        for sex, own in of_sexes.items()
        if runs[sex] is None
    }
    if len(refused) == len(SEXES):
        reasons = "; ".join(f"{sex}: {reason}" for sex, reason in refused.items())
        raise ReferenceFitError(f"{cohort}: too few children for a reference ({reasons}).")
    with lock_output(out):
        tables, by_sex, worms = [], {}, {}
        used, num_failed = [], 0
        for sex, run in runs.items():
            if run is None:
                continue
            ages, numbers = run
            own = of_sexes[sex][of_sexes[sex]["chronological_age_months"].between(ages[0], ages[-1])]
            fitted, table, failed = _fit_sex(own, ages, sex=sex, num_resamples=num_resamples, seed=seed)
            table.insert(5, "num_children", numbers.round(1))
            tables.append(table)
            used.append(own)
            num_failed += failed
            worms[sex], by_sex[sex] = _describe(own, fitted, grid=ages)
        fit = ReferenceFit(
            table=pd.concat(tables, ignore_index=True),
            by_sex=by_sex,
            refused=refused,
            num_incomplete=num_incomplete,
            num_thin=len(children) - sum(map(len, used)),
            num_failed=num_failed,
        )
        plot_curves(fit.table, pd.concat(used), out.with_suffix(".png"))
        plot_worms(worms, out.with_name(f"{out.stem}-worms.png"))
        write_text(out, format_frame(fit.table))
    return fit


def _describe(own: pd.DataFrame, fitted: LmsCurves, *, grid: Float[np.ndarray, " ages"]) -> tuple[list[Worm], SexFit]:
    """Make the worms of one sex, and describe its fit."""
    ages, weights = own["chronological_age_months"].to_numpy(), own["sampling_weight"].to_numpy()
    worms = make_worms(ages, find_lms_score(own["bone_age_months"].to_numpy(), **_name(fitted.at(ages))), weights)
    return worms, SexFit(
        num_radiographs=len(own),
        num_children=int(own["child"].nunique()),
        from_age_months=int(grid[0]),
        to_age_months=int(grid[-1]),
        degrees={name: round(float(number), 2) for name, number in zip("LMS", fitted.degrees, strict=True)},
        outside_share=float(np.concatenate([worm.is_outside for worm in worms]).mean()),
    )


def to_report(fit: ReferenceFit) -> dict[str, object]:
    """Return what `boneage reference fit --json` prints."""
    fields = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    by_sex = {sex: dataclasses.asdict(found) for sex, found in fit.by_sex.items()}
    return {**fields, "by_sex": by_sex, "table": fit.table.to_dict("records")}


def read_children(path: str | Path) -> tuple[pd.DataFrame, int]:
    """Read a cohort for a growth reference.

    Args:
        path: Table as `reference_fit` takes it.

    Returns:
        The radiographs with all that is needed: `child` (`row 3` where unknown), `sex`, `chronological_age_months`,
        `bone_age_months` and `sampling_weight`, float64 above 0; and the number of the others.

    Raises:
        BoneAgeError: If the table cannot be used, or a child has two sexes.
    """
    frame = read_columns(path, _COLUMNS)
    require(frame, *_NEEDED, path=path)
    frame["sex"] = parse_sexes(frame["sex"], path=path)
    if "sampling_weight" not in frame:
        frame["sampling_weight"] = 1.0
    rows = pd.Series([f"row {number}" for number in frame.index], index=frame.index)
    # A radiograph of which nobody says whose it is counts as one of a child of its own.
    frame["child"] = frame["child"].where(frame["child"] != "", rows) if "child" in frame else rows
    numbers = frame[["chronological_age_months", "bone_age_months", "sampling_weight"]]
    complete = frame[(numbers > 0).all(axis=1) & (frame["sex"] != "")]
    sexes = complete.groupby("child")["sex"].nunique()
    if (sexes > 1).any():
        raise ReferenceFitError(f"{path}: child {sexes.idxmax()} has radiographs of both sexes; correct one.")
    return complete, len(frame) - len(complete)


def _find_run(
    own: pd.DataFrame, *, min_children: int
) -> tuple[Float[np.ndarray, " ages"], Float[np.ndarray, " ages"]] | None:
    """Find the longest run of whole months with enough children, and their effective numbers; None if it is short."""
    if own.empty:
        return None
    ages = own["chronological_age_months"].to_numpy()
    grid = np.arange(np.ceil(ages.min()), np.floor(ages.max()) + 1)
    codes, weights = number_groups(own["child"].to_numpy()), own["sampling_weight"].to_numpy()
    numbers = np.zeros(len(grid))
    for index, month in enumerate(grid):
        around = np.abs(np.sqrt(ages) - np.sqrt(month)) <= WINDOW_ROOT_MONTHS
        on_sides = [weights[around & side].sum() for side in (ages <= month, ages >= month)]
        # Else the age would be beyond the children.
        if min(on_sides) >= MIN_SIDE_SHARE * weights[around].sum() > 0:
            of_child = np.bincount(codes[around], weights=weights[around])
            numbers[index] = of_child.sum() ** 2 / (of_child**2).sum()
    run = _find_longest(numbers >= min_children)
    return None if run.stop - run.start <= MIN_SPAN_MONTHS else (grid[run], numbers[run])


def _find_longest(wanted: Bool[np.ndarray, " ages"]) -> slice:
    """Return the longest run of True."""
    changes = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False]))))
    starts, stops = changes[::2], changes[1::2]
    if not len(starts):
        return slice(0, 0)
    longest = int((stops - starts).argmax())
    return slice(int(starts[longest]), int(stops[longest]))


def _fit_sex(
    own: pd.DataFrame, grid: Float[np.ndarray, " ages"], *, sex: str, num_resamples: int, seed: int
) -> tuple[LmsCurves, pd.DataFrame, int]:
    """Fit one sex; returns the curves, the rows of the table, and how many resamples could not be fitted."""
    ages, values = own["chronological_age_months"].to_numpy(), own["bone_age_months"].to_numpy()
    codes = number_groups(own["child"].to_numpy())
    num_children = codes.max() + 1
    # Radiographs of one child are much alike: curves that took each for a child of its own would follow chance.
    weights = own["sampling_weight"].to_numpy() * num_children / own["sampling_weight"].sum()
    try:
        fitted = fit_lms(ages, values, weights=weights)
    except LmsFitError as error:
        raise ReferenceFitError(
            f"{sex}: {error}; look for bone ages that are wrong, such as those in another unit."
        ) from error
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(num_resamples):
        drawn = generator.multinomial(num_children, np.full(num_children, 1 / num_children))
        try:
            curves = fit_lms(ages, values, weights=weights * drawn[codes], start=fitted)
        except LmsFitError:
            continue
        resampled.append(_find_centiles(curves, grid))
    num_failed = num_resamples - len(resampled)
    if num_failed > _MAX_FAILED_SHARE * num_resamples:
        raise ReferenceFitError(f"{sex}: {num_failed} of {num_resamples} resamples cannot be fitted; add children.")
    reach = NUM_SDS * np.std(resampled, axis=0, ddof=1)
    columns: dict[str, object] = {"sex": sex, "chronological_age_months": grid.astype(int)}
    columns |= {name: column.round(6) for name, column in zip(LMS_COLUMNS[2:], fitted.at(grid), strict=True)}
    for name, centile, half in zip(CENTILES, _find_centiles(fitted, grid), reach, strict=True):
        columns |= {
            f"{name}_months": centile.round(2),
            f"{name}_low_months": (centile - half).round(2),
            f"{name}_high_months": (centile + half).round(2),
        }
    return fitted, pd.DataFrame(columns), num_failed


def _find_centiles(curves: LmsCurves, ages: Float[np.ndarray, " ages"]) -> Float[np.ndarray, "centiles ages"]:
    scores = np.array(list(CENTILES.values()))[:, None]
    return find_lms_value(scores, **_name(curves.at(ages)))


def _name(curves: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(("power", "median", "deviation"), curves, strict=True))
