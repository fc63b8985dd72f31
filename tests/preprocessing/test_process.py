"""The steps together, the configuration, and the fingerprint that ties models to pixels."""

import dataclasses
import json
from pathlib import Path

import cv2
import jaxtyping
import numpy as np
import pytest

from boneage.preprocessing.config import PreprocessingConfig, _landmarks_sha256, fingerprint
from boneage.preprocessing.decisions import REASON_MESSAGES, describe_rejection
from boneage.preprocessing.hand.gate import GateConfig, HandMeasures, check_gate
from boneage.preprocessing.hand.segmenters import _WEIGHTS, SEGMENTERS, get_segmenter, weights_sha256, whole_frame
from boneage.preprocessing.io.radiograph import Radiograph, UnreadableImageError
from boneage.preprocessing.process import analyse_hand, process
from boneage.preprocessing.segmentation.segmentation import Segmentation
from boneage.preprocessing.sources.review_csv import Review
from boneage.preprocessing.synthetic import draw_radiograph

# A change here means that records and bundles made before no longer fit. If the pixels changed, raise the version;
# if they did not, there is no reason for another fingerprint.
DEFAULT_FINGERPRINT = "086a04c80ee287ea"
WHOLE_RANGE = PreprocessingConfig(segmenter="none", contrast_low_percentile=0.0, contrast_high_percentile=100.0)


def make_radiograph(pixels, *, pixel_spacing_mm=None):
    return Radiograph(
        pixels=pixels,
        pixel_spacing_mm=pixel_spacing_mm,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256="0" * 64,
    )


WHOLE_FRAME = PreprocessingConfig(segmenter="none")


def test_golden_pixels():
    prepared = process(make_radiograph(np.uint8([[20, 30, 40], [50, 60, 60]])), WHOLE_RANGE)
    assert prepared.image.tolist() == [[0, 64, 128], [191, 255, 255], [0, 0, 0]]
    assert prepared.image.dtype == np.uint8
    assert prepared.crop_box_px == (0, 0, 3, 2)
    assert (prepared.rotation_degrees, prepared.mask_score, prepared.pixel_spacing_mm) == (0.0, None, None)


def test_golden_pixels_when_shrunk():
    pixels = np.zeros((32, 16), np.uint16)
    pixels[:, 8:] = 4000
    config = dataclasses.replace(WHOLE_RANGE, image_size_px=16)
    prepared = process(make_radiograph(pixels, pixel_spacing_mm=(0.1, 0.1)), config)
    assert prepared.image.tolist() == [[0] * 8 + [255] * 4 + [0] * 4] * 16
    assert prepared.crop_box_px == (0, 0, 16, 32)
    assert prepared.pixel_spacing_mm == pytest.approx(0.2)


def test_spacing_of_what_is_not_shrunk_is_that_of_the_source():
    prepared = process(make_radiograph(np.uint8([[1, 2]]), pixel_spacing_mm=(0.14, 0.16)), WHOLE_RANGE)
    assert prepared.pixel_spacing_mm == pytest.approx(0.15)


def test_fingerprint_of_whole_frames_is_what_it_was():
    assert fingerprint(WHOLE_FRAME) == DEFAULT_FINGERPRINT


OTHER_VALUES = {
    "segmenter": "unet",
    "image_size_px": 256,
    "contrast_low_percentile": 2.0,
    "contrast_high_percentile": 98.0,
    "forearm_share": 0.2,
    "margin_share": 0.1,
    "gate": GateConfig(max_cut_score=0.5),
}


def test_every_field_changes_the_fingerprint():
    # The hash of the checkpoint covers the last two.
    known = set(OTHER_VALUES) | {"sam_model", "sam_checkpoint"}
    assert known == {field.name for field in dataclasses.fields(PreprocessingConfig)}
    configs = [PreprocessingConfig(), *(PreprocessingConfig(**{name: value}) for name, value in OTHER_VALUES.items())]
    assert len({fingerprint(config) for config in configs}) == len(configs)


@pytest.mark.parametrize("name", ["forearm_share", "margin_share", "gate"])
def test_settings_of_hands_do_not_change_the_fingerprint_of_whole_frames(name):
    assert fingerprint(dataclasses.replace(WHOLE_FRAME, **{name: OTHER_VALUES[name]})) == DEFAULT_FINGERPRINT


