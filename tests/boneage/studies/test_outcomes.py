import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.studies.height import height
from boneage.studies.outcomes import average_deviations, estimate_errors, find_growth_potential, outcomes

AGES = {"female": (8, 16), "male": (10, 18)}


def simulate(*, num_children=60, visits=2, errors=None, bias=0.0, seed=0):
    """Children of whom each method errs by so many percent of the growth potential."""
    errors = errors or {"a": 1.4, "b": 1.1}
    generator = np.random.default_rng(seed)
    rows = []
    for sex, (first, last) in AGES.items():
        for number in range(num_children):
            final = generator.normal(170, 6)
            for age in generator.uniform(first, last, visits):
                potential = 2.5 * (last - age)
                tall = final * (1 - potential / 100)
                row = {"child": f"{sex}{number}", "sex": sex, "age_months": 12 * age, "height_cm": tall}
                row["final_height_cm"] = final
                for name, error in errors.items():
                    guess = potential + bias + generator.normal(0, error)
                    row[f"predicted_{name}_cm"] = tall / (1 - guess / 100)
                rows.append(row)
    return pd.DataFrame(rows)


def write(frame, path):
    frame.to_csv(path, index=False)
    return path


def find(found, method, group="all"):
    return next(row for row in found.methods if (row.method, row.group) == (method, group))


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["boneage", "outcomes", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_find_growth_potential_by_hand():
    assert find_growth_potential(np.array([153.0, 180]), np.array([170.0, 180])).tolist() == [10, 0]


def test_average_deviations_by_hand():
    # The mean of the deviation of 5 normal values is 16 / 17 of that of many.
    # Two years of girls with SD 1 and 3, one year of boys with SD 4, a year of too few, and ages that do not count.
    unit = np.array([-1, -1, 0, 1, 1]) / np.std([-1, -1, 0, 1, 1], ddof=1)
    errors = np.concatenate([10 + unit, 3 * unit, 4 * unit - 5, [0, 50], 100 * unit])
    years = np.repeat([8.0, 15, 10, 11, 16], [5, 5, 5, 2, 5])
    sexes = np.repeat([0.0, 0, 1, 1, 0], [5, 5, 5, 2, 5])
    assert average_deviations(errors, years, sexes) == pytest.approx(17 / 16 * (2 + 4) / 2)
    assert average_deviations(np.stack([errors, 2 * errors]), years, sexes) == pytest.approx([17 / 16 * 3, 17 / 16 * 6])
    assert np.isnan(average_deviations(errors[-7:], years[-7:], sexes[-7:]))


def test_outcomes_finds_the_errors_that_were_simulated(tmp_path):
    cohort = write(simulate(num_children=200, bias=1.0), tmp_path / "cohort.csv")
    found = outcomes(cohort, out=tmp_path / "out", num_resamples=100)
    for method, error in (("a", 1.4), ("b", 1.1)):
        row = find(found, method)
        assert row.gppe_percent.low < error < row.gppe_percent.high
        assert row.bias_cm.value == pytest.approx(1.9, abs=0.3)  # a percent of 170 cm, over 1 - potential
        assert row.rmse_cm.value == pytest.approx(1.9 * np.hypot(1, error), rel=0.1)
        assert (row.num_radiographs, row.num_children, row.num_unanswered) == (800, 400, 0)
        of_sexes = [find(found, method, sex).gppe_percent.value for sex in AGES]
        assert row.gppe_percent.value == pytest.approx(np.mean(of_sexes))
    difference = found.differences[0]
    assert (difference.first, difference.second, difference.group) == ("a", "b", "all")
    assert 0 < difference.rmse_cm.low < difference.rmse_cm.high
    assert 0 < difference.gppe_percent.low < 0.3 < difference.gppe_percent.high
    tables = [pd.read_csv(tmp_path / "out" / name) for name in ("methods.csv", "differences.csv", "ages.csv")]
    assert [len(table) for table in tables] == [6, 3, 32]
    with Image.open(tmp_path / "out" / "outcomes.png") as figure:
        assert min(figure.size) > 500 and len(figure.convert("L").getcolors()) > 50


def test_outcomes_counts_children_not_radiographs(tmp_path):
    """The interval of the bias is that of children whose radiographs all err alike."""
    once = simulate(num_children=40, visits=1, errors={"a": 1.4})
    often = pd.concat([once] * 4).assign(id=range(4 * len(once)))
    widths = []
    for frame in (once, often, often.drop(columns="child")):
        found = outcomes(write(frame, tmp_path / "cohort.csv"), out=tmp_path / "out", num_resamples=300)
        widths.append(find(found, "a").bias_cm.high - find(found, "a").bias_cm.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.2)


def test_outcomes_takes_rows_for_each_method(tmp_path):
    wide = simulate(num_children=20)
    wide.loc[3, "predicted_b_cm"] = np.nan
    wide.loc[5, "final_height_cm"] = np.nan
    long = wide.melt([name for name in wide if not name.startswith("predicted")], var_name="method").dropna(
        subset="value"
    )
    long["method"] = long["method"].str.extract("predicted_(.)_cm")
    long = long.rename(columns={"value": "predicted_cm"})
    one, other = (
        outcomes(write(frame, tmp_path / "cohort.csv"), out=tmp_path / "out", num_resamples=20)
        for frame in (wide, long)
    )
    assert [(row.method, row.num_radiographs, row.num_unanswered) for row in one.methods[:2]] == [
        ("a", 78, 0),
        ("b", 78, 1),
    ]
    assert one.num_without_height == other.num_without_height == 1
    for ours, theirs in zip(one.methods, other.methods, strict=True):
        assert ours.rmse_cm.value == pytest.approx(theirs.rmse_cm.value)
        assert ours.num_unanswered == theirs.num_unanswered


def test_outcomes_takes_what_height_predicts(tmp_path):
    (tmp_path / "tables.csv").write_text(
        "sex,maturation,bone_age_months,percent_of_adult_height\nmale,average,156,87.6\nmale,average,162,90.2\n"
    )
    (tmp_path / "children.csv").write_text(
        "id,sex,height_cm,bone_age_months,age_months\n1,M,150,159,160\n2,M,155,157,158\n3,M,149,170,172\n"
    )
    height(tmp_path / "children.csv", tables=tmp_path / "tables.csv", out=tmp_path / "heights")
    table = pd.read_csv(tmp_path / "heights" / "height.csv").assign(final_height_cm=170.0)
    found = outcomes(write(table, tmp_path / "cohort.csv"), out=tmp_path / "out", num_resamples=20)
    (row, _) = found.methods
    assert (row.method, row.num_radiographs, row.num_unanswered, row.gppe_percent) == ("Bayley-Pinneau", 2, 1, None)
    assert row.bias_cm.value == pytest.approx(table["adult_height_cm"].mean() - 170)


def make_events(num_children, *, ratio, seed=0):
    """Girls whose age at menarche has the hazard ratio for each year of bone age ahead, and boys."""
    generator = np.random.default_rng(seed)
    advance = generator.normal(0, 1, num_children)
    # A Gompertz hazard, exp(age - 13) by year.
    age = np.log(np.exp(9 - 13) + generator.exponential(size=num_children) / ratio**advance) + 13
    girls = pd.DataFrame(
        {
            "child": range(num_children),
            "sex": "F",
            "age_months": 108.0,
            "bone_age_months": 108 + 12 * advance,
            "menarche_age_years": np.where(age < 14, age, np.nan),
            "last_age_years": 14.0,
        }
    )
    boys = girls.assign(sex="M", menarche_age_years=np.nan, child=girls["child"] + num_children)
    return pd.concat([girls, girls.assign(bone_age_months=girls["bone_age_months"] + 0.1), boys])


def test_outcomes_finds_the_hazard_ratio_of_menarche(tmp_path):
    cohort = write(make_events(400, ratio=2.0), tmp_path / "cohort.csv")
    found = outcomes(cohort, out=tmp_path / "out")
    (event,) = found.events
    assert (event.event, event.num_radiographs, event.num_children) == ("menarche", 800, 400)
    assert 250 < event.num_events < 400
    assert event.hazard_ratio.low < 2 < event.hazard_ratio.high < 2.6
    # Two radiographs of each girl tell no more than one.
    once = outcomes(write(make_events(400, ratio=2.0).iloc[:400], tmp_path / "cohort.csv"), out=tmp_path / "out")
    assert event.hazard_ratio.low == pytest.approx(once.events[0].hazard_ratio.low, rel=0.05)
    few = outcomes(write(make_events(8, ratio=2.0), tmp_path / "cohort.csv"), out=tmp_path / "out")
    assert few.events[0].hazard_ratio is None and "before 10 events" in few.events[0].reason


def test_outcomes_of_children_who_count_at_no_event(tmp_path):
    """One of a sex has the event, most of that sex come after it or leave before."""
    girls = make_events(40, ratio=2.0).iloc[:40].rename(columns={"menarche_age_years": "growth_spurt_age_years"})
    boys = girls.assign(sex="M", child=girls["child"] + 100, growth_spurt_age_years=np.nan)
    boys.loc[0, "growth_spurt_age_years"] = 12
    boys.loc[1:9, "age_months"] = 150
    boys.loc[10:19, "last_age_years"] = 11
    alone, joined = (
        outcomes(write(frame, tmp_path / "cohort.csv"), out=tmp_path / "out").events[0]
        for frame in (pd.concat([girls, boys.drop(range(1, 20))]), pd.concat([girls, boys]))
    )
    assert joined.num_radiographs == alone.num_radiographs + 19
    assert joined.hazard_ratio.low < joined.hazard_ratio.value < joined.hazard_ratio.high
    assert joined.hazard_ratio.value == pytest.approx(alone.hazard_ratio.value)


def test_outcomes_without_a_finite_hazard_ratio(tmp_path):
    # The further the bone age is ahead, the earlier the event, without exception.
    girls = make_events(12, ratio=2.0).iloc[:12].assign(menarche_age_years=13 - np.arange(12) / 8)
    girls["bone_age_months"] = 108 + 2.0 * np.arange(12)
    found = outcomes(write(girls, tmp_path / "cohort.csv"), out=tmp_path / "out")
    assert (found.events[0].num_events, found.events[0].hazard_ratio) == (12, None)
    assert found.events[0].reason.startswith("the fit does not converge")


def test_outcomes_takes_methods_by_row_of_radiographs_with_an_id(tmp_path):
    (tmp_path / "cohort.csv").write_text(
        "id,sex,final_height_cm,method,predicted_cm\n1,M,180,a,181\n2,F,165,a,166\n1,M,180,b,183\n2,F,165,b,168\n"
    )
    found = outcomes(tmp_path / "cohort.csv", out=tmp_path / "out", num_resamples=5)
    row = find(found, "b")
    assert (row.num_radiographs, row.num_children, row.bias_cm.value) == (2, 2, 3)


def test_outcomes_writes_what_the_command_prints(tmp_path, monkeypatch, capsys):
    cohort = write(simulate(num_children=20).drop(columns="height_cm"), tmp_path / "cohort.csv")
    status, told = run(monkeypatch, capsys, cohort, "--out", tmp_path / "out", "--json")
    assert (status, told.err) == (0, "")
    assert json.loads(told.out) == json.loads((tmp_path / "out" / "outcomes.json").read_text())
    status, told = run(monkeypatch, capsys, cohort, "--out", tmp_path / "out")
    assert (status, told.err) == (0, "")
    for words in ("Predicted less reached height", "unknown", "The first less the second", "written: "):
        assert words in told.out
    assert all(len(line.rstrip()) <= 80 for line in told.out.splitlines()[:-1])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sex,predicted_cm\nM,180\n", "final_height_cm is missing"),
        ("sex,adult_height_cm\nM,180\n", "has no prediction; name a column predicted_NAME_cm"),
        ("sex,final_height_cm,predicted_a\nM,180,180\n", "states no unit"),
        ("final_height_cm,predicted_cm\n180,180\n", "sex is missing"),
        ("sex,final_height_cm,predicted_a_cm\nM,180,\n", "no radiograph has the height that was reached and an answer"),
        ("id,sex,final_height_cm,method,predicted_cm\n1,M,180,a,1800\n", "write a number of cm from 20 to 280"),
        ("child,sex,final_height_cm,method,predicted_cm\n1,M,180,a,180\n1,M,180,a,181\n", "a has two predictions"),
        ("id,sex,final_height_cm,method,predicted_cm\n1,M,180,a,180\n2,M,181,,181\n", "method is blank"),
        ("", "is empty"),
        ("sex,final_height_cm,predicted_a_cm\n", "contains no rows"),
        ("sex,final_height_cm,method,predicted_cm\nM,180,a,180\nM,180,b,181\n", "needs a column id or child"),
        ("sex,final_height_cm,predicted_a_cm,predicted_a_in\nM,180,180,70\n", "'predicted_a_in' is another of 'a'"),
        ("child,sex,final_height_cm,predicted_a_cm\n1,M,180,180\n1,F,180,181\n", "child 1 has two values of sex"),
        ("child,sex,final_height_cm,predicted_a_cm\n1,M,180,180\n1,M,190,181\n", "two values of final_height_cm"),
        ("id,sex,final_height_cm,predicted_a_cm\n1,M,180,180\n1,M,180,180\n", "row 3: is there twice"),
        ("sex,final_height_m,predicted_a_cm,menarche_age_years\nF,1.7,180,12\n", "no radiograph has the height"),
        ("sex,menarche_age_years\nM,12\n", "row 2: a boy has an age at menarche"),
    ],
)
def test_outcomes_says_what_is_wrong(text, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "cohort.csv").write_text(text)
    status, printed = run(monkeypatch, capsys, tmp_path / "cohort.csv", "--out", tmp_path / "out")
    assert status == 1 and printed.err.count("\n") == 1 and told in printed.err


