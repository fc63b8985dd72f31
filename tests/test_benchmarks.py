import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.bundles.bundle import DEFAULT_BUNDLE
from boneage.bundles.save import save_bundle
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.hand.segmenters import HAND_SAM_FILE
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import draw_radiograph, draw_radiographs, write_dataset
from boneage.tfrecords.info import read_info

FOLDER = Path(__file__).parent.parent / "benchmarks"
NUM_DRAWN = 4
TINY = Experiment("tiny", TrainConfig(input_size=32, batch_size=2))


@pytest.fixture
def load(monkeypatch):
    """Load a benchmark's module by path, under the name by which its neighbours import it."""

    def load_module(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    load_module("measure")
    return load_module


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks") / "drawn"
    write_dataset(folder, num_images=NUM_DRAWN, seed=5, size_px=(80, 64))
    return folder


@pytest.fixture(scope="module")
def records(drawn):
    return prepare(drawn, out=drawn.parent / "records", config=PreprocessingConfig(segmenter="none"), workers=1).folder


def is_ordered(row, name):
    return 0 < row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_ratios_are_taken_within_a_round(load):
    measure = load("measure")
    slow_machine = iter([9.0, 1.0, 3.0, 9.0, 2.0, 6.0])  # the first round warms up; then all slows down twofold
    turns = {"a": [], "b": []}

    def side(name):
        return lambda: turns[name].append(value := next(slow_machine)) or value

    seconds = measure.time_in_turns({"a": side("a"), "b": side("b")}, repeats=2)
    assert seconds == {"a": [3.0, 2.0], "b": [9.0, 6.0]}
    row = measure.speed_row("a", baseline="b", seconds=seconds, num_images=7)
    assert (row["times_as_fast_low"], row["times_as_fast"], row["times_as_fast_high"]) == (3.0, 3.0, 3.0)
    assert row["images_per_second"] == 0.4


def test_a_round_is_needed(load):
    with pytest.raises(ValueError, match="Received: 0"):
        load("measure").time_in_turns({"a": lambda: 1.0}, repeats=0)


def test_markdown_shows_quartiles_beside_their_median(load):
    rows = [{"case": "a", "num_images": 1234, "ratio": 2.0, "ratio_low": 1.5, "ratio_high": 2.5}, {"case": "b"}]
    table = load("measure").markdown(rows).splitlines()
    assert table[0] == "| case | num images | ratio |"
    assert table[2:] == ["| a | 1,234 | 2 [1.5, 2.5] |", "| b | - | - |"]


def test_importing(load, tmp_path):
    document = load("run").run("importing", inputs={"repeats": 1, "seed": 0}, out=tmp_path / "figures")
    assert [row["case"] for row in document["rows"]] == ["import boneage", "boneage --help"]
    assert all(is_ordered(row, "times_as_long") and row["seconds"] > 0 for row in document["rows"])
    written = tmp_path / "figures" / "benchmark-importing.json"
    assert json.loads(written.read_text()) == document
    assert sorted(path.name for path in written.parent.iterdir()) == [
        written.with_suffix(".json").name,
        "benchmark-importing.md",
    ]
    assert document["parameters"] == {"repeats": 1}
    assert {"python", "numpy"} <= document["versions"].keys()
    assert document["machine"]["num_cores"] >= 1
    assert "import boneage" in written.with_suffix(".md").read_text()


def test_encoding(load, records, tmp_path):
    load("records")
    run = load("run")
    inputs = {"data": records, "split": "train", "min_seconds": 0.0, "repeats": 1}
    document = run.run("encoding", inputs=inputs, out=tmp_path)
    rows = {row["case"]: row for row in document["rows"]}
    fast = ["JPEG 95, fast decoding", "JPEG 90, fast decoding"]
    assert list(rows) == ["PNG 1", "PNG 6", "PNG 9", "JPEG 95", "JPEG 90", *fast, "raw"]
    for row in rows.values():
        assert row["num_images"] == NUM_DRAWN
        assert is_ordered(row, "encode_times_as_fast")
        assert is_ordered(row, "decode_times_as_fast")
    for name in ("PNG 1", "PNG 6", "PNG 9", "raw"):
        assert rows[name]["largest_grey_error"] == rows[name]["mean_grey_error"] == 0
    assert 0 < rows["JPEG 95"]["mean_grey_error"] < rows["JPEG 90"]["mean_grey_error"]
    # TensorFlow's default decoder errs by itself; it must not be taken for an error of the encoding.
    assert all(rows[name]["mean_grey_error"] > rows[name.split(",")[0]]["mean_grey_error"] for name in fast)
    assert rows["JPEG 90"]["bytes_per_image"] < rows["JPEG 95"]["bytes_per_image"]
    assert rows["raw"]["bytes_per_image"] == 80 * 80
    assert rows["PNG 6"]["decode_times_as_fast"] == 1
    assert str(records.parent) not in (tmp_path / "benchmark-encoding.json").read_text()


def test_reading(load, drawn, records):
    rows = load("records").reading(records, source=drawn, experiment=TINY, num_files=3, repeats=1)
    assert all(is_ordered(row, "times_as_fast") for row in rows)
    num_images = {row["case"]: row["num_images"] for row in rows}
    assert list(num_images.values()) == [NUM_DRAWN, NUM_DRAWN, NUM_DRAWN, 3]


def test_reading_refuses_another_source(load, records, tmp_path):
    write_dataset(tmp_path, num_images=1, seed=1, size_px=(80, 64))
    (tmp_path / "boneage-training-dataset" / "1.png").rename(tmp_path / "boneage-training-dataset" / "other.png")
    module = load("records")
    with pytest.raises(module.BenchmarkError, match="no PNG file"):
        module.reading(records, source=tmp_path, experiment=TINY, repeats=1)


def test_preparing_refuses_a_source_that_one_worker_finishes(load, drawn):
    run = load("run")
    with pytest.raises(run.BenchmarkError, match="do not occupy 2 workers"):
        run.preparing(drawn)


@pytest.mark.slow
def test_preparing(load, drawn):
    (row,) = load("run").preparing(drawn, workers=(1,), repeats=1)
    assert row["num_images"] == NUM_DRAWN
    assert row["times_as_fast"] == 1
    assert row["peak_memory_mib"] > 10


@pytest.mark.release
def test_networks(load):
    rows = load("networks").networks(names=("efficientnet_lite0",), input_size=32, batch_size=2, steps=1, repeats=1)
    assert [row["case"].split(", ")[1:] for row in rows] == [
        [precision, work] for precision in ("float32", "mixed_bfloat16") for work in ("training", "prediction")
    ]
    assert all(is_ordered(row, "times_as_fast") for row in rows)
    assert [row["times_as_fast"] for row in rows[:2]] == [1, 1]


@pytest.mark.slow
def test_performance(load):
    rows = load("performance").performance(num_images=24, image_size_px=64, repeats=1)
    parts = ["training step", "augmentation", "input", "input", "preparing whole frames", "all of a training"]
    assert [row["what"].split(",")[0] for row in rows] == parts
    assert all(is_ordered(row, name) for row in rows for name in ("ours", "of_anchor", "ratio"))


@pytest.mark.slow
def test_memory(load):
    overrides = ("network=efficientnet_lite0", "input_size=64", "batch_size=8", "tta=none")
    rows = load("memory").memory(overrides=overrides, num_images=24)
    plain, training, in_parts, evaluation = (row["peak_gib"] for row in rows)
    assert 0.3 < plain < 4 and 0.3 < evaluation < min(training, in_parts) < 4


@pytest.fixture(scope="module")
def bundle(records):
    info = read_info(records)
    inputs = {"image": keras.Input((64, 64, 1), name="image"), "male": keras.Input((1,), name="male")}
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(inputs["image"])
    x = keras.layers.Concatenate(name="join")([keras.layers.GlobalAveragePooling2D(name="pool")(x), inputs["male"]])
    model = keras.Model(inputs, keras.layers.Rescaling(41.0, 127.0, name="months")(keras.layers.Dense(1)(x)))
    metadata = {key: info[key] for key in ("preprocessing", "fingerprint")}
    metadata |= {"network": "tiny", "input_size": 64, "use_sex": True, "task": "age", "tta": "none"}
    return save_bundle(records.parent / "bundle", model, metadata)


@pytest.mark.slow
def test_encoding_costs_months(load, records, bundle, tmp_path):
    load("records")
    inputs = {"data": records, "bundle": bundle, "split": "train", "min_seconds": 0.0, "repeats": 1}
    document = load("run").run("encoding", inputs=inputs, out=tmp_path)
    rows = {row["case"]: row for row in document["rows"]}
    assert "mae_change_months" not in rows["PNG 9"]
    jpeg = rows["JPEG 90"]
    assert jpeg["mae_num_images"] == NUM_DRAWN
    assert np.isclose(jpeg["mae_months"] - jpeg["lossless_mae_months"], jpeg["mae_change_months"], atol=0.05)


@pytest.mark.slow
def test_predicting(load, drawn, bundle, tmp_path):
    load("networks")
    inputs = {"files": drawn / "boneage-training-dataset", "bundle": bundle, "repeats": 1}
    document = load("run").run("predicting", inputs=inputs, out=tmp_path)
    whole, *parts = document["rows"]
    assert whole["share_of_time"] == 1
    assert [row["num_images"] for row in document["rows"]] == [NUM_DRAWN] * 4
    assert all(row["share_of_time"] > 0 for row in parts)
    assert str(drawn.parent) not in json.dumps(document)


@pytest.fixture
def hands(tmp_path):
    """Drawings with their masks and landmarks, and the network that ships in place of two folds' own."""
    radiographs, masks, folds = (tmp_path / name for name in ("radiographs", "masks", "folds"))
    rows = []
    for folder in (radiographs, masks, folds / "fold-0", folds / "fold-1"):
        folder.mkdir(parents=True)
    for number, drawn in enumerate(draw_radiographs(2, seed=3, size_px=(200, 160))):
        Image.fromarray(drawn.pixels).save(radiographs / f"{number}.png")
        Image.fromarray(drawn.mask.astype(np.uint8) * 255).save(masks / f"{number}.png")
        shares = (drawn.landmarks + 0.5) / (160, 200)
        rows.append([number, 160, 200, *shares.ravel()])
    for fold in (0, 1):
        shutil.copy(HAND_SAM_FILE, folds / f"fold-{fold}" / "hand_sam.onnx")
    (folds / "folds.csv").write_text("file,fold\n0.png,0\n1.png,1\n")
    header = ["id", "width_px", "height_px", *(f"p{number}_{axis}" for number in range(21) for axis in "xy")]
    pd.DataFrame(rows, columns=header).to_csv(tmp_path / "landmarks.csv", index=False)
    (tmp_path / "split.csv").write_text("id,split\n0,train\n1,validation\n")
    return tmp_path


def test_segmenting(load, hands, tmp_path, monkeypatch):
    module = load("hands")
    monkeypatch.setattr(
        module, "VARIANTS", {name: module.VARIANTS[name] for name in ("as they are", "mirrored", "inverted")}
    )
    (tmp_path / "unet.csv").write_text("file,dice\n1.png,0.9\n")
    monkeypatch.setattr(module, "UNET_MEASURES", tmp_path / "unet.csv")
    inputs = {"files": hands / "radiographs", "masks": hands / "masks", "folds": hands / "folds"}
    document = load("run").run("segmenting", inputs=inputs, out=tmp_path / "out")
    rows = {(row["method"], row["radiographs"]): row for row in document["rows"]}
    assert rows["hand-SAM", "as they are"]["number"] == 2 and len(rows) == 12
    whole, shares = (
        rows[f"without error, in {how}", "as they are"]["Dice, mean"] for how in ("whole pixels", "shares")
    )
    assert 0.98 < whole <= shares <= 1
    assert rows["U-Net (shipped; unseen ones)", "as they are"]["number"] == 1
    for change in ("as they are", "as they are, above the forearm's cut", "mirrored", "inverted"):
        assert rows["hand-SAM", change]["Dice, mean"] > 0.9
    assert str(hands) not in json.dumps(document)


def test_clicking(load, hands):
    """A mask that ends higher than the hand stands for what is wrong."""
    load("hands")
    for path in (hands / "masks").glob("*.png"):
        mask = np.array(Image.open(path))
        mask[: mask.shape[0] // 4] = 0
        Image.fromarray(mask).save(path)
    rows = load("clicking").clicking(hands / "radiographs", hands / "masks", hands / "folds")
    assert [row["outlines"] for row in rows] == ["hand-SAM"] * 4 + ["film area, then Otsu"]
    for row in rows:
        assert row["clicked on"] == 2 and 2 <= row["clicks"] <= 6 and 0 <= row["clicks that made it worse"] <= 1
        assert row["after all"] > row["before"]


def test_orienting(load, hands):
    arguments = (hands / "radiographs", hands / "landmarks.csv", hands / "split.csv")
    rows = {row["radiographs"]: row for row in load("hands").orienting(*arguments)}
    turned, let_through = (rows[f"turned by every 30 degrees{more}"] for more in ("", ", let through by the gate"))
    num_let_through = turned["number"] - turned["rejected"]
    assert [row["number"] for row in rows.values()] == [2, 24, num_let_through, 2, 12, 1]
    assert let_through["rejected"] == 0
    assert turned["angle error, median"] < 6 and turned["side right"] > 0.9
    assert abs(turned["forearm kept, mean"] - 0.15) < 0.1


@pytest.mark.release
def test_gating(load, hands):
    pytest.importorskip("skimage", reason="scikit-image lends its pictures")
    load("hands")
    rows = load("gate").gating(hands / "radiographs", num_drawn=5)
    assert rows[0]["kind"] == "radiographs" and rows[0]["number"] == 2
    for row in rows[1:]:
        assert row["share"] > 0.7, row


def test_completeness(load, tmp_path, monkeypatch):
    load("hands")
    load("gate")
    module = load("completeness")
    kinds = ("complete, margin 5%", "finger cut by 10%", "cut above the wrist")
    monkeypatch.setattr(module, "CUTS", {kind: module.CUTS[kind] for kind in kinds})
    hand = draw_radiograph(150, sex="female", seed=3, size_px=(400, 320), angle_degrees=0)
    rows = []
    for number in (1, 2):
        Image.fromarray(hand.pixels).save(tmp_path / f"{number}.png")
        rows.append([number, 320, 400, *((hand.landmarks + 0.5) / (320, 400)).ravel()])
    header = ["id", "width_px", "height_px", *(f"p{number}_{axis}" for number in range(21) for axis in "xy")]
    pd.DataFrame(rows, columns=header).to_csv(tmp_path / "landmarks.csv", index=False)
    found = {row["kind"]: row for row in module.completeness(tmp_path, tmp_path / "landmarks.csv")}
    assert list(found) == [name for kind in kinds for name in (kind, f"{kind}, black border")]
    assert {row["number"] for row in found.values()} == {1}  # one of them has an even id
    for kind, reason, warned in zip(kinds, ("", "", "no_wrist"), (0, 1, 0), strict=True):
        assert reason in found[kind]["reasons"] and found[kind]["rejected"] == bool(reason)
        assert found[kind]["warned"] == warned and found[kind]["rejected or warned"] == bool(reason or warned)
    pd.DataFrame(rows[1:], columns=header).to_csv(tmp_path / "even.csv", index=False)
    with pytest.raises(module.BenchmarkError, match="no upright hand"):
        module.completeness(tmp_path, tmp_path / "even.csv")


def test_measuring(load, drawn, records, tmp_path):
    load("hands")
    made = prepare(drawn, out=tmp_path / "hands", config=PreprocessingConfig(), workers=1)
    rows = {row["threshold"]: row for row in load("gate").measuring(made.folder)}
    assert rows["min_area_share"]["number"] == NUM_DRAWN
    assert rows["min_area_share"]["smallest"] <= rows["max_area_share"]["median"] <= rows["max_area_share"]["largest"]
    rejected = (made.folder / "rejected.csv").read_text().count("unsure_orientation")
    assert rows["max_landmark_doubt"]["beyond"] + rows["min_side_margin"]["beyond"] >= rejected
    with pytest.raises(load("measure").BenchmarkError, match="segmenter 'none'"):
        load("gate").measuring(records)


@pytest.mark.slow
def test_staging(load, hands):
    reading, stage, *_ = load("hands").staging(hands / "radiographs", repeats=1)
    assert stage["seconds"] > reading["seconds"] > 0 and stage["peak_memory_mib"] > 50


def test_link_packages_imports_the_checkout_itself(load, tmp_path):
    load("comparing").link_packages(FOLDER.parent, tmp_path)
    code = "import boneage.preprocessing.process as process, sys; print(process.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert Path(ran.stdout.strip()) == tmp_path / "boneage" / "preprocessing" / "process.py"


@pytest.mark.slow
def test_comparing(load, hands):
    (hands / "other").symlink_to(FOLDER.parent)
    rows = load("comparing").comparing(hands / "radiographs", [FOLDER.parent, hands / "other"], num_files=1, repeats=1)
    assert [row["checkout"] for row in rows] == [FOLDER.parent.name, "other"]
    assert rows[0]["times_the_first"] == 1 and rows[1]["times_the_first"] > 0
    with pytest.raises(load("measure").BenchmarkError, match="not a checkout of this project"):
        load("comparing").comparing(hands / "radiographs", [hands], repeats=1)
    for name in ("benchmarks", "boneage", "preprocessing", "tfrecords"):
        (hands / name).mkdir()
    (hands / "benchmarks" / "comparing.py").write_text("_STAGE = 'import boneage.missing'")
    with pytest.raises(load("measure").BenchmarkError, match="its process ended"):
        load("comparing").comparing(hands / "radiographs", [hands], repeats=1)


def test_disturbing(load, drawn, bundle, tmp_path, monkeypatch):
    load("hands")
    module = load("disturbing")
    monkeypatch.setattr(
        module, "CHANGES", {name: module.CHANGES[name] for name in ("as they come", "inverted", "turned by 90 degrees")}
    )
    splits = [f"{number},validation" for number in range(1, NUM_DRAWN + 1)]
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *splits]) + "\n")
    inputs = {"bundle": bundle, "baseline_bundle": bundle, "source": drawn, "split": tmp_path / "split.csv"}
    rows = load("run").run("disturbing", inputs=inputs, out=tmp_path / "out")["rows"]
    assert [row["number"] for row in rows] == [NUM_DRAWN] * 3
    # A bundle against itself: no difference at all.
    assert all(row["difference, 95% interval"] == "+0.00 [+0.00, +0.00]" for row in rows)
    assert rows[0]["MAE months"] == rows[0]["MAE months, other"]


