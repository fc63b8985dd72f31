import csv
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.synthetic import LANDMARK_NAMES, SyntheticRadiograph, draw_radiograph, write_dataset
from boneage.preprocessing.synthetic.pose import draw_pose
from boneage.preprocessing.synthetic.shapes import Frame, paint
from boneage.preprocessing.synthetic.skeleton import draw_skeleton
from boneage.preprocessing.synthetic.timetable import ONSET_MONTHS, SEXES, find_stage

SMALL_PX = (96, 80)
CARPALS_IN_ORDER = ("capitate", "hamate", "triquetrum", "lunate", "scaphoid", "trapezium", "trapezoid", "pisiform")
ages_months = st.floats(0, 240)
seeds = st.integers(0, 2**31 - 1)
a_few = settings(max_examples=6, deadline=None)


@cache
def draw_small(**changes: object) -> SyntheticRadiograph:
    arguments = {"bone_age_months": 120, "sex": "female", "seed": 3, "size_px": SMALL_PX} | changes
    return draw_radiograph(arguments.pop("bone_age_months"), **arguments)


def find_tip_angle_degrees(landmarks: np.ndarray) -> float:
    x, y = landmarks[LANDMARK_NAMES.index("middle_finger_4")] - landmarks[LANDMARK_NAMES.index("wrist")]
    return float(np.degrees(np.arctan2(-x, -y)))


def measure_bone_area_mm2(bone_age_months: float, *, sex: str, seed: int) -> float:
    pose = draw_pose(np.random.default_rng(seed))
    frame = Frame(scale=1.0, angle_degrees=0.0, origin_px=(80.0, 200.0))
    bone_map_mm = np.zeros((230, 200), np.float32)
    for part in draw_skeleton(pose, bone_age_months=bone_age_months, sex=sex, rng=np.random.default_rng(seed)):
        paint(part, bone_map_mm=bone_map_mm, frame=frame)
    return float((bone_map_mm > 0.5).sum())


def test_arrays_have_the_promised_shapes_and_types():
    radiograph = draw_small()
    assert (radiograph.pixels.shape, radiograph.pixels.dtype) == (SMALL_PX, np.uint8)
    assert (radiograph.mask.shape, radiograph.mask.dtype) == (SMALL_PX, np.bool_)
    assert radiograph.landmarks.shape == (len(LANDMARK_NAMES), 2) == (21, 2)
    assert (radiograph.sex, radiograph.side, radiograph.bone_age_months) == ("female", "left", 120.0)


