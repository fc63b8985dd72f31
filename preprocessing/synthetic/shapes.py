"""Bones as hollow solids under parallel rays: millimetres of bone that the ray of each pixel crosses.

Each shape is a field rho, 0 on its axis and 1 on its surface. A ray at rho crosses `sqrt(1 - rho^2)` of the solid,
minus the marrow space inside its wall: the cortex is bright at the edges and the medullary cavity darker, as on film.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

MAX_HALF_DEPTH_MM = 5.0  # limit of half the thickness along the ray, so that wide bones do not saturate; chosen by eye


@dataclass(frozen=True)
class Frame:
    """Similarity from hand coordinates (millimetres of an adult hand, y upwards) to pixels (y downwards).

    Attributes:
        scale: Pixels per millimetre.
        angle_degrees: Rotation of the hand, counter-clockwise positive.
        origin_px: Position of the middle of the wrist, (x, y).
    """

    scale: float
    angle_degrees: float
    origin_px: tuple[float, float]

    def to_pixels(self, points_mm: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Map points from millimetres to pixels, (x, y) last."""
        x, y = points_mm[..., 0], points_mm[..., 1]
        cosine, sine = np.cos(np.radians(self.angle_degrees)), np.sin(np.radians(self.angle_degrees))
        rotated = np.stack([x * cosine - y * sine, -(x * sine + y * cosine)], axis=-1)
        points_px: Float[np.ndarray, "*points 2"] = rotated * self.scale + np.asarray(self.origin_px)
        return points_px


@dataclass(frozen=True)
class Tube:
    """The shaft of a tubular bone: narrow and thick-walled in the middle, flared at both ends.

    Attributes:
        start_mm: Middle of the proximal end, (x, y).
        end_mm: Middle of the distal end, (x, y).
        radii_mm: Radius at the start, at the waist and at the end.
        flare_mm: Length over which each end flares.
        rounding_mm: Distance from its ends at which the shaft begins to round off.
        opacity: Share of the bone that has this shape, during growth and fusion.
    """

    start_mm: tuple[float, float]
    end_mm: tuple[float, float]
    radii_mm: tuple[float, float, float]
    flare_mm: float
    rounding_mm: float = 1.0
    opacity: float = 1.0

    @property
    def centre_mm(self) -> tuple[float, float]:
        """Middle of the shaft, (x, y)."""
        return (self.start_mm[0] + self.end_mm[0]) / 2, (self.start_mm[1] + self.end_mm[1]) / 2

    @property
    def length_mm(self) -> float:
        """Length from end to end."""
        return float(np.hypot(self.end_mm[0] - self.start_mm[0], self.end_mm[1] - self.start_mm[1]))

    @property
    def axis_degrees(self) -> float:
        """Direction from start to end, counter-clockwise from the x axis."""
        return float(np.degrees(np.arctan2(self.end_mm[1] - self.start_mm[1], self.end_mm[0] - self.start_mm[0])))

    @property
    def reach_mm(self) -> tuple[float, float]:
        """Half the extent along and across the axis."""
        return self.length_mm / 2, max(self.radii_mm)

    def bone_mm(
        self, along: Float32[np.ndarray, "rows columns"], across: Float32[np.ndarray, "rows columns"]
    ) -> Float32[np.ndarray, "rows columns"]:
        """Return the millimetres of bone that a ray crosses, at axis coordinates in millimetres from the centre."""
        half_mm = self.length_mm / 2
        start, waist, end = self.radii_mm
        near_start = np.exp(-(((along + half_mm) / self.flare_mm) ** 2))
        near_end = np.exp(-(((along - half_mm) / self.flare_mm) ** 2))
        radius = waist + (start - waist) * near_start + (end - waist) * near_end
        # The exponent rounds the ends over about a millimetre at any length.
        ends = np.minimum(np.abs(along) / half_mm, 1.05) ** (5 * half_mm / self.rounding_mm)
        rho = np.sqrt(np.sqrt((across / radius) ** 4 + ends))
        spongy = np.maximum(near_start, near_end)
        # Ends flare more to the sides than along the ray.
        depth = 2 * np.minimum(np.sqrt(radius * waist), MAX_HALF_DEPTH_MM)
        bone_mm: Float32[np.ndarray, "rows columns"] = depth * _shell(
            rho, wall=0.34 - 0.24 * spongy, marrow=0.05 + 0.30 * spongy
        )
        return bone_mm


