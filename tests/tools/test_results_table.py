import importlib.util
import json
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.evaluation.evaluate import to_json
from boneage.evaluation.frames import EvaluationError
from boneage.evaluation.summarise import summarise

TOOLS = Path(__file__).parents[2] / "tools"
FOLDER = TOOLS.parent / "experiments"
TRAIN = {"network": "efficientnet_lite0", "input_size": 64, "learning_rate": 2e-3, "epochs": 2}


@pytest.fixture(scope="module")
def results_table():
    name = "results_table"
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[name] = module
    yield spec.loader.exec_module(module) or module
    del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    """Experiment files of made-up names in the repository's families."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("ablation_base", "ablation_other", "curve_3", "curve_10", "lonely"):
        settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in TRAIN.items())
        (folder / f"{name}.toml").write_text(f"# What {name} is.\n# Command:\n[train]\n{settings}")
    return folder


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def write_run(runs, name, *, error_months=5.0, first=1, num_images=20, seconds=(60.0, 30.0), label=100.0, **changes):
    """Write the files of a finished run that are read; every prediction errs by `error_months`."""
    folder = runs / name / "evaluation-validation"
    folder.mkdir(parents=True)
    ids = [f"{number}" for number in range(first, first + num_images)]
    labels = label + np.arange(first, first + num_images)
    frame = pd.DataFrame({"id": ids, "sex": "female", "bone_age_months": labels})
    frame["predicted_months"] = frame["bone_age_months"] + error_months
    # Worst case first, as `write_evaluation` has it: rows come in any order.
    frame.sample(frac=1, random_state=first).to_csv(folder / "predictions.csv", index=False)
    (folder / "evaluation.json").write_text(to_json(summarise(frame, num_resamples=20)))
    history = [
        {"epoch": epoch, "val_mae": 20.0 - epoch, "seconds": duration, "images_per_second": 10.0 * epoch}
        for epoch, duration in enumerate(seconds, start=1)
    ]
    trained = TRAIN | {"seed": 0} | changes
    state = {"experiment": {"name": name, "train": trained, "augment": {}}, "history": history}
    (runs / name / "state.json").write_text(json.dumps(state))


def cells(text, name):
    (line,) = (line for line in text.splitlines() if line.startswith(f"| [`{name}`]"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_says_of_every_measurement_that_it_was_not_made(results_table, folder):
    text = results_table.render(folder)
    assert cells(text, "ablation_other") == [
        "[`ablation_other`](ablation_other.toml)",
        "What ablation_other is",
        "`efficientnet_lite0`",
        "64",
        *["not run here"] * 6,
    ]
    assert cells(text, "lonely")[4:] == ["not run here"] * 5
    assert "curve.png" not in text


def test_collects_a_finished_run_without_its_labels(results_table, folder, runs):
    write_run(runs, "ablation_base")
    assert results_table.collect(folder, runs) == []
    results = folder / "results"
    assert sorted(path.relative_to(results).as_posix() for path in results.rglob("*.*")) == [
        "ablation_base/evaluation.json",
        "ablation_base/history.json",
    ]
    row = cells(results_table.render(folder), "ablation_base")
    assert row[4:] == ["2", "1.5", "15", "5.00 [5.00, 5.00]", "18.00", "baseline"]


def test_compares_with_the_baseline_on_what_both_have(results_table, folder, runs):
    write_run(runs, "ablation_base", error_months=5.0, first=1, num_images=20)
    write_run(runs, "ablation_other", error_months=-3.0, first=11, num_images=20)
    results_table.collect(folder, runs)
    comparison = json.loads((folder / "results" / "ablation_other" / "comparison.json").read_text())
    assert comparison["baseline"] == "ablation_base" and comparison["num_images"] == 10
    assert comparison["mae_months"] == 3 and comparison["baseline_mae_months"] == 5
    assert cells(results_table.render(folder), "ablation_other")[-1] == "-2.00 [-2.00, -2.00] on 10"
    assert not (folder / "results" / "ablation_base" / "comparison.json").exists()


def test_three_seeds_make_a_difference_with_the_spread_of_the_seeds(results_table, folder, runs):
    for seed, (base, other) in enumerate([(5.0, 3.0), (6.0, 4.5), (5.5, 3.0)]):
        suffix = f"-seed{seed}" if seed else ""
        write_run(runs, f"ablation_base{suffix}", error_months=base, seed=seed)
        write_run(runs, f"ablation_other{suffix}", error_months=other, seed=seed)
    write_run(runs, "lonely")
    assert results_table.collect(folder, runs) == []
    text = results_table.render(folder)
    # The mean of -2, -1.5 and -2.5 months, and Student's t for two degrees of freedom: 4.303 x 0.5 / sqrt(3).
    assert cells(text, "ablation_other")[-1] == "-2.00 [-3.24, -0.76] on 20, 3 seeds"
    (note,) = (line for line in text.splitlines() if line.startswith("Fewer than three seeds"))
    assert note == "Fewer than three seeds, so that no effect is claimed: `lonely`."


def test_results_of_one_seed_say_so(results_table, folder, runs):
    write_run(runs, "ablation_base")
    write_run(runs, "ablation_other")
    write_run(runs, "ablation_other-seed1", seed=1)
    results_table.collect(folder, runs)
    text = results_table.render(folder)
    assert "no effect is claimed: `ablation_base`, `ablation_other`." in text
    write_run(runs, "ablation_other-seed2", seed=2, epochs=9)
    (left_out,) = results_table.collect(folder, runs)
    assert "ablation_other-seed2: its settings differ from ablation_other.toml: train.epochs" in left_out


def test_refuses_to_compare_other_labels(results_table, folder, runs):
    write_run(runs, "ablation_base")
    write_run(runs, "ablation_other", label=90.0)
    with pytest.raises(EvaluationError, match="bone_age_months"):
        results_table.collect(folder, runs)


def test_forgets_a_comparison_of_the_run_before(results_table, folder, runs):
    write_run(runs, "ablation_base")
    write_run(runs, "ablation_other")
    results_table.collect(folder, runs)
    shutil.rmtree(runs / "ablation_base")
    results_table.collect(folder, runs)
    assert cells(results_table.render(folder), "ablation_other")[-1] == "not compared"
    assert cells(results_table.render(folder), "ablation_base")[-1] == "baseline"


def test_leaves_out_what_is_no_finished_run_of_the_file(results_table, folder, runs):
    write_run(runs, "curve_3")
    (runs / "curve_3" / "evaluation-validation" / "evaluation.json").unlink()
    write_run(runs, "lonely", epochs=1)
    write_run(runs, "curve_10", trainable="head", use_sex=False)  # neither stands in the file
    write_run(runs, "without_a_file")
    other, lonely = results_table.collect(folder, runs)
    assert "lonely.toml" in lonely and "train.epochs" in lonely
    assert "curve_10.toml" in other and "train.use_sex" in other
    assert not (folder / "results").exists()


def test_draws_the_curve_from_two_points_on(results_table, folder, runs):
    write_run(runs, "curve_10", seconds=(300.0, 290.0))
    results_table.collect(folder, runs)
    assert not results_table.draw_curve(folder)
    assert "curve.png" not in results_table.render(folder)
    write_run(runs, "curve_3", error_months=9.0)
    results_table.collect(folder, runs)
    assert results_table.draw_curve(folder)
    assert "](figures/curve.png)" in results_table.render(folder)
    with Image.open(folder / "figures" / "curve.png") as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 100
    text = results_table.render(folder)
    assert text.index("[`curve_3`]") < text.index("[`curve_10`]")


def test_the_command_writes_everything(results_table, folder, runs, monkeypatch):
    write_run(runs, "curve_3")
    write_run(runs, "curve_10")
    monkeypatch.setattr(sys, "argv", ["results_table.py", "--runs", str(runs), "--experiments", str(folder)])
    results_table.main()
    assert (folder / "RESULTS.md").read_text() == results_table.render(folder)
    assert (folder / "figures" / "curve.png").exists()


def test_the_table_in_the_repository_is_up_to_date(results_table):
    written = (FOLDER / results_table.RESULTS_FILE).read_text(encoding="utf-8")
    assert written == results_table.render(FOLDER), "run `python tools/results_table.py`"
    for name in (path.stem for path in FOLDER.glob("*.toml")):
        assert written.count(f"[`{name}`]({name}.toml)") == 1


def test_baselines_are_experiments_of_their_own_family(results_table):
    for family in results_table.FAMILIES:
        if family.baseline:
            assert (FOLDER / f"{family.baseline}.toml").exists()
            assert results_table.find_family(family.baseline) is family


def differences(path, base):
    """Name the settings in which two experiment files differ."""
    tables, others = (tomllib.loads(file.read_text(encoding="utf-8")) for file in (path, base))
    return {
        key if table == "train" else table
        for table in ("train", "augment")
        for key in tables[table].keys() | others[table].keys()
        if tables[table].get(key) != others[table].get(key)
    }


def test_each_ablation_changes_what_its_name_says():
    base = FOLDER / "ablation_base.toml"
    changed = {path.stem: differences(path, base) for path in FOLDER.glob("ablation_*.toml")}
    network = {"network", "learning_rate"}
    assert changed == {
        "ablation_base": set(),
        "ablation_random": {"init"},
        "ablation_no_sex": {"use_sex"},
        "ablation_head": {"trainable"},
        "ablation_last_20": {"trainable"},
        "ablation_no_augment": {"augment"},
        "ablation_strong_augment": {"augment"},
        "ablation_frames": set(),
        "ablation_raw_target": {"standardize_target"},
        "ablation_bfloat16": {"precision"},
        "ablation_inceptionv3": network,
        "ablation_resnet50": network,
        "ablation_efficientnetb4": network,
    }


def test_the_curve_spends_time_and_changes_nothing_else():
    paths = list(FOLDER.glob("curve_*.toml"))
    assert len(paths) == 5
    for path in paths:
        assert differences(path, FOLDER / "curve_10.toml") <= {"input_size", "epochs", "warmup_epochs"}


@pytest.mark.parametrize("name", ["efficientnetb4", *(f"transfer_chest_{number}" for number in (20, 30, 50, 100))])
def test_rows_of_a_pair_differ_in_what_they_compare(name):
    base = {"efficientnetb4": "efficientnetb4_reference"}.get(name, "transfer_chest_3")
    expected = {"use_sex", "augment"} if name == "efficientnetb4" else {"trainable"}
    assert differences(FOLDER / f"rsna_{name}.toml", FOLDER / f"rsna_{base}.toml") == expected
