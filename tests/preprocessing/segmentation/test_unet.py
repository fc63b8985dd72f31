"""The way from a frame to the network's square and back to a mask of the frame's own size."""

import numpy as np
import pytest

from boneage.preprocessing.segmentation.unet import UNET_SIZE_PX, segment_with_unet


def see_bright(image):
    assert image.shape == (1, UNET_SIZE_PX, UNET_SIZE_PX, 1) and image.dtype == np.float32
    return (image - 0.5) * 20


@pytest.mark.parametrize("shape", [(100, 100), (256, 200), (500, 900), (40, 1000)])
def test_mask_has_the_frames_size_and_place(shape):
    height, width = shape
    pixels = np.zeros(shape, np.uint8)
    pixels[height // 4 : height // 2, width // 5 : width // 2] = 255
    found = segment_with_unet(see_bright, pixels)
    assert found.mask.shape == shape
    both, either = (found.mask & (pixels > 0)).sum(), (found.mask | (pixels > 0)).sum()
    assert both / either > 0.85
    assert found.score is not None and found.score > 0.6


def test_no_hand_is_an_empty_mask_with_score_0():
    found = segment_with_unet(see_bright, np.zeros((50, 60), np.uint8))
    assert not found.mask.any()
    assert found.score == 0


def test_instability_lowers_the_score():
    pixels = np.zeros((256, 256), np.uint8)
    pixels[50:200, 50:200] = 255
    doubtful = segment_with_unet(lambda image: image * 2.4 - 1.2, pixels)
    pixels[50:200, 120:200] = 160
    assert segment_with_unet(lambda image: image * 2.4 - 1.2, pixels).score < doubtful.score == 1
