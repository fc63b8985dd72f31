"""Draw one radiograph: pose, skeleton, soft tissue and film."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from boneage.base.errors import suggest_closest
from boneage.preprocessing.synthetic.exposure import draw_beam, draw_letter, expose
from boneage.preprocessing.synthetic.pose import Pose, draw_pose
from boneage.preprocessing.synthetic.shapes import Frame, paint
from boneage.preprocessing.synthetic.skeleton import draw_skeleton
from boneage.preprocessing.synthetic.soft_tissue import draw_outline, measure_soft_tissue
from boneage.preprocessing.synthetic.timetable import measure_immaturity
from boneage.tfrecords.schema import SEXES

SIDES = ("left", "right")
MAX_AGE_MONTHS = 240
MIN_SIZE_PX, MAX_SIZE_PX = 64, 4096
# Smaller images are drawn at a multiple of their size and averaged down, like downscaled films.
_MIN_RENDER_SIZE_PX = 256


@dataclass(frozen=True)
class SyntheticRadiograph:
    """A drawn radiograph and its ground truth.

    Attributes:
        pixels: Grey levels, shape `(height, width)`, uint8, bright = bone.
        mask: True on the visible soft tissue of hand, wrist and forearm, shape `(height, width)`.
        landmarks: The points of `LANDMARK_NAMES` in pixels, (x, y), shape `(21, 2)`: wrist, then thumb, forefinger,
            middle, ring and little finger, four each from base to tip.
        angle_degrees: Direction from wrist to middle fingertip, measured from vertical, counter-clockwise positive.
        side: `"left"` (thumb on the right of the upright image) or `"right"`.
        sex: `"female"` or `"male"`.
        bone_age_months: Bone age in months.
    """

    pixels: UInt8[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    landmarks: Float[np.ndarray, "21 2"]
    angle_degrees: float
    side: str
    sex: str
    bone_age_months: float


def draw_radiograph(
    bone_age_months: float | int,
    *,
    sex: str,
    seed: int,
    size_px: tuple[int, int] = (640, 512),
    angle_degrees: float | int | None = None,
    side: str = "left",
) -> SyntheticRadiograph:
    """Draw a hand radiograph of a given bone age.

    The seed determines the child (proportions, pose, timing of each centre) and the film (zoom, field, marker,
    exposure, noise): the same arguments give the same bytes, and one seed at increasing ages is one growing child.

    Args:
        bone_age_months: Bone age in months, from 0 to 240.
        sex: `"female"` or `"male"`; girls ossify earlier.
        seed: Random seed, 0 or more.
        size_px: (height, width) of the image in pixels, each from 64 to 4096.
        angle_degrees: Direction from wrist to middle fingertip, measured from vertical, counter-clockwise positive
            (default: random, from -12 to 12).
        side: `"left"` or `"right"`; a right hand is the mirror image of the left, except for the letter.

    Returns:
        The radiograph with its mask and landmarks.

    Raises:
        ValueError: If an argument is out of range or unknown.

    Example:
        >>> draw_radiograph(96, sex="male", seed=1, size_px=(128, 128)).mask.dtype
        dtype('bool')
    """
    _check_arguments(bone_age_months, sex=sex, seed=seed, size_px=size_px, angle_degrees=angle_degrees, side=side)
    pose_rng, timing_rng, place_rng, film_rng = (np.random.default_rng([seed, topic]) for topic in range(4))
    drawn_degrees = place_rng.uniform(-12, 12)
    is_right = side == "right"
    left_degrees = float(drawn_degrees if angle_degrees is None else -angle_degrees if is_right else angle_degrees)

    oversampling = max(1, math.ceil(_MIN_RENDER_SIZE_PX / max(size_px)))
    fine_px = (size_px[0] * oversampling, size_px[1] * oversampling)
    pose = draw_pose(pose_rng)
    immaturity = measure_immaturity(bone_age_months, sex=sex)
    frame = _place_hand(pose, size_px=fine_px, angle_degrees=left_degrees, immaturity=immaturity, rng=place_rng)
    landmarks_px = frame.to_pixels(pose.landmarks_mm)

    plumpness = float(pose_rng.uniform(0.92, 1.08) * (1 + 0.22 * immaturity))
    outline = draw_outline(pose, frame=frame, size_px=fine_px, plumpness=plumpness)
    bone_mm = np.zeros(fine_px, np.float32)
    for part in draw_skeleton(pose, bone_age_months=bone_age_months, sex=sex, rng=timing_rng):
        paint(part, bone_map_mm=bone_mm, frame=frame)
    bone_mm *= outline * np.float32(1 - 0.4 * immaturity)  # a small hand is also thin along the ray

    beam = draw_beam(landmarks_px, frame=frame, rng=film_rng)
    beam_depth_px = beam.depth_px(fine_px)
    letter = draw_letter(
        "R" if is_right else "L",
        free=~outline & (beam_depth_px > 0),
        angle_degrees=beam.angle_degrees,
        mirrored=is_right,
        rng=film_rng,
    )
    soft_mm = measure_soft_tissue(outline, frame=frame, plumpness=plumpness)
    pixels = expose(bone_mm, soft_mm, beam_depth_px=beam_depth_px, letter=letter, rng=film_rng)
    mask = outline & (beam_depth_px > 0)

    pixels = _shrink(pixels, size_px)
    mask = _shrink(mask.astype(np.float32), size_px) > 0.5
    landmarks = (landmarks_px + 0.5) / oversampling - 0.5
    if is_right:
        pixels, mask = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        landmarks[:, 0] = size_px[1] - 1 - landmarks[:, 0]
    return SyntheticRadiograph(
        pixels=pixels,
        mask=mask,
        landmarks=landmarks,
        angle_degrees=-left_degrees if is_right else left_degrees,
        side=side,
        sex=sex,
        bone_age_months=float(bone_age_months),
    )


def _place_hand(
    pose: Pose, *, size_px: tuple[int, int], angle_degrees: float, immaturity: float, rng: np.random.Generator
) -> Frame:
    """Place the hand on the film so that it fits at any angle; small hands tend to fill less of it."""
    around = Frame(scale=1.0, angle_degrees=angle_degrees, origin_px=(0.0, 0.0)).to_pixels(
        np.concatenate([pose.landmarks_mm, [[-24.0, -18.0], [24.0, -18.0]]])
    )
    low, high = around.min(axis=0) - 14, around.max(axis=0) + 14
    film = np.array(size_px[::-1], dtype=np.float64)
    fill = rng.uniform(0.72, 1.0) * (1 - 0.35 * immaturity * rng.uniform(0, 1))
    scale = float((film / (high - low)).min() * fill)
    free = film - (high - low) * scale
    corner = free * rng.uniform(0.25, 0.75, size=2)
    origin = corner - low * scale
    return Frame(scale=scale, angle_degrees=angle_degrees, origin_px=(float(origin[0]), float(origin[1])))


def _shrink(
    image: UInt8[np.ndarray, "rows columns"] | Float32[np.ndarray, "rows columns"], size_px: tuple[int, int]
) -> UInt8[np.ndarray, "height width"] | Float32[np.ndarray, "height width"]:
    """Average down to (height, width)."""
    return image if image.shape == size_px else cv2.resize(image, size_px[::-1], interpolation=cv2.INTER_AREA)


def _check_arguments(
    bone_age_months: float | int,
    *,
    sex: str,
    seed: int,
    size_px: tuple[int, int],
    angle_degrees: float | int | None,
    side: str,
) -> None:
    """Raise a `ValueError` that says what was received and what is expected."""
    for name, value, choices in (("sex", sex, SEXES), ("side", side, SIDES)):
        if value not in choices:
            hint = suggest_closest(str(value), choices)
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {name}={value!r}.{hint}")
    if not 0 <= bone_age_months <= MAX_AGE_MONTHS:
        raise ValueError(
            f"`bone_age_months` must lie between 0 and {MAX_AGE_MONTHS} months. "
            f"Received: bone_age_months={bone_age_months}."
        )
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Received: seed={seed}.")
    if not all(MIN_SIZE_PX <= length <= MAX_SIZE_PX for length in size_px):
        raise ValueError(
            f"`size_px` must be (height, width), each between {MIN_SIZE_PX} and {MAX_SIZE_PX} pixels. "
            f"Received: size_px={size_px}."
        )
    if angle_degrees is not None and not math.isfinite(angle_degrees):
        raise ValueError(f"`angle_degrees` must be a finite number or None. Received: angle_degrees={angle_degrees}.")