@pytest.mark.parametrize("weights", ["HAND_SAM_FILE", "LANDMARKS_FILE"])
def test_other_weights_change_the_fingerprint(weights, monkeypatch, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other weights")
    before = fingerprint(PreprocessingConfig())
    if weights == "LANDMARKS_FILE":
        monkeypatch.setattr("boneage.preprocessing.config.LANDMARKS_FILE", other)
        monkeypatch.setattr("boneage.preprocessing.config._landmarks_sha256", _landmarks_sha256.__wrapped__)
    else:
        monkeypatch.setitem(_WEIGHTS, "hand_sam", other)
        monkeypatch.setattr("boneage.preprocessing.config.weights_sha256", weights_sha256.__wrapped__)
    assert fingerprint(PreprocessingConfig()) != before


@pytest.mark.parametrize(("version", "config"), [("FRAME", WHOLE_FRAME), ("HAND", PreprocessingConfig())])
def test_version_changes_the_fingerprint(version, config, monkeypatch):
    before = fingerprint(config)
    monkeypatch.setattr(f"boneage.preprocessing.config.{version}_VERSION", -1)
    assert fingerprint(config) != before


def test_equal_configurations_have_equal_fingerprints(monkeypatch):
    # Types are checked in tests only: elsewhere 1 is accepted for 1.0.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = PreprocessingConfig(segmenter="none", contrast_low_percentile=1, contrast_high_percentile=99)
    assert config == WHOLE_FRAME
    assert fingerprint(config) == DEFAULT_FINGERPRINT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size_px": 15}, r"`image_size_px` must lie in \[16, 4096\]\. Received: 15\."),
        ({"image_size_px": 4097}, r"`image_size_px` must lie in \[16, 4096\]\. Received: 4097\."),
        ({"contrast_low_percentile": 99.5}, r"`contrast_low_percentile` must be below .* Received: 99\.5 and 99\.0\."),
        ({"contrast_low_percentile": -0.5}, r"`contrast_low_percentile` must be below .* Received: -0\.5 and 99\.0\."),
        ({"contrast_high_percentile": 100.5}, r"both in \[0, 100\]\. Received: 1\.0 and 100\.5\."),
        ({"contrast_low_percentile": float("nan")}, r"both in \[0, 100\]\. Received: nan and 99\.0\."),
        ({"segmenter": "nine"}, r"`segmenter` must be one of .*none.*\. Received: 'nine'\. Did you mean 'none'\?"),
        ({"forearm_share": -0.1}, r"`forearm_share` must lie in \[0, 1\]\. Received: -0\.1\."),
        ({"margin_share": 2.0}, r"`margin_share` must lie in \[0, 1\]\. Received: 2\.0\."),
    ],
)
def test_mistake_in_the_configuration_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        PreprocessingConfig(**values)


HAND = draw_radiograph(130, sex="female", seed=4, size_px=(320, 256), angle_degrees=20.0)
WITH_HAND = PreprocessingConfig(segmenter="unet", image_size_px=128)


@pytest.fixture
def know_the_drawing(monkeypatch):
    """A segmenter that gives the mask of the drawing."""
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(HAND.mask, 0.97))


def test_a_hand_is_upright_on_black_with_its_decisions(know_the_drawing):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND)
    assert prepared.image.shape == (128, 128) and prepared.image.dtype == np.uint8
    assert prepared.rotation_degrees == pytest.approx(-20, abs=8)
    assert (prepared.mirrored, prepared.mask_score) == (False, 0.97)
    # The hand's width and height fill the square up to the margin; what is off the hand is black.
    assert prepared.image.any(axis=1).sum() > 110 and not prepared.image[:2].any() and not prepared.image[:, :2].any()
    assert prepared.decisions["side"] == "left" and prepared.decisions["reasons"] == []
    assert prepared.decisions["angle_degrees"] == pytest.approx(-prepared.rotation_degrees, abs=0.01)
    assert len(prepared.decisions["landmarks_px"]) == 21
    json.dumps(prepared.decisions)


