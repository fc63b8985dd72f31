import csv
import dataclasses
import json
import os
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from boneage.bundles.bundle import BundleError
from boneage.bundles.save import copy_bundle, save_bundle
from boneage.inference.predict import PredictionError, predict
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.jobs.resumable import run_resumable
from boneage.preprocessing.sources.cells import UnreadableTableError


def save(folder, *, use_sex=True, input_size=32, white_months=100):
    """A bundle whose answer is known: `white_months` x mean grey + 10 for boys."""
    inputs = {"image": keras.Input((input_size, input_size, 1), name="image")}
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(inputs["image"])
    if use_sex:
        inputs["male"] = keras.Input((1,), name="male")
        pooled = keras.layers.Concatenate(name="join")([pooled, inputs["male"]])
    weights = [np.float32([[white_months], [10]][: 2 if use_sex else 1]), np.float32([0])]
    dense = keras.layers.Dense(1, name="months")
    model = keras.Model(inputs, dense(pooled))
    dense.set_weights(weights)
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    metadata = {
        "input_size": input_size,
        "use_sex": use_sex,
        "task": "age",
        "tta": "none",
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
    }
    return save_bundle(folder, model, metadata)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save(tmp_path_factory.mktemp("known") / "bundle")


@pytest.fixture
def radiographs(tmp_path):
    """Two radiographs, half black and half white, and a text file named .png."""
    folder = tmp_path / "radiographs"
    folder.mkdir()
    half = np.zeros((20, 20), np.uint8)
    half[:, 10:] = 255
    for name in ("1", "2"):
        cv2.imwrite(str(folder / f"{name}.png"), half)
    (folder / "3.png").write_text("no picture")
    return folder


def test_answers_for_every_file(bundle, radiographs, tmp_path):
    frame = predict(radiographs, bundle=bundle, sex="male", out=tmp_path / "out.csv")
    assert list(frame["id"]) == ["1", "2", "3"]
    assert list(frame["accepted"]) == [True, True, False]
    assert frame["bone_age_months"][:2].tolist() == pytest.approx([60, 60], abs=0.5)
    assert np.isnan(frame["bone_age_months"][2])
    assert frame["reasons"].tolist() == ["", "", "not_an_image"]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ["id", "bone_age_months", "low_months", "high_months", "sex", "accepted", "reasons"]
    assert rows[0]["low_months"] == ""
    assert float(rows[0]["bone_age_months"]) == pytest.approx(60, abs=0.5)
    assert rows[2]["bone_age_months"] == ""


