import dataclasses

import numpy as np
import pandas as pd
import pytest

from boneage.studies.components import find_components
from boneage.studies.correlation import find_mean_squares

TRUTH = {"radiograph": 40.0, "reader": 4.0, "session": 3.0, "reader_of_radiograph": 5.0, "rest": 6.0}


def simulate(*, seed, num_radiographs=40, num_readers=5, num_sessions=2, missing_share=0.0):
    rng = np.random.default_rng(seed)
    shape = (num_radiographs, num_readers, num_sessions)
    months = 120 + rng.normal(0, TRUTH["radiograph"], shape[:1])[:, None, None]
    months = months + rng.normal(0, TRUTH["reader"], num_readers)[:, None]
    months = months + rng.normal(0, TRUTH["session"], shape[1:])
    months = months + rng.normal(0, TRUTH["reader_of_radiograph"], shape[:2])[..., None]
    months = months + rng.normal(0, TRUTH["rest"], shape)
    ids, readers, sessions = (index.astype(str).ravel() for index in np.indices(shape))
    frame = pd.DataFrame({"id": ids, "reader": readers, "session": sessions, "months": months.ravel()})
    return frame[rng.random(len(frame)) >= missing_share]


def test_find_components_without_sessions_or_gaps_is_the_analysis_of_variance():
    frame = simulate(seed=0, num_sessions=1)
    found = find_components(frame)
    squares = find_mean_squares(frame.pivot(index="id", columns="reader", values="months").to_numpy())
    assert found.radiograph**2 == pytest.approx((squares.between - squares.error) / 5, rel=1e-3)
    assert found.reader**2 == pytest.approx((squares.readers - squares.error) / 40, rel=1e-3)
    assert found.rest**2 == pytest.approx(squares.error, rel=1e-3)
    assert (found.session, found.reader_of_radiograph, found.num_radiographs) == (None, None, 40)


def test_find_components_leaves_out_the_model_and_what_is_too_little():
    frame = simulate(seed=1, num_radiographs=4, num_sessions=1)
    model = frame[frame["reader"] == "0"].assign(reader="model", months=10.0)
    assert find_components(pd.concat([frame, model])) == find_components(frame)
    assert find_components(frame[frame["id"].isin(["0", "1"])]) is None
    assert find_components(frame[frame["reader"] == "0"]) is None


@pytest.mark.slow
def test_find_components_recovers_what_was_simulated():
    found = [dataclasses.asdict(find_components(simulate(seed=seed, missing_share=0.1))) for seed in range(60)]
    for name, truth in TRUTH.items():
        variances = np.square([components[name] for components in found])
        error = variances.std(ddof=1) / np.sqrt(len(variances))
        # Of a variance that cannot fall below 0, the mean is a little too high.
        assert abs(variances.mean() - truth**2) < 3 * error + 0.05 * truth**2, name