def test_repeating(load, drawn, bundle, tmp_path, monkeypatch):
    for module in ("hands", "disturbing"):
        load(module)
    module = load("repeating")
    monkeypatch.setattr(module, "SAVED", {"the same": lambda pixels: pixels.copy()})
    monkeypatch.setattr(module, "PROCESSED", {"unsharp mask": module.PROCESSED["unsharp mask"]})
    splits = [f"{number},validation" for number in range(1, NUM_DRAWN + 1)]
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *splits]) + "\n")
    inputs = {"bundle": bundle, "source": drawn, "split": tmp_path / "split.csv"}
    as_they_come, same, sharpened, within = load("run").run("repeating", inputs=inputs, out=tmp_path / "out")["rows"]
    assert as_they_come["number"] == NUM_DRAWN
    # The same pixels give the same answer, and no spread within a hand.
    assert same["largest"] == within["SD within the hand, months"] == 0
    assert sharpened["largest"] > 0


def test_regions(load, tmp_path):
    """Drawn hands, whose bones grow with age: the validation split has children of 24 months more and less."""
    module = load("regions")
    folder = tmp_path / "rsna" / "boneage-training-dataset"
    folder.mkdir(parents=True)
    ages = [60, 84, 108, 132, 156, 100, 120, 140, 90, 114, 138, 115]
    for number, age in enumerate(ages):
        drawn = draw_radiograph(age, sex="female", seed=number, size_px=(400, 320), angle_degrees=0.0)
        Image.fromarray(drawn.pixels).save(folder / f"{number}.png")
    rows = [f"{number},{age},False" for number, age in enumerate(ages)]
    (tmp_path / "rsna" / "boneage-training-dataset.csv").write_text("\n".join(["id,boneage,male", *rows]) + "\n")
    splits = [f"{number},{'train' if number < 8 else 'validation'}" for number in range(12)]
    (tmp_path / "split.csv").write_text("\n".join(["id,split", *splits]) + "\n")
    inputs = {"source": tmp_path / "rsna", "split": tmp_path / "split.csv"}
    rows = {row["what"]: row for row in module.regions(DEFAULT_BUNDLE, **inputs, num_train=5, num_held_out=3)}
    assert list(rows)[:4] == ["wrist", "carpals", "fingers", "whole hand, by the bundle"]
    assert all(0 < rows[region]["MAE months"] < 100 for region in module.REGIONS)
    found = rows["carpals beyond what wrist and fingers let expect"]
    # 90, 114 (or 115) and 138 months: five have one of 24 months more or less.
    assert found["planted"] == 6 and 0 <= found["planted, detected"] <= 1
    with pytest.raises(module.BenchmarkError, match=r"8 labelled radiographs of the train split and 4 of the"):
        module.regions(DEFAULT_BUNDLE, **inputs, num_train=8, num_held_out=1)


