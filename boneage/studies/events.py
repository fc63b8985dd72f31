"""What bone age tells of an event to come, such as menarche: Cox regression on the advance of the bone age."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from boneage.evaluation.bootstrap import Estimate, number_groups
from boneage.studies.differences import NUM_SDS

MIN_EVENTS = 10
"""Events from which on a model is fitted."""


@dataclass(frozen=True)
class EventModel:
    """A Cox regression.

    Args:
        event: Name of the event.
        num_radiographs: Radiographs from before the event whose child was seen later.
        num_children: Children whom they show.
        num_events: Those of them to whom it happened.
        hazard_ratio: How many times as likely the event is at any age for each year by which the bone age is ahead of
            the chronological age, with its 95% interval; None if there are too few events.
        reason: Why there is none; empty if there is one.
    """

    event: str
    num_radiographs: int
    num_children: int
    num_events: int
    hazard_ratio: Estimate | None
    reason: str


def model_event(frame: pd.DataFrame, event: str) -> EventModel:
    """Model the age at an event by the advance of the bone age before it.

    The time is the age: a child counts from the radiograph on until the event, or until the age at which it was last
    seen. Sexes have baselines of their own. The interval is robust to several radiographs of one child (Lin and Wei
    1989, doi:10.1080/01621459.1989.10478874).

    Args:
        frame: `child`, `sex`, `chronological_age_months`, `bone_age_months`, `last_age_months`, and the age at the
            event in a column named after it, such as `menarche_months`; NaN where it had not happened.
        event: Name of the event.
    """
    happened = frame[f"{event}_months"].notna()
    until = frame[f"{event}_months"].where(happened, frame["last_age_months"])
    advance = (frame["bone_age_months"] - frame["chronological_age_months"]) / 12
    # A sex to whom it never happens, such as boys of menarche, has no baseline.
    can_happen = frame["sex"].isin(set(frame.loc[happened, "sex"]) - {""})
    is_used = (until > frame["chronological_age_months"]) & advance.notna() & can_happen
    used = frame[is_used]
    num_events = int(used.loc[happened[is_used], "child"].nunique())
    counts = {"num_radiographs": len(used), "num_children": int(used["child"].nunique()), "num_events": num_events}
    if num_events < MIN_EVENTS or np.ptp(advance[is_used]) == 0:
        reason = f"needs bone ages that differ, before {MIN_EVENTS} events" if num_events else "no bone age before one"
        return EventModel(event, **counts, hazard_ratio=None, reason=reason)
    # Imported here: it takes long, and only tables with events need it.
    from statsmodels.duration.hazard_regression import PHReg
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    at_risk = used[_find_at_risk(used, until[is_used], happened[is_used])]
    model = PHReg(
        until[at_risk.index].to_numpy(),
        advance[at_risk.index].to_numpy()[:, None],
        status=happened[at_risk.index].to_numpy(np.int64),
        entry=at_risk["chronological_age_months"].to_numpy(),
        strata=at_risk["sex"].to_numpy(),
        ties="efron",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fitted = model.fit(groups=number_groups(at_risk["child"].to_numpy()))
        except ConvergenceWarning:
            reason = "the fit does not converge: bone age tells the order of nearly all events"
            return EventModel(event, **counts, hazard_ratio=None, reason=reason)
    log_ratio, error = float(fitted.params[0]), float(fitted.bse[0])
    ends = (float(np.exp(log_ratio + side * NUM_SDS * error)) for side in (-1, 1))
    return EventModel(event, **counts, hazard_ratio=Estimate(float(np.exp(log_ratio)), *ends), reason="")


def _find_at_risk(used: pd.DataFrame, until: pd.Series, happened: pd.Series) -> pd.Series:
    """Return which radiographs count at an event of their sex at all; of the others the robust error is undefined."""
    at_risk = pd.Series(False, index=used.index)
    for _, own in used.groupby("sex"):
        events = np.sort(until[own.index][happened[own.index]])
        before = np.searchsorted(events, own["chronological_age_months"], side="right")
        at_risk[own.index] = np.searchsorted(events, until[own.index], side="right") > before
    return at_risk
