"""The steps together, the configuration, and the fingerprint that ties models to pixels."""

import dataclasses
import json
from pathlib import Path

import cv2
import jaxtyping
import numpy as np
import pytest

from preprocessing.crop import thin
from preprocessing.pipeline import (
    _ADVICE,
    PreprocessingConfig,
    Untrusted,
    _landmarks_sha256,
    fingerprint,
    process,
)
from preprocessing.quality import Gate, Measures, check
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.review import Review
from preprocessing.segmentation import Segmentation
from preprocessing.segmenters import _WEIGHTS, SEGMENTERS, get_segmenter, weights_sha256, whole_frame
from preprocessing.synthetic import draw_radiograph

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
FILE = Path("hand.png")


def test_golden_pixels():
    prepared = process(make_radiograph(np.uint8([[20, 30, 40], [50, 60, 60]])), WHOLE_RANGE, path=FILE)
    assert prepared.image.tolist() == [[0, 64, 128], [191, 255, 255], [0, 0, 0]]
    assert prepared.image.dtype == np.uint8
    assert prepared.crop_box_px == (0, 0, 3, 2)
    assert (prepared.rotation_degrees, prepared.mask_score, prepared.pixel_spacing_mm) == (0.0, None, None)


def test_golden_pixels_when_shrunk():
    pixels = np.zeros((32, 16), np.uint16)
    pixels[:, 8:] = 4000
    config = dataclasses.replace(WHOLE_RANGE, image_size_px=16)
    prepared = process(make_radiograph(pixels, pixel_spacing_mm=(0.1, 0.1)), config, path=FILE)
    assert prepared.image.tolist() == [[0] * 8 + [255] * 4 + [0] * 4] * 16
    assert prepared.crop_box_px == (0, 0, 16, 32)
    assert prepared.pixel_spacing_mm == pytest.approx(0.2)


def test_spacing_of_what_is_not_shrunk_is_that_of_the_source():
    prepared = process(make_radiograph(np.uint8([[1, 2]]), pixel_spacing_mm=(0.14, 0.16)), WHOLE_RANGE, path=FILE)
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
    "thinned_frame_px": 100,
    "gate": Gate(max_edge_share=0.5),
}


def test_every_field_changes_the_fingerprint():
    # Of the two last the hash of the checkpoint tells.
    known = set(OTHER_VALUES) | {"sam_model", "sam_checkpoint"}
    assert known == {field.name for field in dataclasses.fields(PreprocessingConfig)}
    configs = [PreprocessingConfig(), *(PreprocessingConfig(**{name: value}) for name, value in OTHER_VALUES.items())]
    assert len({fingerprint(config) for config in configs}) == len(configs)


@pytest.mark.parametrize("name", ["forearm_share", "margin_share", "thinned_frame_px", "gate"])
def test_what_whole_frames_know_nothing_of_does_not_change_their_fingerprint(name):
    assert fingerprint(dataclasses.replace(WHOLE_FRAME, **{name: OTHER_VALUES[name]})) == DEFAULT_FINGERPRINT


@pytest.mark.parametrize("weights", ["HAND_SAM_FILE", "LANDMARKS_FILE"])
def test_other_weights_change_the_fingerprint(weights, monkeypatch, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other weights")
    before = fingerprint(PreprocessingConfig())
    if weights == "LANDMARKS_FILE":
        monkeypatch.setattr("preprocessing.pipeline.LANDMARKS_FILE", other)
        monkeypatch.setattr("preprocessing.pipeline._landmarks_sha256", _landmarks_sha256.__wrapped__)
    else:
        monkeypatch.setitem(_WEIGHTS, "hand_sam", other)
        monkeypatch.setattr("preprocessing.pipeline.weights_sha256", weights_sha256.__wrapped__)
    assert fingerprint(PreprocessingConfig()) != before


@pytest.mark.parametrize(("version", "config"), [("FRAME", WHOLE_FRAME), ("HAND", PreprocessingConfig())])
def test_version_changes_the_fingerprint(version, config, monkeypatch):
    before = fingerprint(config)
    monkeypatch.setattr(f"preprocessing.pipeline.{version}_VERSION", -1)
    assert fingerprint(config) != before


def test_equal_configurations_have_equal_fingerprints(monkeypatch):
    # Whoever writes 1 for 1.0 meets no type checks outside the tests.
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
def know_it(monkeypatch):
    """A segmenter that knows the drawing."""
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(HAND.mask, 0.97))


