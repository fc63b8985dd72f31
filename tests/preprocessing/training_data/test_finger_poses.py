"""Fingers moved for training: radiograph and landmarks together, the rest in place."""

import numpy as np
import pytest

from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data.finger_poses import move_fingers

DRAWN = draw_radiograph(150, sex="male", seed=4, size_px=(400, 320), angle_degrees=0.0)


def move(pixels=DRAWN.pixels, *, seed=0):
    return move_fingers(pixels, DRAWN.landmarks, rng=np.random.default_rng(seed))


def test_move_fingers_keeps_the_shape_and_is_seeded():
    (once, points), (again, same) = move(), move()
    assert once.shape == DRAWN.pixels.shape and once.dtype == np.uint8 and points.shape == (21, 2)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(points, same)


def test_move_fingers_keeps_wrist_and_bases_and_moves_every_tip():
    _, points = move()
    still = [0, 1, 5, 9, 13, 17]
    np.testing.assert_allclose(points[still], DRAWN.landmarks[still])
    assert np.all(np.linalg.norm(points - DRAWN.landmarks, axis=1)[[4, 8, 12, 16, 20]] > 1)


@pytest.mark.parametrize("seed", range(5))
def test_move_fingers_takes_each_place_along_with_its_landmark(seed):
    dots = np.zeros_like(DRAWN.pixels)
    places = np.rint(DRAWN.landmarks).astype(int)
    for x, y in places:
        dots[y - 2 : y + 3, x - 2 : x + 3] = 255
    moved, points = move(dots, seed=seed)
    for x, y in np.rint(points).astype(int):
        assert moved[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].max() > 100
