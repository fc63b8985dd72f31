"""What readings differ by: components of variance of radiographs, readers and sessions, by a mixed model.

The radiograph, and what a reader sees otherwise in it than others each time, are random effects (`MixedLM` of
statsmodels, restricted maximum likelihood). The bias of each reader in each session is a fixed effect, for readers are
few; the variances of readers and sessions are those of the biases, less what they vary by chance.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from boneage.studies.readings import MODEL

_MIN_RADIOGRAPHS = 3


@dataclass(frozen=True)
class Components:
    """Standard deviations of readings by what they differ by, in months; 0 where they differ no more than by chance.

    Args:
        num_radiographs: Radiographs that the readings are of.
        radiograph: Of the children.
        reader: Of the readers' habits; None of one reader.
        session: Of what changes a reader's habit from one session to another; None where nobody read twice.
        reader_of_radiograph: Of what a reader sees otherwise in a radiograph each time; None where nobody read twice.
        rest: Of the rest: the error of one reading, with `reader_of_radiograph` in it where that is None.
    """

    num_radiographs: int
    radiograph: float
    reader: float | None
    session: float | None
    reader_of_radiograph: float | None
    rest: float


def find_components(readings: pd.DataFrame) -> Components | None:
    """Find the components of variance of readings; those of a model do not count.

    Args:
        readings: Columns `id`, `reader`, `session` and `months`, not everybody needs to have read everything.

    Returns:
        The components; None where fewer than three radiographs were read twice, or no fit is found.
    """
    own = readings[readings["reader"] != MODEL]
    num_read_twice = int((own["id"].value_counts() >= 2).sum())
    if num_read_twice < _MIN_RADIOGRAPHS:
        return None
    is_repeated = bool(own.duplicated(["id", "reader"]).any())
    cells = own.groupby(["reader", "session"], sort=True).ngroup()
    frame = pd.DataFrame(
        {
            "months": own["months"] - own["months"].mean(),
            "id": own["id"].to_numpy(),
            "reader": own["reader"].to_numpy(),
            "cell": cells.map("{:04d}".format),
        }
    )
    # Imported here: it takes long, and only studies need it.
    from statsmodels.formula.api import mixedlm

    with warnings.catch_warnings():
        # Of a component that is 0, whose fit lies on the edge of what is possible.
        warnings.simplefilter("ignore")
        try:
            within = {"reader": "0 + C(reader)"} if is_repeated else None
            model = mixedlm("months ~ 0 + C(cell)", frame, groups="id", re_formula="1", vc_formula=within)
            fitted = model.fit(reml=True)
        except (np.linalg.LinAlgError, ValueError):
            return None
    variances = [float(fitted.cov_re.iloc[0, 0]), float(fitted.scale), *map(float, fitted.vcomp)]
    if not np.isfinite(variances).all():
        return None
    num_cells = frame["cell"].nunique()
    biases = fitted.fe_params.to_numpy()
    covariance = fitted.cov_params().to_numpy()[:num_cells, :num_cells]
    readers = own.groupby(cells)["reader"].first()
    reader, session = _divide(biases, covariance, pd.factorize(readers)[0])
    radiograph, rest, *of_reader = map(_root, variances)
    return Components(
        num_radiographs=int(own["id"].nunique()),
        radiograph=radiograph,
        reader=None if reader is None else _root(reader),
        session=None if session is None else _root(session),
        reader_of_radiograph=of_reader[0] if of_reader else None,
        rest=rest,
    )


def _divide(
    biases: Float[np.ndarray, " cells"], covariance: Float[np.ndarray, "cells cells"], readers: np.ndarray
) -> tuple[float | None, float | None]:
    """Return the variances of readers and of the sessions of a reader, less those of the errors of the biases."""
    numbers = np.bincount(readers)
    means = np.equal.outer(np.arange(len(numbers)), readers) / numbers[:, None]

    def find_variance(contrasts: np.ndarray, degrees: int) -> float | None:
        if not degrees:
            return None
        by_chance = np.trace(contrasts @ covariance @ contrasts.T)
        return float((np.sum((contrasts @ biases) ** 2) - by_chance) / degrees)

    session = find_variance(np.eye(len(readers)) - means[readers], len(readers) - len(numbers))
    centring = np.eye(len(numbers)) - 1 / len(numbers)
    reader = find_variance(centring @ means, len(numbers) - 1)
    if reader is not None and session is not None:
        reader -= max(session, 0.0) * float(np.mean(1 / numbers))
    return reader, session


def _root(variance: float) -> float:
    return math.sqrt(max(variance, 0.0))