def test_a_hand_comes_out_upright_alone_and_explained(know_it):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    assert prepared.image.shape == (128, 128) and prepared.image.dtype == np.uint8
    assert prepared.rotation_degrees == pytest.approx(-20, abs=8)
    assert (prepared.mirrored, prepared.mask_score) == (False, 0.97)
    # The hand's width and height fill the square up to the margin; what is off the hand is black.
    assert prepared.image.any(axis=1).sum() > 110 and not prepared.image[:2].any() and not prepared.image[:, :2].any()
    assert prepared.decisions["side"] == "left" and prepared.decisions["reasons"] == []
    assert prepared.decisions["angle_degrees"] == pytest.approx(-prepared.rotation_degrees, abs=0.01)
    assert len(prepared.decisions["landmarks_px"]) == 21
    json.dumps(prepared.decisions)


def test_a_thinned_frame_gives_a_coarser_crop_of_the_same_place(know_it):
    whole = process(make_radiograph(HAND.pixels, pixel_spacing_mm=(0.5, 0.5)), WITH_HAND, path=FILE)
    config = dataclasses.replace(WITH_HAND, thinned_frame_px=32)
    thinned = process(make_radiograph(HAND.pixels, pixel_spacing_mm=(0.5, 0.5)), config, path=FILE)
    assert np.abs(np.subtract(whole.crop_box_px, thinned.crop_box_px)).max() <= 4
    # A tenth of the rows and an eighth of the columns are left, and are then enlarged to twice as many.
    assert thinned.pixel_spacing_mm == pytest.approx(0.5 * (10 * 8) ** 0.5 / 2)
    assert thinned.decisions == whole.decisions  # the hand is found in the whole frame
    assert thinned.image.shape[0] < 64


def test_a_frame_that_is_hardly_larger_is_not_thinned(know_it):
    whole = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    longer = max(HAND.pixels.shape)
    for side, same in ((round(longer / 1.4), True), (round(longer / 1.6), False)):
        config = dataclasses.replace(WITH_HAND, thinned_frame_px=side)
        image = process(make_radiograph(HAND.pixels), config, path=FILE).image
        assert np.array_equal(image, whole.image) == same


def test_a_thinned_frame_gives_the_crop_of_its_small_square_copy(know_it, monkeypatch):
    config = dataclasses.replace(WITH_HAND, thinned_frame_px=100)
    thinned = process(make_radiograph(HAND.pixels), config, path=FILE)
    whole = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    copy, mask = (thin(each, shape=(100, 100)) for each in (HAND.pixels, HAND.mask))
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(mask, 0.97))
    of_copy = process(make_radiograph(copy), config, path=FILE)
    assert abs(thinned.image.shape[0] - of_copy.image.shape[0]) <= 2
    assert thinned.rotation_degrees == pytest.approx(of_copy.rotation_degrees, abs=4)
    # Upright the hand is as much wider than it was as the frame was narrower than a square.
    widths = [each.image.any(axis=0).sum() / each.image.any(axis=1).sum() for each in (thinned, of_copy, whole)]
    assert widths[0] == pytest.approx(widths[1], rel=0.05) and widths[0] > 1.1 * widths[2]


def test_inverted_film_gives_the_same_crop(know_it):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    inverted = process(make_radiograph(255 - HAND.pixels), WITH_HAND, path=FILE)
    assert not prepared.decisions["inverted"] and inverted.decisions["inverted"]
    difference = np.abs(prepared.image.astype(int) - inverted.image)
    assert np.percentile(difference, 99) <= 3


