import numpy as np
import pandas as pd
import pytest

from boneage.studies.consensus import METHODS, find_consensus


def table(rows, **columns):
    frame = pd.DataFrame(rows, columns=["id", "reader", "session", "months"])
    return frame.assign(**columns)


READINGS = table(
    [("b", "Ada", "1", 100.0), ("b", "Ada", "2", 110.0), ("b", "Ben", "1", 120.0), ("b", "Cem", "1", 150.0),
     ("a", "Ben", "1", 60.0), ("a", "model", "1", 10.0)]
)  # fmt: skip


@pytest.mark.parametrize(("method", "months"), [("mean", 125.0), ("median", 120.0)])
def test_find_consensus_of_people_alone(method, months):
    found = find_consensus(READINGS, method=method)
    assert list(found.columns) == ["id", "bone_age_months", "num_readers", "sd_months"]
    assert found["id"].tolist() == ["a", "b"]
    assert found["bone_age_months"].tolist() == [60.0, months]
    assert found["num_readers"].tolist() == [1, 3]
    assert np.isnan(found["sd_months"][0]) and found["sd_months"][1] == pytest.approx(22.913, abs=1e-3)


def test_find_consensus_gives_the_sex_that_all_agree_on():
    readings = READINGS.assign(sex=["F", "F", "", "F", "M", ""])
    assert find_consensus(readings, method="mean")["sex"].tolist() == ["M", "F"]
    readings.loc[2, "sex"] = "M"
    assert find_consensus(readings, method="mean")["sex"].isna().tolist() == [False, True]


def test_find_consensus_weighs_a_careless_reader_down_and_keeps_the_mean_level():
    rng = np.random.default_rng(0)
    truth = rng.uniform(24, 200, 500)
    rows = [
        (str(number), name, "1", months)
        for name, bias, sd in (("Ada", 0, 4), ("Ben", 3, 4), ("Cem", -3, 20))
        for number, months in enumerate(truth + bias + rng.normal(0, sd, 500))
    ]
    errors = {
        method: found.set_index("id")["bone_age_months"]
        - pd.Series(truth, index=found["id"].sort_values(key=lambda c: c.astype(int)))
        for method in METHODS
        for found in [find_consensus(table(rows), method=method)]
    }
    assert errors["weighted"].std() < 0.8 * errors["mean"].std()
    assert errors["weighted"].mean() == pytest.approx(errors["mean"].mean(), abs=0.5)


def test_find_consensus_of_one_reader_is_that_reading():
    one = READINGS[READINGS["reader"] == "Ben"]
    assert find_consensus(one, method="weighted")["bone_age_months"].tolist() == [60.0, 120.0]


def test_find_consensus_refuses_an_unknown_method():
    with pytest.raises(ValueError, match="consensus"):
        find_consensus(READINGS, method="mode")