def test_regions_finds_children_of_the_same_sex(load):
    module = load("regions")
    group = module.Group(
        months=np.array([100.0, 124, 76, 125]), male=np.array([0.0, 1, 0, 0]), whole_months=np.zeros(4), pictures={}
    )
    children, donors = module._find_donors(group, by_months=24)
    assert dict(zip(children.tolist(), donors.tolist(), strict=True)) == {0: 3, 2: 0}


def test_pairing(load, tmp_path):
    for module in ("hands", "disturbing"):
        load(module)
    module = load("pairing")
    radiographs, pictures = tmp_path / "rsna" / "boneage-training-dataset", tmp_path / "pictures"
    radiographs.mkdir(parents=True)
    pictures.mkdir()
    for number in (1, 2):
        drawn = draw_radiograph(120, sex="female", seed=4 + number, size_px=(400, 320), angle_degrees=0.0)
        Image.fromarray(drawn.pixels).save(radiographs / f"{number}.png")
    (tmp_path / "rsna" / "boneage-training-dataset.csv").write_text("id,boneage,male\n1,120,False\n2,118,False\n")
    (tmp_path / "split.csv").write_text("id,split\n1,validation\n2,validation\n")
    Image.fromarray(np.tile(np.linspace(0, 255, 320).astype(np.uint8), (400, 1))).save(pictures / "no_hand.png")
    inputs = {"source": tmp_path / "rsna", "split": tmp_path / "split.csv"}
    rows = module.pairing(DEFAULT_BUNDLE, **inputs, files=pictures, num_films=1)
    assert [row["both read"] for row in rows] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert rows[0]["largest"] < 20
    assert {row["film"]: row["read as one hand"] for row in rows}["one hand"] == 1
    assert rows[-1]["rejected"] == 1
    (tmp_path / "split.csv").write_text("id,split\n1,validation\n")
    with pytest.raises(module.BenchmarkError, match="no two radiographs"):
        module.pairing(DEFAULT_BUNDLE, **inputs)