def test_mirrored_hand_gives_the_same_crop(monkeypatch, know_it):
    prepared = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(HAND.mask[:, ::-1].copy(), 0.97))
    mirrored = process(make_radiograph(HAND.pixels[:, ::-1].copy()), WITH_HAND, path=FILE)
    assert mirrored.mirrored and mirrored.decisions["side"] == "right"
    assert mirrored.rotation_degrees == pytest.approx(-prepared.rotation_degrees, abs=4)
    assert np.corrcoef(prepared.image.ravel(), mirrored.image.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_hand_that_lies_is_looked_at_upright_and_stays_where_it_is(monkeypatch, know_it, quarters):
    upright = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    lying = np.rot90(HAND.mask, quarters)

    def know_upright_hands(pixels):
        """Outline upright hands alone well."""
        stands = np.array_equal(pixels, upright.hand.pixels)
        mask = HAND.mask if stands else cv2.erode(lying.astype(np.uint8), np.ones((3, 3))) > 0
        return Segmentation(mask, 0.97 if stands else 0.9)

    monkeypatch.setitem(SEGMENTERS, "unet", know_upright_hands)
    turned = process(make_radiograph(np.rot90(HAND.pixels, quarters).copy()), WITH_HAND, path=FILE)
    np.testing.assert_array_equal(turned.hand.segmentation.mask, lying)
    assert turned.mask_score == 0.97
    assert turned.decisions["looked_at_turned_degrees"] == 360 - 90 * quarters
    assert "looked_at_turned_degrees" not in upright.decisions
    assert np.corrcoef(upright.image.ravel(), turned.image.ravel())[0, 1] > 0.95
    blind = Segmentation(np.zeros_like(HAND.mask), 0.0)
    answers = iter([Segmentation(lying, 0.9), blind])
    monkeypatch.setitem(SEGMENTERS, "unet", lambda _: next(answers))
    kept = process(make_radiograph(np.rot90(HAND.pixels, quarters).copy()), WITH_HAND, path=FILE)
    assert kept.mask_score == 0.9 and "looked_at_turned_degrees" not in kept.decisions


def test_what_cannot_be_trusted_is_refused_by_name_with_what_was_found(monkeypatch, know_it):
    blind = Segmentation(np.zeros(HAND.mask.shape, np.bool_), 0.0)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: blind)
    with pytest.raises(Untrusted, match=r"hand\.png: no hand was found in it") as caught:
        process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE)
    assert caught.value.reason == "no_hand;bad_mask" and caught.value.crop is None
    assert caught.value.decisions["reasons"] == ["no_hand", "bad_mask"]


def test_every_reason_has_its_words():
    worst = Measures(0, 0.0, 0.0, 9.0, 9.0, 0.0, -1.0, 9.0)
    assert set(check(worst, gate=Gate())) | {"rejected_by_reviewer"} == set(_ADVICE)


def process_reviewed(**review):
    return process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE, review=Review(rows=("told",), **review))


def test_reviews_are_followed_and_recorded(know_it):
    plain = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE).image
    assert (process_reviewed(keep=True).image == plain).all()
    flipped = process_reviewed(keep=True, flip=True)
    assert flipped.mirrored and flipped.decisions["review"] == ["told"]
    assert np.corrcoef(flipped.image[:, ::-1].ravel(), plain.ravel())[0, 1] > 0.99
    turned = process_reviewed(keep=True, rotate_degrees=90.0).image
    # The fingers, up before, point to the left after a quarter turn counter-clockwise.
    assert turned[:, :64].any(axis=0).sum() > turned[:, 64:].any(axis=0).sum() - 64
    assert np.argmax(turned.any(axis=1)) > np.argmax(plain.any(axis=1))
    with pytest.raises(Untrusted, match="a reviewer rejected it") as caught:
        process_reviewed(reject=True)
    assert caught.value.reason == "rejected_by_reviewer"


def test_a_kept_radiograph_passes_whatever_the_gate_says(know_it):
    strict = dataclasses.replace(WITH_HAND, gate=Gate(min_mask_score=1.0))
    with pytest.raises(Untrusted, match="outline cannot be trusted"):
        process(make_radiograph(HAND.pixels), strict, path=FILE)
    kept = process(make_radiograph(HAND.pixels), strict, path=FILE, review=Review(keep=True))
    assert kept.decisions["reasons"] == ["bad_mask"]


def test_a_mask_by_hand_replaces_the_segmenters(monkeypatch, know_it, tmp_path):
    plain = process(make_radiograph(HAND.pixels), WITH_HAND, path=FILE).image
    cv2.imwrite(str(tmp_path / "mask.png"), HAND.mask.astype(np.uint8) * 255)
    monkeypatch.setitem(SEGMENTERS, "unet", lambda pixels: Segmentation(np.zeros_like(HAND.mask), 0.0))
    mended = process_reviewed(keep=True, mask=tmp_path / "mask.png")
    assert (mended.image == plain).all() and mended.mask_score is None
    cv2.imwrite(str(tmp_path / "mask.png"), np.rot90(HAND.mask).astype(np.uint8) * 255)
    lying = make_radiograph(np.rot90(HAND.pixels).copy())
    turned = process(lying, WITH_HAND, path=FILE, review=Review(mask=tmp_path / "mask.png"))
    np.testing.assert_array_equal(turned.hand.segmentation.mask, np.rot90(HAND.mask))  # it is nobody's to mend
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(UnreadableImage, match="draw it at the radiograph's own size"):
        process_reviewed(keep=True, mask=tmp_path / "mask.png")


def test_segmenter_by_name():
    assert get_segmenter("none") is whole_frame
    segmentation = whole_frame(np.zeros((2, 3), np.uint8))
    assert segmentation.mask.all() and segmentation.mask.shape == (2, 3)
    assert segmentation.score is None
