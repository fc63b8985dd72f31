"""Lines by sex: what they correct, that they are tested on what they were not fitted to, and what they leave alone."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from boneage.bundles.bundle import load_bundle
from boneage.bundles.save import copy_bundle, save_bundle
from boneage.bundles.seen import hash_radiographs
from boneage.evaluation.calibrate import CalibrationError, calibrate, cross_fit, fit_lines
from boneage.evaluation.evaluate import evaluate_records
from boneage.preprocessing.config import PreprocessingConfig, fingerprint
from boneage.preprocessing.jobs.prepare import prepare
from boneage.tfrecords.identities import read_identities


def table(num_images, *, seed=0, noise_months=0.0):
    """Predictions of a network that reads girls 6 months old and 5% steep, boys 3 months young."""
    rng = np.random.default_rng(seed)
    read = rng.uniform(20, 200, num_images)
    sex = rng.choice(["female", "male"], num_images)
    predicted = np.where(sex == "female", (read + 6) / 0.95, read - 3) + rng.normal(0, noise_months, num_images)
    ids = [f"image-{number}" for number in range(num_images)]
    return pd.DataFrame({"id": ids, "sex": sex, "bone_age_months": read, "predicted_months": predicted})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle that predicts 300 months more than 40 times the mean grey: far too old."""
    image, male = keras.Input((32, 32, 1), name="image"), keras.Input((1,), name="male")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    dense = keras.layers.Dense(1, name="months")
    model = keras.Model({"image": image, "male": male}, dense(keras.layers.Concatenate(name="join")([pooled, male])))
    dense.set_weights([np.float32([[40], [0]]), np.float32([300])])
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    metadata = {
        "input_size": 32,
        "use_sex": True,
        "task": "age",
        "tta": "none",
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
    }
    return save_bundle(tmp_path_factory.mktemp("biased") / "bundle", model, metadata)


def test_lines_are_found_by_sex():
    lines = fit_lines(table(100))
    assert lines["female"] == pytest.approx((0.95, -6), abs=1e-6)
    assert lines["male"] == pytest.approx((1, 3), abs=1e-6)


def test_a_rare_sex_shares_the_line_of_all():
    frame = table(60)
    frame.loc[frame.index[5:], "sex"] = "female"
    lines = fit_lines(frame)
    assert lines["male"] != lines["female"]
    assert lines["male"] == fit_lines(frame.assign(sex="female"))["female"]


def test_equal_predictions_are_only_moved():
    frame = table(30).assign(predicted_months=100.0, sex="male")
    assert fit_lines(frame)["male"] == pytest.approx((1.0, frame["bone_age_months"].mean() - 100))