def test_same_arguments_give_the_same_bytes():
    first, second = (draw_radiograph(77.5, sex="male", seed=5, size_px=SMALL_PX) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()
    np.testing.assert_array_equal(first.landmarks, second.landmarks)


def test_another_seed_gives_another_child_on_another_film():
    first, second = draw_small(seed=1), draw_small(seed=2)
    assert (first.pixels != second.pixels).mean() > 0.5
    assert np.abs(first.landmarks - second.landmarks).max() > 1


@a_few
@given(age=ages_months, sex=st.sampled_from(SEXES), seed=seeds, angle=st.floats(-180, 180))
def test_whatever_is_asked_for_the_mask_holds_every_landmark_and_the_angle_is_true(age, sex, seed, angle):
    radiograph = draw_radiograph(age, sex=sex, seed=seed, size_px=(128, 112), angle_degrees=angle)
    columns, rows = np.round(radiograph.landmarks).astype(int).T
    assert radiograph.mask[rows, columns].all()
    difference = find_tip_angle_degrees(radiograph.landmarks) - angle
    assert abs((difference + 180) % 360 - 180) < 0.01
    assert radiograph.angle_degrees == pytest.approx(angle)
    assert 0.05 < radiograph.mask.mean() < 0.7
    assert cv2.connectedComponents(radiograph.mask.astype(np.uint8))[0] == 2


def test_an_angle_left_open_is_modest_and_differs_between_seeds():
    angles = [draw_small(seed=seed).angle_degrees for seed in range(5)]
    assert len(set(angles)) == 5
    assert max(np.abs(angles)) <= 12


@pytest.mark.parametrize("size_px", [(64, 64), (64, 150), (200, 90), (130, 130)])
def test_any_frame_holds_the_whole_hand(size_px):
    radiograph = draw_small(size_px=size_px)
    assert radiograph.pixels.shape == size_px
    columns, rows = np.round(radiograph.landmarks).astype(int).T
    assert radiograph.mask[rows, columns].all()


def test_a_right_hand_is_the_mirror_image_but_for_the_letter():
    left, right = draw_small(side="left"), draw_small(side="right")
    np.testing.assert_array_equal(right.mask, left.mask[:, ::-1])
    np.testing.assert_allclose(right.landmarks[:, 0], SMALL_PX[1] - 1 - left.landmarks[:, 0])
    np.testing.assert_array_equal(right.landmarks[:, 1], left.landmarks[:, 1])
    assert right.angle_degrees == -left.angle_degrees
    apart = np.abs(right.pixels.astype(int) - left.pixels[:, ::-1]) > 2
    assert 0 < apart.mean() < 0.05, "the letters L and R differ, nothing else does"


def test_the_thumb_of_an_upright_left_hand_is_on_the_right():
    radiograph = draw_small(angle_degrees=0)
    x = dict(zip(LANDMARK_NAMES, radiograph.landmarks[:, 0], strict=True))
    assert x["thumb_4"] > x["forefinger_4"] > x["middle_finger_4"] > x["ring_finger_4"] > x["little_finger_4"]


def test_a_right_hand_keeps_the_angle_asked_for():
    radiograph = draw_small(side="right", angle_degrees=30)
    assert find_tip_angle_degrees(radiograph.landmarks) == pytest.approx(30, abs=0.01)


def test_the_hand_is_brighter_than_the_film_around_it_and_bone_brighter_than_flesh():
    radiograph = draw_small(size_px=(320, 256), angle_degrees=0)
    around = cv2.dilate(radiograph.mask.astype(np.uint8), np.ones((7, 7))) - radiograph.mask
    assert radiograph.pixels[radiograph.mask].mean() > radiograph.pixels[around == 1].mean() + 10
    knuckle, joint = radiograph.landmarks[9], radiograph.landmarks[10]
    x, y = np.round((knuckle + joint) / 2).astype(int)
    flesh = radiograph.pixels[y, [x - 11, x + 11]].astype(int)
    assert radiograph.pixels[y, x - 4 : x + 5].max() > flesh.max() + 10


@given(
    centre=st.sampled_from(sorted(ONSET_MONTHS)), sex=st.sampled_from(SEXES), ages=st.tuples(ages_months, ages_months)
)
def test_no_centre_ever_goes_back(centre, sex, ages):
    younger, older = (find_stage(centre, bone_age_months=age, sex=sex) for age in sorted(ages))
    assert younger.growth <= older.growth
    assert younger.capping <= older.capping
    assert younger.fusion <= older.fusion


@given(centre=st.sampled_from(sorted(ONSET_MONTHS)), age=ages_months)
def test_girls_are_ahead_of_boys(centre, age):
    girl, boy = (find_stage(centre, bone_age_months=age, sex=sex) for sex in ("female", "male"))
    assert (girl.growth, girl.capping, girl.fusion) >= (boy.growth, boy.capping, boy.fusion)


@pytest.mark.parametrize("sex", SEXES)
def test_carpals_appear_in_the_known_order_and_everything_has_fused_at_nineteen(sex):
    onsets = [ONSET_MONTHS[carpal][SEXES.index(sex)] for carpal in CARPALS_IN_ORDER]
    assert onsets == sorted(onsets)
    stages = {centre: find_stage(centre, bone_age_months=228, sex=sex) for centre in ONSET_MONTHS}
    assert all(stage.growth == 1 for stage in stages.values())
    plates = set(ONSET_MONTHS) - {*CARPALS_IN_ORDER, "sesamoid"}
    assert len(plates) == 19 + 2
    assert all(stages[centre].fusion == 1 for centre in plates)


@a_few
@given(sex=st.sampled_from(SEXES), seed=seeds)
def test_one_child_ossifies_more_from_stage_to_stage(sex, seed):
    *growing, adult = (measure_bone_area_mm2(age, sex=sex, seed=seed) for age in (6, 48, 96, 144, 228))
    assert growing == sorted(growing)
    assert growing[-1] > 1.25 * growing[0]
    assert adult == pytest.approx(growing[-1], rel=0.05), "closing plates hardly change a bone's outline"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_wrist_of_an_infant_is_cartilage_and_that_of_an_adult_bone(seed):
    brightness = []
    for age in (6, 216):
        radiograph = draw_small(bone_age_months=age, seed=seed, size_px=(256, 208), angle_degrees=0)
        smooth = cv2.GaussianBlur(radiograph.pixels, (0, 0), 1.5).astype(float)
        wrist, knuckle = radiograph.landmarks[[0, LANDMARK_NAMES.index("middle_finger_1")]]
        (carpal_x, carpal_y), (shaft_x, shaft_y) = (
            np.round(wrist + share * (knuckle - wrist)).astype(int) for share in (0.12, 0.65)
        )
        brightness.append(smooth[carpal_y, carpal_x] / smooth[shaft_y, shaft_x])
    assert brightness[1] > brightness[0] + 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sex": "femal"}, r"`sex` must be one of female, male. Received: sex='femal'. Did you mean 'female'\?"),
        ({"side": "up"}, "`side` must be one of left, right. Received: side='up'."),
        ({"bone_age_months": -1}, "`bone_age_months` must lie between 0 and 240 months. Received: bone_age_months=-1."),
        ({"bone_age_months": float("nan")}, "Received: bone_age_months=nan"),
        ({"seed": -1}, "`seed` must be 0 or more. Received: seed=-1."),
        ({"size_px": (10, 512)}, r"each between 64 and 4096 pixels. Received: size_px=\(10, 512\)."),
        (
            {"angle_degrees": float("inf")},
            "`angle_degrees` must be a finite number or None. Received: angle_degrees=inf.",
        ),
    ],
)
def test_a_bad_argument_is_named_with_what_was_received(changes, message):
    with pytest.raises(ValueError, match=message):
        draw_small(**changes)


