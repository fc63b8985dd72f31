"""The outline of hand, wrist and forearm, and the soft tissue that each ray crosses."""

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from boneage.preprocessing.synthetic.pose import FOREARM_MM, Pose
from boneage.preprocessing.synthetic.shapes import Frame

# Radius of the soft tissue at each joint from base to tip, in millimetres of an adult hand.
FINGER_RADII_MM = (
    (15.0, 13.0, 10.5, 8.0),
    (13.0, 12.0, 9.6, 8.4, 6.6),
    (13.0, 12.0, 9.8, 8.6, 6.8),
    (13.0, 11.6, 9.3, 8.1, 6.4),
    (13.0, 10.8, 8.2, 7.1, 5.8),
)
TIP_MM = 3.5  # the pad beyond the last phalanx
WRIST_MM, ELBOW_MM = 27.0, 42.0  # half the forearm's width at either end
PALM_MM = 13.0  # half the palm's thickness
WEB_MM = 7.0  # radius of the skin between two fingers
_SUBPIXEL_BITS = 4


def draw_outline(
    pose: Pose, *, frame: Frame, size_px: tuple[int, int], plumpness: float
) -> Bool[np.ndarray, "height width"]:
    """Draw the silhouette of hand, wrist and forearm.

    Args:
        pose: Positions of the joints.
        frame: Position of the hand on the film.
        size_px: (height, width) in pixels.
        plumpness: Thickness of the soft tissue relative to a lean adult's.

    Returns:
        True inside, shape `(height, width)`.
    """
    drawn = np.zeros(size_px, np.uint8)
    for chain, radii in zip(pose.chains_mm, FINGER_RADII_MM, strict=True):
        last = chain[-1] - chain[-2]
        # The edge of the last circle, not its centre, lies a little beyond the bone.
        tip = chain[-1] + last / np.hypot(*last) * (TIP_MM - radii[-1] * plumpness)
        joints = np.concatenate([chain[:-1], tip[None]])
        for (start, end), (start_mm, end_mm) in zip(pairwise(joints), pairwise(radii), strict=True):
            _fill_capsule(drawn, start, end, (start_mm * plumpness, end_mm * plumpness), frame=frame)
    wrist_mm, elbow_mm = WRIST_MM * (0.5 + 0.5 * plumpness), ELBOW_MM * plumpness
    thumb_side, little_side = (pose.locate_on_forearm(0.0, thumbwards_mm=side * wrist_mm) for side in (1, -1))
    elbow = [pose.locate_on_forearm(FOREARM_MM, thumbwards_mm=side * elbow_mm) for side in (1, -1)]
    knuckles = [chain[1] for chain in pose.chains_mm]
    outer_knuckle = knuckles[4] - (9.0 * plumpness, 0.0)
    _fill(drawn, np.array([thumb_side, *elbow, little_side]), frame=frame)
    _fill(drawn, np.array([thumb_side, *knuckles[:4], outer_knuckle, little_side]), frame=frame)
    # Closing rounds the webs between the fingers and the wrist, like skin.
    web_px = max(1, round(WEB_MM * plumpness * frame.scale))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (web_px, web_px))
    closed = cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(closed, (0, 0), 1.2 * frame.scale) > 127


def measure_soft_tissue(
    outline: Bool[np.ndarray, "height width"], *, frame: Frame, plumpness: float
) -> Float32[np.ndarray, "height width"]:
    """Estimate the millimetres of soft tissue that each ray crosses, from the distance to the outline.

    Args:
        outline: True inside the hand, shape `(height, width)`.
        frame: Position of the hand on the film.
        plumpness: Thickness of the soft tissue relative to a lean adult's.

    Returns:
        Millimetres, shape `(height, width)`, float32, 0 outside.
    """
    padded = cv2.copyMakeBorder(outline.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth_mm = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] / np.float32(frame.scale)
    radius_mm = np.float32(PALM_MM * plumpness)
    depth_mm = np.minimum(depth_mm, radius_mm)
    thickness_mm = 2 * np.sqrt(depth_mm * (2 * radius_mm - depth_mm))
    smooth = cv2.GaussianBlur(thickness_mm, (0, 0), max(0.8, 1.5 * frame.scale))
    # Smoothing removes the ridge along each finger; the sharp edge near the skin is kept.
    soft_mm: Float32[np.ndarray, "height width"] = np.where(depth_mm > 3, smooth, np.minimum(thickness_mm, smooth))
    return soft_mm.astype(np.float32)


def _fill_capsule(
    canvas: np.ndarray,
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
    radii_mm: tuple[float, float],
    *,
    frame: Frame,
) -> None:
    """Fill the convex hull of two circles."""
    turns = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points = np.concatenate([start + radii_mm[0] * circle, end + radii_mm[1] * circle])
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    _fill(canvas, hull.astype(np.float64), frame=frame)


def _fill(canvas: np.ndarray, points_mm: Float[np.ndarray, "points 2"], *, frame: Frame) -> None:
    """Fill a polygon given in hand coordinates."""
    points = np.round(frame.to_pixels(points_mm) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [points], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