@pytest.mark.parametrize("name", ["SAVED", "PROCESSED"])
def test_repeating_changes_keep_the_kind_of_picture(load, name):
    load("hands")
    load("disturbing")
    pixels = draw_radiograph(120, sex="female", seed=7, size_px=(200, 160)).pixels
    for change in getattr(load("repeating"), name).values():
        changed = change(pixels)
        assert changed.dtype == np.uint8 and changed.ndim == 2
        assert changed.shape != pixels.shape or not np.array_equal(changed, pixels)


def test_a_start_on_one_core_and_a_server_under_load(load, tmp_path):
    serving = load("serving")
    pixels = draw_radiograph(120, sex="female", seed=7).pixels
    Image.fromarray(pixels).save(tmp_path / "hand.png")
    serving.LOAD_NETWORK = ("-c", "pass")
    nothing, predicted, _ = serving.starting(tmp_path, repeats=1)
    assert nothing["times_as_long"] == 1.0 and predicted["times_as_long"] > 1
    assert predicted["peak_memory_mib"] > nothing["peak_memory_mib"]
    segmented, predicted = serving.folders(tmp_path, workers=1, repeats=1)
    assert segmented["times_as_long"] == 1 and predicted["seconds"] > 0
    (row,) = serving.serving(tmp_path, num_clients=2, seconds=3.0)
    assert row["requests"] == row["answered"] == row["accepted"] > 0 and not row["failed"]


