"""How a hand lies: angles and sides worked out by hand, on drawings, and under every turn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST, find_pose, turn_between
from boneage.preprocessing.synthetic import LANDMARK_NAMES, draw_radiograph

LEFT = draw_radiograph(120, sex="female", seed=3, size_px=(200, 160), angle_degrees=0).landmarks


def turned(points, degrees):
    """Turn points counter-clockwise as a picture shows it: y points downwards."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[cosine, -sine], [sine, cosine]])


def test_landmarks_are_those_of_the_drawings():
    assert LANDMARK_NAMES[WRIST] == "wrist" and LANDMARK_NAMES[MIDDLE_TIP] == "middle_finger_4"


@pytest.mark.parametrize(
    ("tip", "degrees"), [((0, -9), 0), ((-9, 0), 90), ((9, 0), -90), ((0, 9), 180), ((-5, -5), 45)]
)
def test_angle_is_counter_clockwise_from_vertical(tip, degrees):
    points = np.zeros((21, 2))
    points[MIDDLE_TIP] = tip
    assert find_pose(points).angle_degrees == pytest.approx(degrees)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("degrees", [-150.0, -20.0, 0.0, 75.0])
def test_pose_of_drawings(side, degrees):
    drawn = draw_radiograph(150, sex="male", seed=5, size_px=(200, 200), angle_degrees=degrees, side=side)
    pose = find_pose(drawn.landmarks)
    assert pose.angle_degrees == pytest.approx(degrees, abs=1e-6)
    assert pose.side == side


@given(st.floats(-180, 180), st.floats(0.1, 50))
def test_pose_turns_and_grows_with_the_hand(degrees, scale):
    upright, pose = find_pose(LEFT), find_pose(turned(LEFT, degrees) * scale)
    assert turn_between(pose.angle_degrees, upright.angle_degrees + degrees) == pytest.approx(0, abs=1e-6)
    assert pose.side == "left"
    assert pose.side_margin == pytest.approx(upright.side_margin)
    assert pose.length_px == pytest.approx(upright.length_px * scale)


def test_mirrored_hand_is_a_right_one():
    left, right = find_pose(LEFT), find_pose(LEFT * [-1, 1])
    assert right.side == "right" and right.side_margin == pytest.approx(left.side_margin)


def test_hand_without_length_has_no_direction():
    with pytest.raises(ValueError, match="no direction"):
        find_pose(np.zeros((21, 2)))


@pytest.mark.parametrize(
    ("one", "other", "turn"), [(10.0, 350.0, 20), (-170.0, 170.0, 20), (90.0, -90.0, -180), (5.0, 5.0, 0)]
)
def test_turns_take_the_shorter_way(one, other, turn):
    assert turn_between(one, other) == turn