def test_processes_answer_alike(bundle, radiographs, tmp_path):
    alone = predict(radiographs, bundle=bundle, sex="male", out=tmp_path / "alone.csv", workers=1)
    counted = []
    together = predict(
        radiographs,
        bundle=bundle,
        sex="male",
        out=tmp_path / "together.csv",
        workers=2,
        progress=lambda *counts: counted.append(counts),
    )
    assert together.equals(alone)
    assert (tmp_path / "together.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert counted[0] == (0, 3) and counted[-1] == (3, 3)
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == ["alone.csv", "together.csv"]


def test_a_killed_run_goes_on_unless_another_bundle_answers(bundle, radiographs, tmp_path, monkeypatch):
    out, read = tmp_path / "out.csv", []

    def read_two(path):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(path.name)
        return read_radiograph(path)

    monkeypatch.setattr("boneage.inference.images.read_isolated", read_two)
    with pytest.raises(KeyboardInterrupt):
        predict(radiographs, bundle=bundle, sex="male", out=out, workers=1)
    assert not out.exists()
    notes = tmp_path / "out.csv.part.jsonl"
    left = notes.read_text()
    read.clear()
    frame = predict(radiographs, bundle=bundle, sex="male", out=out, workers=1)
    assert read == ["3.png"] and list(frame["accepted"]) == [True, True, False]
    assert out.exists() and not notes.exists()
    notes.write_text(left)
    read[:] = []
    monkeypatch.setattr(
        "boneage.inference.images.read_isolated", lambda path: read.append(path.name) or read_radiograph(path)
    )
    other = copy_bundle(tmp_path / "other", bundle, tta="mirrored")
    predict(radiographs, bundle=other, sex="male", out=out, workers=1)
    assert read == ["1.png", "2.png", "3.png"]


def test_draws_what_the_answers_rest_on(bundle, radiographs, tmp_path):
    predict(radiographs, bundle=bundle, sex="male", occlusion_maps=tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["1.png", "2.png"]
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(PredictionError, match="--occlusion-maps"):
        predict(radiographs, bundle=bundle, sex="male", occlusion_maps=tmp_path / "taken")


def test_takes_the_sex_from_the_table(bundle, radiographs, tmp_path):
    table = tmp_path / "sex.csv"
    table.write_text("id,sex\n1,female\n2,male\n9,male\n")
    frame = predict(radiographs, bundle=bundle, table=table).set_index("id")
    assert frame.loc["2", "bone_age_months"] - frame.loc["1", "bone_age_months"] == pytest.approx(10, abs=1e-3)
    assert frame.loc["9", "reasons"] == "missing_file"


@pytest.mark.parametrize("white_months", [-200, 600])
def test_answer_outside_what_people_can_have_is_not_accepted(tmp_path, radiographs, white_months):
    frame = predict(radiographs / "1.png", bundle=save(tmp_path / "bundle", white_months=white_months), sex="male")
    assert frame["reasons"].tolist() == ["impossible_answer"]
    assert frame["bone_age_months"].isna().all()
    assert "outside 0 to 240" in frame["detail"].item()


@pytest.mark.parametrize("spelling", ["F", "f", "Female", " female "])
def test_sex_in_any_spelling(bundle, radiographs, spelling):
    frame = predict(radiographs / "1.png", bundle=bundle, sex=spelling)
    assert frame["sex"].tolist() == ["female"]


def test_age_without_a_unit_that_cannot_be_months_is_not_used(bundle, radiographs, tmp_path):
    table = tmp_path / "ages.csv"
    # Bone ages are 60 months: 20 months are possible only as years, or with a stated unit.
    table.write_text("id,sex,age\n1,male,20\n2,male,60\n")
    frame = predict(radiographs, bundle=bundle, table=table).set_index("id")
    assert frame["accepted"][["1", "2"]].all()
    assert (frame.loc["1", "warnings"], frame.loc["2", "warnings"]) == ("age_unit_doubtful", "")
    assert np.isnan(frame.loc["1", "sds"]) and abs(frame.loc["2", "sds"]) < 4
    stated = predict(radiographs, bundle=bundle, table=table, age_unit="months").set_index("id")
    assert stated.loc["1", "sds"] > 4 and stated.loc["1", "warnings"] == "age_looks_wrong"
    assert (frame.loc["1", "determination"], stated.loc["1", "determination"]) == ("indeterminate", "advanced")
    table.write_text("id,sex,age\n1,male,5\n2,male,5\n")
    with pytest.raises(UnreadableTableError, match="may be years or months; say which with --age-unit"):
        predict(radiographs, bundle=bundle, table=table)
    for age_unit in ("years", "auto"):
        years = predict(radiographs, bundle=bundle, table=table, age_unit=age_unit).set_index("id")
        assert abs(years.loc["1", "sds"]) < 4


def test_names_that_are_not_text_are_in_the_table(bundle, radiographs, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(radiographs) + b"/\xff"))
    folder.mkdir()
    for name in ("1.png", "3.png"):
        (folder / name).write_bytes((radiographs / name).read_bytes() + b" ")
    frame = predict(folder.parent, bundle=bundle, sex="male", out=tmp_path / "out.csv")
    assert len(frame) == 5
    assert r"\udcff/3.png" in pd.read_csv(tmp_path / "out.csv")["file"].tolist()


def test_an_unknown_sex_spans_the_answers_for_both(bundle, radiographs, tmp_path):
    bands = ("0-5", "5-10", "10-13", "13-16", "16+")
    interval = {"half_width_months": {"female": dict.fromkeys(bands, 20.0), "male": dict.fromkeys(bands, 5.0)}}
    known = copy_bundle(tmp_path / "known", bundle, interval=interval)
    answer = predict(radiographs / "1.png", bundle=known).loc[0]
    # A girl of this image would be 50 months old, a boy 60.
    assert answer["bone_age_months"] == pytest.approx(55, abs=0.5)
    assert (answer["low_months"], answer["high_months"]) == pytest.approx((30, 70), abs=0.5)
    assert (answer["accepted"], answer["sex"], answer["warnings"]) == (True, "", "sex_unknown")


def test_needs_no_sex_where_the_network_uses_none(tmp_path, radiographs):
    frame = predict([radiographs / "1.png"], bundle=save(tmp_path / "bundle", use_sex=False))
    assert frame["bone_age_months"].tolist() == pytest.approx([50], abs=0.5)


def test_joins_answers_to_files_and_not_to_positions(bundle, tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    # Bright shares that rise with the id, with an unreadable file in the middle and more files than a batch.
    for number in range(20):
        pixels = np.zeros((20, 20), np.uint8)
        pixels[: number + 1] = 255
        cv2.imwrite(str(folder / f"{number:02d}.png"), pixels)
    (folder / "07.png").write_bytes(b"")
    frame = predict(folder, bundle=bundle, sex="female").set_index("id")
    assert frame.loc["07", "reasons"] == "empty_file"
    months = frame["bone_age_months"].drop("07")
    shares = np.array([(int(id) + 1) / 20 for id in months.index])
    assert np.abs(months[shares < 1].to_numpy() - 100 * shares[shares < 1]).max() < 3


def test_refuses_a_misspelt_sex_and_two_sources_of_it(bundle, radiographs, tmp_path):
    with pytest.raises(ValueError, match="'femal'"):
        predict(radiographs, bundle=bundle, sex="femal")
    with pytest.raises(ValueError, match="exclude each other"):
        predict(radiographs, bundle=bundle, sex="male", table=tmp_path / "t.csv")


def test_interval_is_that_of_sex_and_band(bundle, radiographs, tmp_path):
    bands = ("0-5", "5-10", "10-13", "13-16", "16+")
    interval = {"half_width_months": {"female": dict.fromkeys(bands, 70.0), "male": dict.fromkeys(bands, 12.5)}}
    known = copy_bundle(tmp_path / "known", bundle, interval=interval)
    for sex, months, reach in (("male", 60, 12.5), ("female", 50, 70.0)):
        row = predict(radiographs / "1.png", bundle=known, sex=sex).iloc[0]
        assert row["bone_age_months"] == pytest.approx(months, abs=0.5)
        assert row["low_months"] == pytest.approx(max(0, row["bone_age_months"] - reach))
        assert row["high_months"] == pytest.approx(row["bone_age_months"] + reach)


def save_sex(folder, *, threshold, slope=100, image_size_px=32):
    """A bundle that takes bright images, of a mean grey above the threshold, for boys, and is sure of it if steep."""
    image = keras.Input((32, 32, 1), name="image")
    dense = keras.layers.Dense(1, activation="sigmoid", name="male_probability")
    model = keras.Model({"image": image}, dense(keras.layers.GlobalAveragePooling2D(name="pool")(image)))
    dense.set_weights([np.float32([[slope]]), np.float32([-slope * threshold])])
    config = PreprocessingConfig(segmenter="none", image_size_px=image_size_px)
    metadata = {"task": "sex", "input_size": 32, "use_sex": False, "tta": "none"}
    described = {"preprocessing": dataclasses.asdict(config), "fingerprint": fingerprint(config)}
    return save_bundle(folder, model, metadata | described)


def test_sex_of_the_image_warns_and_fills_in(bundle, radiographs, tmp_path):
    boys, girls = save_sex(tmp_path / "boys", threshold=0.2), save_sex(tmp_path / "girls", threshold=0.8)
    recorded = predict(radiographs / "1.png", bundle=bundle, sex_bundle=boys, sex="male")
    assert (recorded["warnings"][0], recorded["male_probability"][0]) == ("", pytest.approx(1, abs=1e-6))
    doubted = predict(radiographs / "1.png", bundle=bundle, sex_bundle=girls, sex="male")
    assert (doubted["warnings"][0], doubted["sex"][0]) == ("sex_looks_wrong", "male")
    assert doubted["bone_age_months"][0] == recorded["bone_age_months"][0]
    unknown = predict(radiographs / "1.png", bundle=bundle, sex_bundle=girls)
    assert (unknown["warnings"][0], unknown["sex"][0], unknown["accepted"][0]) == ("sex_from_image", "female", True)
    assert unknown["bone_age_months"][0] == pytest.approx(recorded["bone_age_months"][0] - 10, abs=1e-3)


def test_interval_spans_both_sexes_where_the_image_tells_the_sex(bundle, radiographs, tmp_path):
    bands = ("0-5", "5-10", "10-13", "13-16", "16+")
    interval = {"half_width_months": {"female": dict.fromkeys(bands, 20.0), "male": dict.fromkeys(bands, 5.0)}}
    known = copy_bundle(tmp_path / "known", bundle, interval=interval)
    ends = {}
    for name, slope in (("sure", 100), ("unsure", 1)):
        sex = save_sex(tmp_path / name, threshold=0.2, slope=slope)
        answer = predict(radiographs / "1.png", bundle=known, sex_bundle=sex).loc[0]
        assert (answer["sex"], answer["bone_age_months"]) == ("male", pytest.approx(60, abs=0.5))
        ends[name] = (answer["low_months"], answer["high_months"])
    # A girl of this image would be 50 months old, by 20 to either side.
    assert ends["sure"] == ends["unsure"] == pytest.approx((30, 70), abs=0.5)


@pytest.mark.parametrize("calibrated", [False, True])
def test_unknown_sex_spans_both_answers_where_the_network_uses_none(radiographs, tmp_path, calibrated):
    bands = ("0-5", "5-10", "10-13", "13-16", "16+")
    interval = {"half_width_months": {"female": dict.fromkeys(bands, 20.0), "male": dict.fromkeys(bands, 5.0)}}
    lines = {"calibration": {"female": [1.0, -10.0], "male": [1.0, 30.0]}} if calibrated else {}
    known = copy_bundle(tmp_path / "known", save(tmp_path / "plain", use_sex=False), interval=interval, **lines)
    answer = predict(radiographs / "1.png", bundle=known).loc[0]
    assert answer["bone_age_months"] == pytest.approx(60 if calibrated else 50, abs=0.5)
    assert (answer["low_months"], answer["high_months"]) == pytest.approx((20, 85) if calibrated else (30, 70), abs=0.5)
    assert (answer["sex"], answer["warnings"]) == ("", "sex_unknown" if calibrated else "")
    girl = predict(radiographs / "1.png", bundle=known, sex="female").loc[0]
    assert girl["low_months"] == pytest.approx(20 if calibrated else 30, abs=0.5)


def test_interval_open_to_the_upper_side_is_named(bundle, radiographs, tmp_path):
    bands = ("0-5", "5-10", "10-13", "13-16", "16+")
    offsets = {sex: {band: [-8.0, 9.0] for band in bands} for sex in ("female", "male")}
    oldest = {"from_months": 55.0, "offset_months": 170.0}
    interval = {"coverage_share": 0.9, "offsets_months": offsets, "oldest": {"male": oldest}}
    known = copy_bundle(tmp_path / "known", bundle, interval=interval)
    boy, girl = (predict(radiographs / "1.png", bundle=known, sex=sex).loc[0] for sex in ("male", "female"))
    assert (boy["interval"], boy["high_months"]) == (f"{boy['low_months']:.1f} months or more", 240)
    assert girl["interval"] == f"{girl['low_months']:.1f} to {girl['high_months']:.1f} months"
    assert girl["high_months"] == pytest.approx(girl["bone_age_months"] + 9)


def test_bundles_that_do_not_belong_together_are_refused(bundle, radiographs, tmp_path):
    sex = save_sex(tmp_path / "sex", threshold=0.5, image_size_px=64)
    with pytest.raises(BundleError, match="classifies sex"):
        predict(radiographs, bundle=sex)
    with pytest.raises(BundleError, match="does not classify sex"):
        predict(radiographs, bundle=bundle, sex_bundle=bundle)
    with pytest.raises(BundleError, match="different preprocessing from"):
        predict(radiographs, bundle=bundle, sex_bundle=sex)


def test_table_of_answers_is_json_ready(bundle, radiographs):
    rows = json.loads(predict(radiographs, bundle=bundle, sex="male").to_json(orient="records"))
    assert rows[2]["bone_age_months"] is None


@pytest.mark.parametrize("place", ["before the row", "after the row"])
def test_a_kill_doubles_no_report_and_no_map(bundle, radiographs, tmp_path, monkeypatch, place):
    options = {"bundle": bundle, "sex": "male", "out": tmp_path / "out.csv", "workers": 1}
    folders = {name: tmp_path / name for name in ("fhir", "occlusion_maps")}

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        before = "boneage.preprocessing.jobs.resumable._format_row"
        patch.setattr(before if place == "before the row" else "boneage.inference.predict.Staging.publish", kill)
        with pytest.raises(KeyboardInterrupt):
            predict(radiographs, **options, **folders)
    assert [path for folder in folders.values() for path in folder.iterdir() if path.is_file()] == []
    frame = predict(radiographs, **options, **folders)
    assert {path.name for path in folders["fhir"].iterdir()} == set(filter(None, frame["reports"]))
    assert {path.name for path in folders["occlusion_maps"].iterdir()} == {"1.png", "2.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"radiographs", "out.csv", "fhir", "occlusion_maps"}


def test_the_champion_is_looked_up_once_for_all_processes(bundle, radiographs, tmp_path, monkeypatch):
    asked = []

    def fetch(name):
        asked.append(name)
        return bundle

    monkeypatch.setattr("boneage.registry.fetch.fetch_bundle", fetch)
    frame = predict(radiographs, bundle="models:/boneage@champion", sex="male", workers=2)
    assert asked == ["models:/boneage@champion"]
    assert list(frame["accepted"]) == [True, True, False]


def test_a_file_that_vanishes_and_a_name_that_is_no_utf8_have_their_rows(bundle, radiographs, tmp_path, monkeypatch):
    (radiographs / "1.png").rename(radiographs / os.fsdecode(b"caf\xe9.png"))
    folder = radiographs / os.fsdecode(b"\xff\n")
    folder.mkdir()
    (radiographs / "3.png").rename(folder / "3.png")

    def vanish(*arguments, **options):
        (radiographs / "2.png").unlink()
        return run_resumable(*arguments, **options)

    monkeypatch.setattr("boneage.inference.predict.run_resumable", vanish)
    predict(radiographs, bundle=bundle, sex="male", out=tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert {Path(name).name: row["reasons"] for name, row in rows.items()} == {
        "2.png": "missing_file",
        "3.png": "not_an_image",
        "caf\\udce9.png": "unsafe_id",
    }
    assert all("\n" not in value for row in rows.values() for value in row.values())


def test_what_a_run_writes_among_its_inputs_is_no_input_of_the_next(bundle, radiographs, monkeypatch):
    options = {"bundle": bundle, "sex": "male", "out": radiographs / "out.csv"}
    folders = {name: radiographs / name for name in ("fhir", "occlusion_maps")}

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("boneage.inference.predict.Staging.close", kill)
        with pytest.raises(KeyboardInterrupt):
            predict(radiographs, **options, **folders)
    for _ in range(2):
        assert list(predict(radiographs, **options, **folders)["id"]) == ["1", "2", "3"]
