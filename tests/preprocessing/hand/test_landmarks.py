"""Landmarks from maps of logits, and the way from the frame to the network's square and back."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.hand.landmarks import (
    HEATMAP_SIZE_PX,
    LANDMARKS_SIZE_PX,
    locate_landmarks,
    measure_missed,
    measure_share_in_mask,
    measure_uncertainty,
    soft_argmax,
)
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST
from boneage.preprocessing.training_data.landmark_examples import (
    LandmarksError,
    augment_example,
    draw_landmark_examples,
    read_landmark_examples,
)


def test_a_sharp_peak_is_its_cell_and_two_are_their_middle():
    heatmaps = np.full((4, 4, 2), -50.0)
    heatmaps[1, 2, 0] = 50  # row 1, column 2
    heatmaps[0, 0, 1] = heatmaps[2, 2, 1] = 50
    np.testing.assert_allclose(soft_argmax(heatmaps), [[2.5 / 4, 1.5 / 4], [1.5 / 4, 1.5 / 4]])


@pytest.mark.parametrize("scale", [0.4, 1.0, 5.0])
def test_places_come_back_to_the_frame(scale):
    """A network that puts all landmarks on the brightest spot finds it again, at any size of the frame."""
    width, height = round(160 * scale), round(200 * scale)
    spot = np.array([70.0, 120.0]) * scale
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(columns - spot[0], rows - spot[1]) / scale
    pixels = np.rint(255 * np.exp(-0.5 * (distance / 6) ** 2)).astype(np.uint8)
    mask = np.zeros((height, width), np.bool_)
    mask[round(30 * scale) : round(190 * scale), round(40 * scale) : round(150 * scale)] = True

    def forward(image):
        assert image.shape == (1, LANDMARKS_SIZE_PX, LANDMARKS_SIZE_PX, 1) and image.dtype == np.float32
        small = cv2.resize(image[0, ..., 0], (HEATMAP_SIZE_PX, HEATMAP_SIZE_PX), interpolation=cv2.INTER_AREA)
        return np.repeat(np.log(small + 1e-9)[None, ..., None], 21, axis=-1)

    found = locate_landmarks(forward, pixels, mask)
    np.testing.assert_allclose(found.points, np.tile(spot, (21, 1)), atol=1.0 * scale + 0.3)
    assert 0.0 < found.uncertainty < 0.1


def test_the_input_has_the_contrast_of_the_hand_with_any_border():
    rng = np.random.default_rng(0)
    mask = np.zeros((120, 120), np.bool_)
    mask[30:90, 40:80] = True
    dim = rng.integers(40, 60, (120, 120), dtype=np.uint8)
    framed = dim.copy()
    framed[:24], framed[96:], framed[:, :24], framed[:, 96:] = 255, 255, 255, 255
    seen = []

    def forward(image):
        seen.append(np.rint(image[0, ..., 0] * 255).astype(np.uint8))
        return np.zeros((1, HEATMAP_SIZE_PX, HEATMAP_SIZE_PX, 21))

    for pixels in (dim, framed):
        locate_landmarks(forward, pixels, mask)
    middle = (slice(LANDMARKS_SIZE_PX // 4, 3 * LANDMARKS_SIZE_PX // 4),) * 2
    np.testing.assert_array_equal(seen[0][middle], seen[1][middle])
    assert np.ptp(seen[0][middle]) == 255


def test_uncertainty_is_the_spread_of_the_heatmaps():
    sure = np.full((8, 8, 21), -50.0)
    sure[3, 4] = 50.0
    torn = np.full((8, 8, 21), -50.0)
    torn[3, 0] = torn[3, 4] = 50.0  # either of two places half the square apart
    assert measure_uncertainty(sure) == pytest.approx(0, abs=1e-6)
    assert measure_uncertainty(torn) == pytest.approx(0.25)
    assert measure_uncertainty(np.zeros((8, 8, 21))) == pytest.approx(np.sqrt(2 * (64 - 1) / 12) / 8)


def test_augmentation_is_reproducible_and_landmarks_stay_on_the_hand():
    example = draw_landmark_examples(1, seed=0)[0]
    (pixels, points), (again, same) = (augment_example(example, rng=np.random.default_rng(4)) for _ in range(2))
    assert pixels.shape == (LANDMARKS_SIZE_PX, LANDMARKS_SIZE_PX) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(points, same)
    assert points.shape == (21, 2) and (points > -0.1).all() and (points < 1.1).all()


def test_tables_of_landmarks_give_true_proportions(tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), np.tile(np.arange(100, dtype=np.uint8), (100, 1)))
    names = [f"point{number}" for number in range(21)]
    header = ",".join(["id", "width_px", "height_px", *(f"{name}_{axis}" for name in names for axis in "xy")])
    (tmp_path / "points.csv").write_text(f"{header}\n7,1500,2000,{','.join(['0.5,0.25'] * 21)}\n")
    (example,) = read_landmark_examples(tmp_path / "points.csv", radiographs=tmp_path)
    assert example.pixels.shape == (100, 75)
    np.testing.assert_allclose(example.landmarks, np.tile([37.0, 24.5], (21, 1)))


def test_table_without_landmarks_is_an_error(tmp_path):
    (tmp_path / "points.csv").write_text("id,width_px,height_px,wrist_x,wrist_y\n")
    with pytest.raises(LandmarksError, match="needs id, width_px, height_px and 21 pairs"):
        read_landmark_examples(tmp_path / "points.csv", radiographs=tmp_path)


def test_measure_missed_counts_landmarks_on_tissue_outside_the_mask_only():
    pixels = np.full((100, 100), 20, np.uint8)
    pixels[20:90, 40:60] = 150  # the hand
    pixels[20:60, 70:80] = 160  # a finger that the mask leaves out
    mask = np.zeros(pixels.shape, np.bool_)
    mask[20:90, 40:60] = True
    points = np.tile([50.0, 50.0], (21, 1))
    points[WRIST], points[MIDDLE_TIP] = (50, 88), (50, 22)
    assert measure_share_in_mask(points, mask) == 1 and measure_missed(points, mask, pixels) == 0
    points[[5, 6, 7]] = (75, 30), (75, 50), (10, 10)  # two on the finger, one on plain film
    assert measure_share_in_mask(points, mask) == pytest.approx(18 / 21)
    assert measure_missed(points, mask, pixels) == pytest.approx(2 / 21)
    points[8] = (-40, 200)  # beyond the frame
    assert measure_missed(points, mask, pixels) == pytest.approx(2 / 21)
