import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.inference.growth_reference import load_growth_reference
from boneage.inference.lms import find_lms_value
from boneage.studies.reference import CENTILES, ReferenceFitError, reference_fit


def make_cohort(num_children, *, sexes=("female", "male"), visits=1, seed=0, ages=(60, 144)):
    """Children whose bone age is normal about 1.02 times their age, with a coefficient of variation of 0.1."""
    generator = np.random.default_rng(seed)
    rows = []
    for sex in sexes:
        months = generator.uniform(*ages, num_children)
        score = generator.standard_normal(num_children)
        for visit in range(visits):
            later = months + 0.1 * visit
            bone = find_lms_value(score, power=1.0, median=1.02 * later, deviation=0.1)
            names = [f"{sex}-{number}" for number in range(num_children)]
            rows.append(
                pd.DataFrame({"child": names, "sex": sex, "chronological_age_months": later, "bone_age_months": bone})
            )
    return pd.concat(rows, ignore_index=True)


def write(frame, path):
    frame.to_csv(path, index=False)
    return path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "reference", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_reference_fit_writes_a_growth_reference_and_figures(tmp_path):
    cohort = write(make_cohort(700), tmp_path / "cohort.csv")
    fit = reference_fit(cohort, out=tmp_path / "ours.csv", num_resamples=10)
    ours = load_growth_reference(tmp_path / "ours.csv")
    assert set(ours.rows) == {"female", "male"} and ours.name == "ours"
    for sex in ours.rows:
        assert ours.sd_score(102, chronological_age_months=100, sex=sex) == pytest.approx(0, abs=0.15)
        for name, score in CENTILES.items():
            row = fit.table[(fit.table["sex"] == sex) & (fit.table["chronological_age_months"] == 100)].iloc[0]
            assert ours.at(100, sex=sex).value(score) == pytest.approx(row[f"{name}_months"], abs=0.02)
            assert row[f"{name}_low_months"] < row[f"{name}_months"] < row[f"{name}_high_months"]
        ages = fit.table.loc[fit.table["sex"] == sex, "chronological_age_months"]
        assert (fit.by_sex[sex].from_age_months, fit.by_sex[sex].to_age_months) == (ages.min(), ages.max())
        assert fit.by_sex[sex].num_children <= 700 and fit.by_sex[sex].outside_share < 0.1
    assert (fit.num_incomplete, fit.num_failed, fit.refused) == (0, 0, {})
    for name in ("ours.png", "ours-worms.png"):
        with Image.open(tmp_path / name) as figure:
            assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 50


def test_reference_fit_leaves_out_ages_of_too_few_children(tmp_path):
    cohort = pd.concat([make_cohort(700), make_cohort(3, seed=1, ages=(200, 220))])
    fit = reference_fit(write(cohort, tmp_path / "cohort.csv"), out=tmp_path / "ours.csv", num_resamples=2)
    assert fit.by_sex["male"].to_age_months <= 144
    assert (fit.table["num_children"] >= 50).all()
    assert fit.num_thin >= 6
    boys = pd.concat([make_cohort(700, sexes=["male"]), make_cohort(40, sexes=["female"])])
    fit = reference_fit(write(boys, tmp_path / "boys.csv"), out=tmp_path / "boys-ours.csv", num_resamples=2)
    assert set(fit.table["sex"]) == {"male"}
    assert fit.refused == {"female": "40 children, nowhere 50 around each age of 12 months on end"}
    with pytest.raises(ReferenceFitError, match=r"thin\.csv: too few children for a reference \(female: 60 children"):
        reference_fit(write(make_cohort(60), tmp_path / "thin.csv"), out=tmp_path / "thin-ours.csv")


def test_reference_fit_counts_children_not_radiographs(tmp_path):
    once, often = make_cohort(500, sexes=["male"]), make_cohort(500, sexes=["male"], visits=4)
    kept = [
        reference_fit(write(frame, tmp_path / "cohort.csv"), out=tmp_path / "ours.csv", num_resamples=number)
        for frame, number in ((once, 20), (often, 20), (often.drop(columns="child"), 2))
    ]
    one, four, unknown = (
        fit.table.set_index("chronological_age_months").loc[100, ["num_children", "p50_low_months", "p50_high_months"]]
        for fit in kept
    )
    assert four["num_children"] == pytest.approx(one["num_children"], rel=0.05)
    assert unknown["num_children"] == pytest.approx(4 * one["num_children"], rel=0.05)
    widths = [row["p50_high_months"] - row["p50_low_months"] for row in (one, four)]
    assert widths[1] == pytest.approx(widths[0], rel=0.5)
    assert kept[1].by_sex["male"].num_radiographs > 3.9 * kept[1].by_sex["male"].num_children


def test_reference_fit_weighs_children(tmp_path):
    cohort = make_cohort(900, sexes=["male"])
    advanced = cohort["bone_age_months"] > 1.02 * cohort["chronological_age_months"]
    cohort["sampling_weight"] = np.where(advanced, 1.0, 3.0)
    fit = reference_fit(write(cohort, tmp_path / "cohort.csv"), out=tmp_path / "ours.csv", num_resamples=2)
    median = fit.table.set_index("chronological_age_months").loc[100, "p50_months"]
    # A quarter of the weight lies above 102 months: the upper quartile of a distribution whose SD is near 10.
    assert 95 < median < 100


def test_reference_fit_leaves_out_what_is_incomplete(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(reference_fit.__kwdefaults__, "num_resamples", 4)
    cohort = make_cohort(300, sexes=["male"], ages=(84, 120))
    cohort.loc[[0, 1], "sex"] = ""
    cohort.loc[2, "bone_age_months"] = 0
    cohort.loc[3, "chronological_age_months"] = np.nan
    cohort = write(cohort, tmp_path / "cohort.csv")
    status, told = run(monkeypatch, capsys, "fit", cohort, "--out", tmp_path / "ours.csv", "--json")
    assert (status, told.err) == (0, "")
    report = json.loads(told.out)
    assert report["num_incomplete"] == 4 and report["table"][0]["sex"] == "male"
    status, told = run(monkeypatch, capsys, "fit", cohort, "--out", tmp_path / "new" / "ours.csv")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["ours-worms.png", "ours.csv", "ours.png"]
    for words in (
        "male: 2",
        "female: none (0 children",
        "4 radiographs left out: no sex, age or bone age",
        "written: ",
    ):
        assert words in told.out


@pytest.mark.parametrize(
    ("text", "out", "told"),
    [
        ("sex,age_months\nM,120\n", "ours.csv", "bone_age_months is missing"),
        ("sex,age_months,bone_age_months\n", "ours.csv", "too few children"),
        ("", "ours.csv", "is empty"),
        ("sex,age_months,bone_age_months\nM,120,120\n", "ours.xlsx", "--out must end with .csv"),
        ("child,sex,age_months,bone_age_months\n1,M,120,120\n1,F,130,130\n", "ours.csv", "child 1 has radiographs of"),
    ],
)
def test_reference_fit_says_what_is_wrong(text, out, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "cohort.csv").write_text(text)
    status, printed = run(monkeypatch, capsys, "fit", tmp_path / "cohort.csv", "--out", tmp_path / out)
    assert status == 1 and printed.err.count("\n") == 1 and told in printed.err
    assert not (tmp_path / out).exists()
