"""The steps together, the configuration, and the fingerprint that ties models to pixels."""

import dataclasses
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from preprocessing.pipeline import PreprocessingConfig, fingerprint, process
from preprocessing.radiograph import Radiograph, UnreadableImage
from preprocessing.segmenters import SEGMENTERS, Segmentation, get_segmenter, whole_frame

# A change here means that records and bundles made before no longer fit. If the pixels changed, raise PIPELINE_VERSION;
# if they did not, there is no reason for another fingerprint.
DEFAULT_FINGERPRINT = "42fd71dc977494c0"
WHOLE_RANGE = PreprocessingConfig(contrast_low_percentile=0.0, contrast_high_percentile=100.0)


def make_radiograph(pixels, *, pixel_spacing_mm=None):
    return Radiograph(
        pixels=pixels,
        pixel_spacing_mm=pixel_spacing_mm,
        sex=None,
        chronological_age_months=None,
        laterality=None,
        source_sha256="0" * 64,
    )


@pytest.fixture
def right_half(monkeypatch):
    """A segmenter that sees the hand in the right half."""

    def segment(pixels, /):
        mask = np.zeros(pixels.shape, np.bool_)
        mask[:, pixels.shape[1] // 2 :] = True
        return Segmentation(mask=mask, score=0.75)

    monkeypatch.setitem(SEGMENTERS, "right_half", segment)


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


def test_segmenter_decides_the_crop(right_half):
    config = dataclasses.replace(WHOLE_RANGE, segmenter="right_half")
    prepared = process(make_radiograph(np.uint8([[0, 100, 51, 255], [0, 100, 51, 255]])), config, path=FILE)
    assert prepared.image.tolist() == [[51, 255], [51, 255]]
    assert prepared.crop_box_px == (2, 0, 4, 2)
    assert prepared.mask_score == 0.75


def test_fingerprint_of_the_default_is_what_it_was():
    assert fingerprint(PreprocessingConfig()) == DEFAULT_FINGERPRINT


OTHER_VALUES = {
    "segmenter": "right_half",
    "image_size_px": 256,
    "contrast_low_percentile": 2.0,
    "contrast_high_percentile": 98.0,
}


def test_every_field_changes_the_fingerprint(right_half):
    assert set(OTHER_VALUES) == {field.name for field in dataclasses.fields(PreprocessingConfig)}
    configs = [PreprocessingConfig(), *(PreprocessingConfig(**{name: value}) for name, value in OTHER_VALUES.items())]
    assert len({fingerprint(config) for config in configs}) == len(configs)


def test_version_changes_the_fingerprint(monkeypatch):
    monkeypatch.setattr("preprocessing.pipeline.PIPELINE_VERSION", -1)
    assert fingerprint(PreprocessingConfig()) != DEFAULT_FINGERPRINT


def test_equal_configurations_have_equal_fingerprints(monkeypatch):
    # Whoever writes 1 for 1.0 meets no type checks outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = PreprocessingConfig(contrast_low_percentile=1, contrast_high_percentile=99)
    assert config == PreprocessingConfig()
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
        ({"segmenter": "nine"}, r"`segmenter` must be one of none, unet\. Received: 'nine'\. Did you mean 'none'\?"),
    ],
)
def test_mistake_in_the_configuration_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        PreprocessingConfig(**values)


def test_a_radiograph_without_a_hand_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "blind", lambda pixels: Segmentation(np.zeros(pixels.shape, np.bool_), 0.0))
    config = dataclasses.replace(WHOLE_RANGE, segmenter="blind")
    with pytest.raises(UnreadableImage, match=r"hand\.png: no hand was found") as caught:
        process(make_radiograph(np.uint8([[1, 2]])), config, path=FILE)
    assert caught.value.reason == "no_hand"


def test_segmenter_by_name():
    assert get_segmenter("none") is whole_frame
    segmentation = whole_frame(np.zeros((2, 3), np.uint8))
    assert segmentation.mask.all() and segmentation.mask.shape == (2, 3)
    assert segmentation.score is None