def test_outcomes_names_methods_by_their_headings(tmp_path):
    (tmp_path / "cohort.csv").write_text(
        "Sex,Adult height (cm),Predicted adult height (cm),predicted_Tanner_Whitehouse_in\nM,180,178,70\nF,165,166,66\n"
    )
    found = outcomes(tmp_path / "cohort.csv", out=tmp_path / "out", num_resamples=5)
    assert [row.method for row in found.methods[:2]] == ["predicted", "Tanner Whitehouse"]
    assert find(found, "Tanner Whitehouse", "male").bias_cm.value == pytest.approx(70 * 2.54 - 180)


def test_outcomes_of_one_child_has_no_interval(tmp_path, monkeypatch, capsys):
    (tmp_path / "cohort.csv").write_text(
        "child,age_months,sex,final_height_cm,predicted_a_cm,predicted_b_cm\n1,100,M,180,182,181\n1,112,M,180,179,181\n"
    )
    status, told = run(monkeypatch, capsys, tmp_path / "cohort.csv", "--out", tmp_path / "out")
    assert status == 0 and "Radiographs of one child alone tell no interval." in told.out and "nan" not in told.out
    report = json.loads((tmp_path / "out" / "outcomes.json").read_text())
    assert report["methods"][0]["bias_cm"] == {"value": 0.5, "low": None, "high": None}
    assert pd.read_csv(tmp_path / "out" / "methods.csv")["bias_cm_from"].isna().all()


@pytest.mark.slow
def test_intervals_of_outcomes_hold_the_truth_in_95_of_100_simulations():
    def rename(frame):
        answers = {"predicted_a_cm": "a", "predicted_b_cm": "b"}
        own = frame.rename(columns={"age_months": "chronological_age_months"})
        return own, frame[list(answers)].rename(columns=answers)

    own, answers = rename(simulate(num_children=20_000, bias=0.5, seed=1000))
    truth = {"a gppe": 1.4, "b gppe": 1.1, "a - b gppe": 1.4 - 1.1}
    errors = answers.sub(own["final_height_cm"], axis=0)
    for name in "ab":
        truth |= {f"{name} bias": errors[name].mean(), f"{name} rmse": np.sqrt((errors[name] ** 2).mean())}
    truth["a - b rmse"] = truth["a rmse"] - truth["b rmse"]
    held = dict.fromkeys(truth, 0)
    for seed in range(1000):
        found = estimate_errors(*rename(simulate(num_children=40, bias=0.5, seed=seed)), num_resamples=200, seed=seed)
        for name, value in truth.items():
            held[name] += found[name].low <= value <= found[name].high
    assert all(930 <= number <= 970 for number in held.values()), held