def test_a_coarser_crop_has_the_same_box_and_larger_pixels(know_the_drawing):
    radiograph = make_radiograph(HAND.pixels, pixel_spacing_mm=(0.5, 0.5))
    whole, half = (process(radiograph, dataclasses.replace(WITH_HAND, image_size_px=side)) for side in (128, 64))
    assert whole.crop_box_px == half.crop_box_px
    assert half.pixel_spacing_mm == pytest.approx(2 * whole.pixel_spacing_mm)
    assert half.image.shape == (64, 64)


def test_inverted_film_gives_the_same_crop(know_the_drawing):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND)
    inverted = process(make_radiograph(255 - HAND.pixels), WITH_HAND)
    assert not prepared.decisions["inverted"] and inverted.decisions["inverted"]
    difference = np.abs(prepared.image.astype(int) - inverted.image)
    # Landmarks differ by a twentieth of a pixel, and interpolated noise with them.
    assert inverted.rotation_degrees == pytest.approx(prepared.rotation_degrees, abs=0.05)
    assert difference.mean() < 1.5


def test_mirrored_hand_gives_the_same_crop(monkeypatch, know_the_drawing):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(HAND.mask[:, ::-1].copy(), 0.97))
    mirrored = process(make_radiograph(HAND.pixels[:, ::-1].copy()), WITH_HAND)
    assert mirrored.mirrored and mirrored.decisions["side"] == "right"
    assert mirrored.rotation_degrees == pytest.approx(-prepared.rotation_degrees, abs=4)
    assert np.corrcoef(prepared.image.ravel(), mirrored.image.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_hand_that_lies_is_segmented_upright_and_keeps_its_position(monkeypatch, know_the_drawing, quarter_turns):
    upright = process(make_radiograph(HAND.pixels), WITH_HAND)
    lying = np.rot90(HAND.mask, quarter_turns)

    def know_upright_hands(pixels):
        """Outline upright hands alone well."""
        stands = np.array_equal(pixels, upright.hand.pixels)
        mask = HAND.mask if stands else cv2.erode(lying.astype(np.uint8), np.ones((3, 3))) > 0
        return Segmentation(mask, 0.97 if stands else 0.9)

    monkeypatch.setitem(SEGMENTERS, "unet", know_upright_hands)
    turned = process(make_radiograph(np.rot90(HAND.pixels, quarter_turns).copy()), WITH_HAND)
    np.testing.assert_array_equal(turned.hand.segmentation.mask, lying)
    assert turned.mask_score == 0.97
    assert turned.decisions["looked_at_turned_degrees"] == 360 - 90 * quarter_turns
    assert "looked_at_turned_degrees" not in upright.decisions
    assert np.corrcoef(upright.image.ravel(), turned.image.ravel())[0, 1] > 0.95
    blind = Segmentation(np.zeros_like(HAND.mask), 0.0)
    answers = iter([Segmentation(lying, 0.9), blind])
    monkeypatch.setitem(SEGMENTERS, "unet", lambda _: next(answers))
    kept = process(make_radiograph(np.rot90(HAND.pixels, quarter_turns).copy()), WITH_HAND)
    assert kept.mask_score == 0.9 and "looked_at_turned_degrees" not in kept.decisions


def test_a_hand_that_is_given_is_not_segmented_again(monkeypatch, know_the_drawing):
    radiograph = make_radiograph(HAND.pixels)
    hand = analyse_hand(radiograph, WITH_HAND)
    plain = process(radiograph, WITH_HAND)
    monkeypatch.delitem(SEGMENTERS, "unet")
    prepared = process(radiograph, WITH_HAND, hand=hand)
    assert prepared.hand is hand and (prepared.image == plain.image).all()


def test_a_rejected_hand_has_reasons_and_decisions(monkeypatch, know_the_drawing):
    blind = Segmentation(np.zeros(HAND.mask.shape, np.bool_), 0.0)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: blind)
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND)
    assert prepared.reasons == ("no_hand", "bad_mask") and prepared.image is None and prepared.crop_box_px is None
    assert prepared.decisions["reasons"] == ["no_hand", "bad_mask"]
    message = describe_rejection(Path("hand.png"), prepared.reasons)
    assert message.startswith("hand.png: no hand found, the hand mask is unreliable; ")
    # A decision to keep it gives no hand to crop.
    assert process(make_radiograph(HAND.pixels), WITH_HAND, review=Review(keep=True)).reasons == ("no_hand",)