@dataclass(frozen=True)
class Nodule:
    """A round, blocky or slab-like piece of bone: epiphysis, carpal, sesamoid.

    Attributes:
        centre_mm: Its centre, (x, y).
        axis_degrees: Direction of its first half-axis, counter-clockwise from the x axis.
        half_axes_mm: Half its extent along and across the axis.
        squareness: Exponent of the superellipse: 2 is an ellipse, 4 a slab with rounded corners.
        bend: Displacement of its sides towards positive `along`, as a share of the first half-axis: a cap.
        lobes: Amplitudes of the second and third harmonic of the outline, which give each carpal its shape.
        opacity: Share of the bone that has this shape, during growth and fusion.
    """

    centre_mm: tuple[float, float]
    axis_degrees: float
    half_axes_mm: tuple[float, float]
    squareness: float = 2.0
    bend: float = 0.0
    lobes: tuple[float, float] = (0.0, 0.0)
    opacity: float = 1.0

    @property
    def reach_mm(self) -> tuple[float, float]:
        """Half the extent along and across the axis, with room for bend and lobes."""
        room = 1.0 + abs(self.bend) + sum(abs(lobe) for lobe in self.lobes)
        return self.half_axes_mm[0] * room, self.half_axes_mm[1] * room

    def bone_mm(
        self, along: Float32[np.ndarray, "rows columns"], across: Float32[np.ndarray, "rows columns"]
    ) -> Float32[np.ndarray, "rows columns"]:
        """Return the millimetres of bone that a ray crosses, at axis coordinates in millimetres from the centre."""
        first, second = self.half_axes_mm
        v = across / second
        u = along / first - self.bend * v**2
        rho = (np.abs(u) ** self.squareness + np.abs(v) ** self.squareness) ** np.float32(1 / self.squareness)
        if any(self.lobes):
            angle = np.arctan2(v, u)
            rho = rho / (1 + self.lobes[0] * np.cos(2 * angle + 1) + self.lobes[1] * np.cos(3 * angle))
        return 2 * min(second, MAX_HALF_DEPTH_MM) * _shell(rho, wall=0.13, marrow=0.38)


def paint(part: Tube | Nodule, *, bone_map_mm: Float32[np.ndarray, "height width"], frame: Frame) -> None:
    """Add one part of a bone to the map of bone thickness, in place; overlapping parts add up, as on film.

    Args:
        part: The part.
        bone_map_mm: Millimetres of bone crossed at each pixel, shape `(height, width)`, float32.
        frame: Position of the hand on the film.
    """
    left, top, right, bottom = _box_px(part, frame=frame, shape=bone_map_mm.shape)
    if left >= right or top >= bottom:
        return
    centre_x, centre_y = frame.to_pixels(np.array(part.centre_mm)).astype(np.float32)
    axis = np.radians(part.axis_degrees + frame.angle_degrees)
    cosine, sine = np.float32(np.cos(axis) / frame.scale), np.float32(np.sin(axis) / frame.scale)
    x = np.arange(left, right, dtype=np.float32)[None, :] - centre_x
    y = centre_y - np.arange(top, bottom, dtype=np.float32)[:, None]
    bone_mm = part.bone_mm(x * cosine + y * sine, y * cosine - x * sine)
    bone_map_mm[top:bottom, left:right] += np.float32(part.opacity) * bone_mm


def _shell(
    rho: Float32[np.ndarray, "rows columns"],
    *,
    wall: float | Float32[np.ndarray, "rows columns"],
    marrow: float | Float32[np.ndarray, "rows columns"],
) -> Float32[np.ndarray, "rows columns"]:
    """Return the share of a half-chord that is bone: the solid minus the marrow space, of which `marrow` is filled."""
    inner = 1 - wall
    solid = np.sqrt(np.maximum(1 - rho**2, 0))
    cavity = inner * np.sqrt(np.maximum(1 - (rho / inner) ** 2, 0))
    share: Float32[np.ndarray, "rows columns"] = (solid - (1 - marrow) * cavity).astype(np.float32)
    return share


def _box_px(part: Tube | Nodule, *, frame: Frame, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the box of the pixels that a part can touch, (left, top, right, bottom), within the image."""
    axis = np.radians(part.axis_degrees + frame.angle_degrees)
    along, across = part.reach_mm
    width = abs(along * np.cos(axis)) + abs(across * np.sin(axis))
    height = abs(along * np.sin(axis)) + abs(across * np.cos(axis))
    x, y = frame.to_pixels(np.array(part.centre_mm))
    left, right = x - width * frame.scale - 1, x + width * frame.scale + 2
    top, bottom = y - height * frame.scale - 1, y + height * frame.scale + 2
    return max(0, int(left)), max(0, int(top)), min(shape[1], int(right)), min(shape[0], int(bottom))