@pytest.mark.slow
def test_installing(load):
    """Beside a small package, and one that there is not; by uv, which takes seconds."""
    module = load("installing")

    def install(environment, requirement):
        uv, python = ("-m", "uv"), str(environment / "bin" / "python")
        module.run_python((*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)))
        module.run_python((*uv, "pip", "install", "--quiet", "--python", python, requirement))

    module._install = install
    module.PEERS = {"six": ("six==1.17.0", "imported", ("-c", "import six")), "none": ("./none", "imported", ())}
    rows = {row["case"]: row for row in module.installing(repeats=1)}
    assert list(rows) == [
        "boneage, installed",
        "six, installed",
        "boneage, first answer",
        "boneage, --help",
        "six, imported",
        "boneage, second answer",
        "none",
    ]
    assert rows["boneage, installed"]["installed_mib"] > 100 > rows["six, installed"]["installed_mib"]
    assert rows["six, installed"]["times_as_long"] < 1
    assert rows["boneage, first answer"]["times_as_long"] == 1.0
    assert rows["boneage, second answer"]["times_as_long"] < 1
    assert "ended with status" in rows["none"]["not_run"]


@pytest.mark.release
def test_runtimes_answer_alike(load):
    """Torch too, where `make test-sam` has made a place for it."""
    torch = FOLDER.parent / ".venv-sam" / "bin" / "python"
    found = torch if torch.exists() else None
    first, *others = load("runtimes").runtimes(torch=found, batches=(2,), seconds=0.1, repeats=1)
    assert first["runtime"].startswith("ONNX Runtime") and len(others) == 1 + torch.exists()
    assert first["times_as_long"] == first["times_as_fast_by_2"] == 1 and first["largest_difference_months"] == 0
    assert all(0 < row["largest_difference_months"] < 0.5 for row in others)