@pytest.mark.parametrize("group_size", [1, 4])
def test_no_radiograph_is_corrected_by_a_line_that_knows_its_patient(group_size):
    frame = table(40, noise_months=5).assign(group=np.arange(40) // group_size)
    corrected = cross_fit(frame, seed=1)
    changed, patient = frame.copy(), frame["group"] == frame.loc[7, "group"]
    changed.loc[patient, "bone_age_months"] += 100
    again = cross_fit(changed, seed=1)
    pd.testing.assert_frame_equal(again[patient][["predicted_months"]], corrected[patient][["predicted_months"]])
    assert (again["predicted_months"] != corrected["predicted_months"]).any()
    assert set(corrected["id"]) == set(frame["id"])


def test_calibrate_mends_a_biased_bundle_in_a_new_one(bundle, prepared, tmp_path):
    made = calibrate(bundle, data=prepared.folder, out=tmp_path / "calibrated")
    assert made.comparison.num_images == sum(split["num_records"] for split in prepared.info["splits"].values())
    assert made.comparison.difference_months.high < -50
    assert abs(made.bias_after_months) < 15 < made.bias_before_months
    assert "calibration" not in load_bundle(bundle).metadata
    calibrated = load_bundle(made.bundle)
    assert {entry["use"] for entry in calibrated.metadata["seen_data"]} == {"calibration"}
    assert calibrated.metadata["interval"] == made.interval
    assert made.interval["num_groups"] == 40


def test_calibrate_refuses_the_records_that_set_the_calibration(bundle, prepared, drawn, tmp_path):
    made = calibrate(bundle, data=prepared.folder, split="train", out=tmp_path / "calibrated")
    with pytest.raises(
        CalibrationError, match=r"32 radiographs of the split 'train' set its calibration.*--split test"
    ):
        calibrate(made.bundle, data=prepared.folder, out=tmp_path / "again")
    # The same radiographs in another record folder, divided otherwise.
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    other = prepare(drawn, out=tmp_path / "other", split="random", seed=9, config=config, workers=1)
    assert other.info["digest"] != prepared.info["digest"]
    with pytest.raises(CalibrationError, match="set its calibration"):
        calibrate(made.bundle, data=other.folder, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    overlap = evaluate_records(made.bundle, data=prepared.folder, split="train", num_resamples=5).overlap
    assert [(seen.use, seen.num_images) for seen in overlap] == [("calibration", 32)]
    assert evaluate_records(made.bundle, data=prepared.folder, split="test", num_resamples=5).overlap == []


@pytest.mark.parametrize(
    ("seen", "split", "message"),
    [
        ([("training", "train")], None, "32 radiographs of the split 'train' trained the network"),
        ([("training", "train")], "train", "prepare radiographs that it has not seen"),
        ([("selection", "validation")], "validation", "4 radiographs of the split 'validation' chose its epoch"),
    ],
)
def test_calibrate_refuses_what_the_bundle_learnt_from(bundle, prepared, tmp_path, seen, split, message):
    digest = prepared.info["digest"]
    entries = [{"use": use, "digest": digest, "split": name} for use, name in seen]
    trained = copy_bundle(tmp_path / "trained", bundle, seen_data=entries)
    with pytest.raises(CalibrationError, match=message):
        calibrate(trained, data=prepared.folder, out=tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


def test_calibrate_knows_the_training_of_a_bundle_that_has_no_list(bundle, prepared, tmp_path):
    old = copy_bundle(tmp_path / "old", bundle, training_data={"digest": prepared.info["digest"]})
    with pytest.raises(CalibrationError, match=r"trained the network.*chose its epoch"):
        calibrate(old, data=prepared.folder, out=tmp_path / "out")


def test_radiographs_that_only_set_the_interval_may_calibrate(bundle, prepared, tmp_path):
    hashes = hash_radiographs(read_identities(prepared.folder, split="train")["pixel_sha256"])
    known = copy_bundle(tmp_path / "known", bundle, seen={"interval": hashes}, seen_data=[])
    assert calibrate(known, data=prepared.folder, split="train", out=tmp_path / "out").comparison.num_images == 32


def test_calibrate_writes_no_worse_bundle_unless_told_to(bundle, prepared, tmp_path, monkeypatch):
    # A line that is fitted to the wrong thing makes every prediction worse.
    wrong = dict.fromkeys(("female", "male"), (1.0, 500.0))
    monkeypatch.setattr("boneage.evaluation.calibrate.fit_lines", lambda frame: wrong)
    with pytest.raises(CalibrationError, match=r"does not help; no bundle written \(--force"):
        calibrate(bundle, data=prepared.folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = calibrate(bundle, data=prepared.folder, out=tmp_path / "out", force=True)
    assert load_bundle(made.bundle).metadata["calibration"]["male"] == [1.0, 500.0]


def test_too_few_patients_are_refused(bundle, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("boneage.evaluation.calibrate.MIN_PATIENTS", 1000)
    with pytest.raises(CalibrationError, match="40 labelled records of 40 patients are too few"):
        calibrate(bundle, data=prepared.folder, out=tmp_path / "out")