def test_every_reason_has_its_message():
    worst = HandMeasures(0.0, 0.0, 0.0, 9.0, 9.0, 0.0, -1.0, 9.0, -1.0, noise=1.0, length_px=1.0, cast_score=1.0)
    others = {"rejected_by_reviewer", "not_a_radiograph"}
    assert set(check_gate(worst, gate=GateConfig())) | others == set(REASON_MESSAGES)


@pytest.mark.parametrize("config", [WITH_HAND, WHOLE_FRAME], ids=["hand", "whole frame"])
def test_process_coloured_hand(config):
    radiograph = make_radiograph(HAND.pixels)
    label = np.zeros(HAND.mask.shape, bool)
    label[:20, :20] = True
    for coloured, reasons in ((HAND.mask, ("not_a_radiograph",)), (label, ())):
        assert process(dataclasses.replace(radiograph, coloured=coloured), config).reasons == reasons


def process_reviewed(**review):
    return process(make_radiograph(HAND.pixels), WITH_HAND, review=Review(rows=("flip",), **review))


def test_reviews_are_followed_and_recorded(know_the_drawing):
    plain = process(make_radiograph(HAND.pixels), WITH_HAND).image
    assert (process_reviewed(keep=True).image == plain).all()
    flipped = process_reviewed(keep=True, flip=True)
    assert flipped.mirrored and flipped.decisions["review"] == ["flip"]
    assert np.corrcoef(flipped.image[:, ::-1].ravel(), plain.ravel())[0, 1] > 0.99
    turned = process_reviewed(keep=True, rotate_degrees=90.0).image
    # The fingers, up before, point to the left after a quarter turn counter-clockwise.
    assert turned[:, :64].any(axis=0).sum() > turned[:, 64:].any(axis=0).sum() - 64
    assert np.argmax(turned.any(axis=1)) > np.argmax(plain.any(axis=1))
    rejected = process_reviewed(reject=True)
    assert rejected.reasons == ("rejected_by_reviewer",) and rejected.decisions["reasons"] == []
    assert (rejected.image == plain).all()  # what it would have been
    assert "rejected by a reviewer" in describe_rejection(Path("hand.png"), rejected.reasons)


def test_a_kept_radiograph_passes_whatever_the_gate_says(know_the_drawing):
    strict = dataclasses.replace(WITH_HAND, gate=GateConfig(min_mask_score=1.0))
    rejected = process(make_radiograph(HAND.pixels), strict)
    assert rejected.reasons == ("bad_mask",)
    kept = process(make_radiograph(HAND.pixels), strict, review=Review(keep=True))
    assert kept.reasons == () and kept.decisions["reasons"] == ["bad_mask"]
    assert (kept.image == rejected.image).all() and kept.crop_box_px == rejected.crop_box_px


def test_a_manual_mask_replaces_the_segmenters(monkeypatch, know_the_drawing, tmp_path):
    plain = process(make_radiograph(HAND.pixels), WITH_HAND).image
    cv2.imwrite(str(tmp_path / "mask.png"), HAND.mask.astype(np.uint8) * 255)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(np.zeros_like(HAND.mask), 0.0))
    corrected = process_reviewed(keep=True, mask=tmp_path / "mask.png")
    assert (corrected.image == plain).all() and corrected.mask_score is None
    cv2.imwrite(str(tmp_path / "mask.png"), np.rot90(HAND.mask).astype(np.uint8) * 255)
    lying = make_radiograph(np.rot90(HAND.pixels).copy())
    turned = process(lying, WITH_HAND, review=Review(mask=tmp_path / "mask.png"))
    np.testing.assert_array_equal(
        turned.hand.segmentation.mask, np.rot90(HAND.mask)
    )  # a manual mask is not segmented again
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(UnreadableImageError, match="redraw it at the size of the radiograph"):
        process_reviewed(keep=True, mask=tmp_path / "mask.png")


def test_segmenter_by_name():
    assert get_segmenter("none") is whole_frame
    segmentation = whole_frame(np.zeros((2, 3), np.uint8))
    assert segmentation.mask.all() and segmentation.mask.shape == (2, 3)
    assert segmentation.score is None