@pytest.mark.slow
def test_cutting(load, tmp_path):
    for name in ("hands", "gate", "completeness", "disturbing"):
        load(name)
    write_dataset(tmp_path / "drawn", num_images=2, seed=5, size_px=(320, 256))
    cases = pd.read_csv(tmp_path / "drawn" / "boneage-training-dataset.csv")["id"]
    pd.DataFrame({"id": cases, "split": "validation"}).to_csv(tmp_path / "split.csv", index=False)
    module = load("cutting")
    rows = module.cutting(DEFAULT_BUNDLE, source=tmp_path / "drawn", split=tmp_path / "split.csv", num_files=2)
    found = {row["kind"]: row for row in rows}
    assert list(found) == list(module.CUTS)
    assert found["complete, margin 5%"]["answered"] == found["thumb cut"]["answered"] == 2
    assert found["complete, margin 5%"]["change months, 90%"] < 3
    assert found["cut above the wrist"]["answered"] == 0


@pytest.mark.slow
def test_rendering(load, tmp_path):
    for name in ("hands", "gate", "disturbing"):
        load(name)
    write_dataset(tmp_path / "drawn", num_images=2, seed=5, size_px=(320, 256))
    cases = pd.read_csv(tmp_path / "drawn" / "boneage-training-dataset.csv")["id"]
    pd.DataFrame({"id": cases, "split": "validation"}).to_csv(tmp_path / "split.csv", index=False)
    module = load("rendering")
    rows = module.rendering(DEFAULT_BUNDLE, source=tmp_path / "drawn", split=tmp_path / "split.csv", num_files=2)
    assert [row["kind"] for row in rows] == list(module.CHANGES)
    plain = rows[0]
    assert plain["number"] == 2 and plain["rejected"] == 0
    assert plain["Dice"] == 1.0 and plain["change months, median"] == 0.0 and plain["within 3 months"] == 1.0
    found = {row["kind"]: row for row in rows}
    assert found["inverted"]["Dice"] > 0.99 and found["screenshot of a viewer"]["Dice"] > 0.9
