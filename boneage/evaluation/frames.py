"""Tables of predictions and labels: joined by id, and checked."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from boneage.base.errors import BoneAgeError
from boneage.tfrecords.schema import SEXES

LABEL_COLUMNS = ("id", "sex", "bone_age_months")
PREDICTION_COLUMNS = ("id", "predicted_months")
COLUMNS = (*LABEL_COLUMNS, "predicted_months")
OPTIONAL_COLUMNS = ("group", "determination", "without_age")


class EvaluationError(BoneAgeError):
    """Raised if predictions and labels cannot be evaluated or compared."""


def join_labels(predictions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Join predictions to labels by id.

    Args:
        predictions: Columns `id` and `predicted_months`.
        labels: Columns `id`, `sex` ("female", "male" or missing) and `bone_age_months`.

    Returns:
        One row per id, sorted by id, with the columns that `summarise` reads.

    Raises:
        EvaluationError: If a column is missing, an id occurs twice, or an id is on one side only.
    """
    predicted = _by_id(predictions, name="predictions", columns=PREDICTION_COLUMNS)
    labelled = _by_id(labels, name="labels", columns=LABEL_COLUMNS)
    require_same_ids(predicted, labelled, names=("predictions", "labels"))
    return labelled.join(predicted).reset_index()[list(COLUMNS)]


def check_frame(frame: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Index predictions with labels by id, and check their values.

    The rows are sorted, so that their order does not affect the bootstrap.

    Args:
        frame: See `boneage.evaluation.summarise.summarise`.
        name: Name of the frame in errors.

    Raises:
        EvaluationError: If the frame is empty, lacks a column, or contains a value that is not allowed.
    """
    optional = [column for column in OPTIONAL_COLUMNS if column in frame.columns]
    frame = _by_id(frame, name=name, columns=(*COLUMNS, *optional))
    if frame.empty:
        raise EvaluationError(f"`{name}` contains no images. Give at least one row.")
    for column in ("bone_age_months", "predicted_months"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce").astype(float)
        not_finite = frame.index[~np.isfinite(frame[column])]
        raise_for_ids(not_finite, f"`{name}` has no finite `{column}` for", fix="Correct or drop these rows.")
    negative = frame.index[frame["bone_age_months"] < 0]
    raise_for_ids(negative, f"`{name}` has a negative `bone_age_months` for", fix="Labels are months from 0.")
    other_sex = frame.index[frame["sex"].notna() & ~frame["sex"].isin(SEXES)]
    raise_for_ids(
        other_sex, f"`{name}` has a `sex` other than {' or '.join(SEXES)} for", fix="Leave an unknown sex empty."
    )
    return frame


def _by_id(frame: pd.DataFrame, *, name: str, columns: Collection[str]) -> pd.DataFrame:
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        received = ", ".join(map(str, frame.columns))
        raise EvaluationError(f"`{name}` needs the columns {', '.join(columns)}. Received: {received}.")
    if frame["id"].isna().any():
        raise EvaluationError(f"`{name}` has rows without an id. Give every image its id.")
    # A table read from a file turns "1377" into a number: ids are text on both sides of every join.
    frame = frame[list(columns)].assign(id=frame["id"].astype(str)).set_index("id").sort_index()
    repeated = frame.index[frame.index.duplicated()].unique()
    raise_for_ids(repeated, f"`{name}` has more than one row for", fix="Keep one row per image.")
    return frame


def require_same_ids(a: pd.DataFrame, b: pd.DataFrame, *, names: tuple[str, str]) -> None:
    """Raise if two frames, indexed by id, do not hold the same images; `names` are theirs."""
    for held, lacking, (holder, lacker) in ((a, b, names), (b, a, names[::-1])):
        missing = held.index.difference(lacking.index)
        raise_for_ids(missing, f"`{lacker}` lacks images of `{holder}`:", fix="Both must hold the same images.")


def raise_for_ids(ids: pd.Index, problem: str, *, fix: str) -> None:
    """Raise if there are any ids, naming the first of them."""
    if len(ids):
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        raise EvaluationError(f"{problem} {', '.join(ids[:5])}{more}. {fix}")