@pytest.mark.parametrize("kind", [str, Path])
def test_dataset_has_the_layout_of_the_download(kind, tmp_path):
    write_dataset(kind(tmp_path / "synthetic"), num_images=6, seed=1, size_px=SMALL_PX)
    files = sorted(path.relative_to(tmp_path / "synthetic").as_posix() for path in tmp_path.rglob("*.*"))
    assert files == ["boneage-training-dataset.csv", *(f"boneage-training-dataset/{i}.png" for i in range(1, 7))]
    table = (tmp_path / "synthetic/boneage-training-dataset.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["id"] for row in rows] == [str(i) for i in range(1, 7)]
    assert {row["male"] for row in rows} == {"True", "False"}
    ages = [int(row["boneage"]) for row in rows]
    assert min(ages) >= 1
    assert max(ages) <= 228
    assert max(ages) - min(ages) > 60
    picture = cv2.imread(str(tmp_path / "synthetic/boneage-training-dataset/3.png"), cv2.IMREAD_UNCHANGED)
    assert (picture.shape, picture.dtype) == (SMALL_PX, np.uint8)


def test_dataset_is_the_same_every_time(tmp_path):
    for name in ("first", "second"):
        write_dataset(tmp_path / name, num_images=2, seed=9, size_px=(64, 64))
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("first", "second")
    )
    assert first == second


@pytest.mark.parametrize(("name", "value"), [("num_images", 0), ("seed", -2)])
def test_dataset_names_a_bad_argument(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}={value}"):
        write_dataset(tmp_path, **({"num_images": 1, "seed": 0} | {name: value}))
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, boneage.preprocessing.synthetic; print(sorted({'cv2', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    import boneage.preprocessing.synthetic as synthetic

    with pytest.raises(AttributeError, match="synthetic attribute draw_foot"):
        _ = synthetic.draw_foot
