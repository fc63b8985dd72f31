"""The evaluation of the sex: figures by the right class names, whatever the order of the rows."""

import json

import numpy as np
import pandas as pd
import pytest

from boneage.evaluation.sex_classification import summarise_sex, write_sex_evaluation

# Of four girls three are classified correctly, of six boys four.
FRAME = pd.DataFrame(
    {
        "id": [str(number) for number in range(10)],
        "sex": ["female"] * 4 + ["male"] * 6,
        "male_probability": [0.1, 0.2, 0.4, 0.9, 0.8, 0.7, 0.6, 0.95, 0.3, 0.05],
    }
)


def test_figures_stand_by_the_right_names():
    found = summarise_sex(FRAME, dataset="ten")
    assert found.confusion == {"female": {"female": 3, "male": 1}, "male": {"female": 2, "male": 4}}
    assert found.accuracy.value == pytest.approx(0.7)
    assert found.accuracy.low < 0.7 < found.accuracy.high
    assert (found.by_sex["female"].precision, found.by_sex["female"].recall) == (
        pytest.approx(0.6),
        pytest.approx(0.75),
    )
    assert (found.by_sex["male"].precision, found.by_sex["male"].recall) == (pytest.approx(0.8), pytest.approx(4 / 6))
    assert found.macro_f1 == pytest.approx((2 * 0.6 * 0.75 / 1.35 + 2 * 0.8 * (4 / 6) / (0.8 + 4 / 6)) / 2)


def test_order_of_the_rows_does_not_matter():
    assert summarise_sex(FRAME.sample(frac=1, random_state=1)) == summarise_sex(FRAME)


def test_writes_figures_picture_and_the_surest_mistake_first(tmp_path):
    write_sex_evaluation(tmp_path / "out", FRAME, summarise_sex(FRAME))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.csv",
        "evaluation.json",
        "evaluation.png",
    }
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["male_probability"][:2].tolist() == [0.05, 0.9]
    assert np.isclose(json.loads((tmp_path / "out" / "evaluation.json").read_text())["accuracy"]["value"], 0.7)
