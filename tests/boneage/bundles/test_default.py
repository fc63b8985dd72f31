"""The bundles in the package: what their cards say they are, ready to read and to be trained on."""

import cv2
import numpy as np
import pytest

from boneage.bundles.bundle import DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, load_bundle, read_metadata
from boneage.bundles.save import load_network
from boneage.inference.predict import predict
from boneage.preprocessing.synthetic import draw_radiograph


def test_card_names_the_file_and_what_it_reaches():
    card, metadata = (DEFAULT_BUNDLE / "README.md").read_text(encoding="utf-8"), read_metadata(DEFAULT_BUNDLE)
    assert metadata["sha256"]["model.onnx"] in card
    assert f"**{metadata['validation_error']:.2f} [" in card
    assert (DEFAULT_BUNDLE / "model.onnx").stat().st_size < 25e6
    # Nothing of the machine that it was trained on.
    assert "/" not in metadata["training_data"]["source"]


def test_card_of_the_sex_names_its_file_and_what_it_reaches():
    card, metadata = (DEFAULT_SEX_BUNDLE / "README.md").read_text(encoding="utf-8"), read_metadata(DEFAULT_SEX_BUNDLE)
    assert metadata["sha256"]["model.onnx"] in card
    assert f"**{100 * (1 - metadata['validation_error']):.1f}% [" in card
    assert metadata["fingerprint"] == read_metadata(DEFAULT_BUNDLE)["fingerprint"]
    assert (DEFAULT_SEX_BUNDLE / "model.onnx").stat().st_size < 25e6
    assert "/" not in metadata["training_data"]["source"]


def test_tells_the_sex_where_none_is_known(tmp_path):
    drawn = draw_radiograph(120, sex="female", seed=5, size_px=(400, 320), angle_degrees=0.0)
    cv2.imwrite(str(tmp_path / "hand.png"), drawn.pixels)
    (answer,) = predict(tmp_path / "hand.png").to_dict("records")
    assert answer["accepted"] and answer["warnings"] == "sex_from_image" and 24 < answer["bone_age_months"] < 228
    assert answer["sex"] == ("male" if answer["male_probability"] > 0.5 else "female")


def test_reads_a_hand_and_refuses_what_is_none(tmp_path):
    drawn = draw_radiograph(120, sex="female", seed=5, size_px=(400, 320), angle_degrees=30.0)
    cv2.imwrite(str(tmp_path / "hand.png"), drawn.pixels)
    cv2.imwrite(str(tmp_path / "noise.png"), np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8))
    hand, noise = predict(tmp_path, sex="female").to_dict("records")
    assert hand["accepted"] and 24 < hand["bone_age_months"] < 228
    assert hand["low_months"] < hand["bone_age_months"] < hand["high_months"]
    assert not noise["accepted"] and noise["reasons"]


def test_network_to_train_on_answers_as_the_onnx_does():
    bundle, network = load_bundle(DEFAULT_BUNDLE), load_network(DEFAULT_BUNDLE)
    drawn = draw_radiograph(120, sex="male", seed=6, size_px=(bundle.input_size,) * 2, angle_degrees=0.0)
    images, male = drawn.pixels[None, ..., None], np.ones((1, 1), np.float32)
    months = network({"image": images.astype(np.float32) / 255, "male": male}).numpy()[0, 0]
    assert bundle.predict_batch(images, male, tta="none")[0] == pytest.approx(months, abs=0.3)
