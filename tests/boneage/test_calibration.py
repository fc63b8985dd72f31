"""Lines by sex: what they correct, that they are tested on what they were not fitted to, and what they leave alone."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from boneage.bundle import load_bundle
from boneage.calibration import CalibrationError, calibrate, cross_fit, fit_lines
from boneage.saving import save_bundle
from preprocessing.pipeline import PreprocessingConfig, fingerprint


def table(num_images, *, seed=0, noise_months=0.0):
    """Predictions of a network that reads girls 6 months old and 5% steep, boys 3 months young."""
    rng = np.random.default_rng(seed)
    read = rng.uniform(20, 200, num_images)
    sex = rng.choice(["female", "male"], num_images)
    predicted = np.where(sex == "female", (read + 6) / 0.95, read - 3) + rng.normal(0, noise_months, num_images)
    ids = [f"image-{number}" for number in range(num_images)]
    return pd.DataFrame({"id": ids, "sex": sex, "bone_age_months": read, "predicted_months": predicted})


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


def test_no_radiograph_is_corrected_by_a_line_that_knows_it():
    frame = table(40, noise_months=5)
    corrected = cross_fit(frame, seed=1)
    changed = frame.copy()
    changed.loc[7, "bone_age_months"] += 100
    again = cross_fit(changed, seed=1)
    assert again.loc[7, "predicted_months"] == corrected.loc[7, "predicted_months"]
    assert (again["predicted_months"] != corrected["predicted_months"]).any()
    assert set(corrected["id"]) == set(frame["id"])


def test_a_biased_bundle_is_mended_in_a_new_one(prepared, tmp_path):
    info = prepared.info
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
        "views": "one",
        "preprocessing": dataclasses.asdict(config),
        "fingerprint": fingerprint(config),
    }
    bundle = save_bundle(tmp_path / "bundle", model, metadata)
    made = calibrate(bundle, data=prepared.folder, out=tmp_path / "calibrated")
    assert made.comparison.num_images == sum(each["num_records"] for each in info["splits"].values())
    assert made.comparison.difference_months.high < -50
    assert abs(made.bias_after_months) < 15 < made.bias_before_months
    assert "calibration" not in load_bundle(bundle).metadata
    calibrated = load_bundle(made.bundle)
    assert calibrated.metadata["calibration_data"]["digest"] == info["digest"]
    # A second calibration on the same records finds nothing left to do.
    again = calibrate(made.bundle, data=prepared.folder, out=tmp_path / "again")
    for sex in ("female", "male"):
        assert again.lines[sex] == pytest.approx((1, 0), abs=0.05)
        np.testing.assert_allclose(
            load_bundle(again.bundle).metadata["calibration"][sex], calibrated.metadata["calibration"][sex], rtol=0.01
        )


def test_too_few_records_are_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("boneage.calibration.MIN_IMAGES", 1000)
    test_bundle = tmp_path / "bundle"
    image = keras.Input((32, 32, 1), name="image")
    model = keras.Model({"image": image}, keras.layers.Dense(1)(keras.layers.Flatten()(image)))
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    described = {"input_size": 32, "use_sex": False, "task": "age", "views": "one", "fingerprint": fingerprint(config)}
    save_bundle(test_bundle, model, described)
    with pytest.raises(CalibrationError, match="40 labelled records, too few"):
        calibrate(test_bundle, data=prepared.folder, out=tmp_path / "out")
