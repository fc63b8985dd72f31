"""Expose the film: attenuation, collimated field, lead letter, scatter and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from boneage.preprocessing.synthetic.shapes import Frame

OVERLAP_MM = np.float32(9.0)  # upper limit of the bone that a ray crosses
REFERENCE_PX = 640  # longer side of the film to which lengths on the film refer

# Lead letters as strokes in the unit square, (x, y), y downwards; the fonts of OpenCV differ between its versions.
LETTER_STROKES = {
    "L": (((0.34, 0.16), (0.34, 0.82), (0.70, 0.82)),),
    "R": (
        ((0.32, 0.84), (0.32, 0.16), (0.56, 0.16), (0.68, 0.24), (0.68, 0.40), (0.56, 0.48), (0.32, 0.48)),
        ((0.50, 0.48), (0.70, 0.84)),
    ),
}


@dataclass(frozen=True)
class Beam:
    """The collimated rectangle that X-rays reach.

    Attributes:
        centre_px: Its centre, (x, y).
        half_size_px: Half its extent along its own axes.
        angle_degrees: Its rotation, counter-clockwise positive.
    """

    centre_px: tuple[float, float]
    half_size_px: tuple[float, float]
    angle_degrees: float

    def depth_px(self, size_px: tuple[int, int]) -> Float32[np.ndarray, "height width"]:
        """Distance inside the nearest edge at every pixel, negative outside."""
        x = (np.arange(size_px[1], dtype=np.float32) - np.float32(self.centre_px[0]))[None, :]
        y = (np.arange(size_px[0], dtype=np.float32) - np.float32(self.centre_px[1]))[:, None]
        cosine, sine = (np.float32(f(np.radians(self.angle_degrees))) for f in (np.cos, np.sin))
        inside_x = np.float32(self.half_size_px[0]) - np.abs(x * cosine - y * sine)
        inside_y = np.float32(self.half_size_px[1]) - np.abs(x * sine + y * cosine)
        return np.minimum(inside_x, inside_y)


def draw_beam(landmarks_px: Float[np.ndarray, "21 2"], *, frame: Frame, rng: np.random.Generator) -> Beam:
    """Draw a field that contains every landmark: close around the hand, or wider than the film.

    Args:
        landmarks_px: Landmarks on the film, (x, y).
        frame: Position of the hand on the film.
        rng: Random generator.
    """
    angle_degrees = float(frame.angle_degrees * rng.uniform(0, 1) + rng.normal(0, 3.0))
    left_mm, top_mm, right_mm, bottom_mm = rng.uniform(14, 60, size=4) + (300 if rng.uniform() < 0.3 else 0)
    cosine, sine = np.cos(np.radians(angle_degrees)), np.sin(np.radians(angle_degrees))
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    rotated = landmarks_px @ rotation
    low = rotated.min(axis=0) - np.array([left_mm, top_mm]) * frame.scale
    high = rotated.max(axis=0) + np.array([right_mm, bottom_mm + 15]) * frame.scale
    centre = rotation @ ((low + high) / 2)
    half_width, half_height = (high - low) / 2
    return Beam((float(centre[0]), float(centre[1])), (float(half_width), float(half_height)), angle_degrees)


def expose(
    bone_mm: Float32[np.ndarray, "height width"],
    soft_mm: Float32[np.ndarray, "height width"],
    *,
    beam_depth_px: Float32[np.ndarray, "height width"],
    letter: Float32[np.ndarray, "height width"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "height width"]:
    """Expose and develop the film; bone is bright.

    Args:
        bone_mm: Millimetres of bone that each ray crosses, relative to an adult hand.
        soft_mm: Millimetres of soft tissue.
        beam_depth_px: Distance inside the edge of the exposed field, negative outside.
        letter: Lead in the path of the ray, 0 to 1.
        rng: Random generator for exposure, contrast, background and noise.

    Returns:
        Grey levels, shape `(height, width)`, uint8.
    """
    unit_px = max(bone_mm.shape) / REFERENCE_PX
    absorbed = np.maximum(
        _absorb(bone_mm, soft_mm, unit_px=unit_px, rng=rng), letter * np.float32(rng.uniform(0.85, 1.0))
    )
    is_dim = rng.uniform() < 0.25
    base = rng.uniform(100, 140) if is_dim else rng.uniform(15, 50)
    gain = rng.uniform(60, 110) if is_dim else rng.uniform(165, 235)
    grey = np.float32(base) + np.float32(gain) * absorbed + _background_gradient(bone_mm.shape, rng=rng)
    scattered = grey + np.float32(0.07) * (_blur(grey, 14 * unit_px) - grey)
    # Scanners enhance edges.
    sharpness = np.float32(rng.uniform(0.3, 0.9))
    enhanced = scattered + sharpness * (scattered - _blur(scattered, 4 * unit_px))
    collimated = _collimate(enhanced, beam_depth_px=beam_depth_px, base=base, unit_px=unit_px, rng=rng)
    blurred = _blur(collimated, rng.uniform(0.3, 0.8) * unit_px)
    noise = np.float32(rng.uniform(0.8, 3.0) * gain / 200) * _noise(bone_mm.shape, blur_px=0.5 * unit_px, rng=rng)
    return np.clip(np.round(blurred + noise), 0, 255).astype(np.uint8)


def draw_letter(
    letter: str,
    *,
    free: Bool[np.ndarray, "height width"],
    angle_degrees: float,
    mirrored: bool,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "height width"]:
    """Draw a lead letter on a thin plate beside the hand, at a random free position.

    Args:
        letter: The letter.
        free: True where a marker may lie: exposed, and off the hand.
        angle_degrees: Rotation of the exposed field, which the marker roughly follows.
        mirrored: Whether to mirror the letter, for a film that is mirrored afterwards.
        rng: Random generator.

    Returns:
        Lead in the path of the ray, 0 to 1, shape `(height, width)`; all 0 if the film has no room for a marker.
    """
    height, width = free.shape
    size_px = max(9, int(max(height, width) * rng.uniform(0.055, 0.09)))
    stamp = np.zeros((size_px, size_px), np.float32)
    stamp[:, size_px // 6 : -(size_px // 6)] = rng.uniform(0.0, 0.12)
    strokes = np.zeros((size_px, size_px), np.uint8)
    for stroke in LETTER_STROKES[letter]:
        points = np.round(np.array(stroke) * size_px * 16).astype(np.int32)
        cv2.polylines(strokes, [points], False, 255, max(1, round(size_px / 9)), cv2.LINE_AA, shift=4)
    stamp = np.maximum(stamp, strokes.astype(np.float32) / 255)
    if mirrored:
        stamp = stamp[:, ::-1]
    middle = (size_px - 1) / 2
    rotation = cv2.getRotationMatrix2D((middle, middle), angle_degrees + rng.normal(0, 12), 1.0)
    rotated = cv2.warpAffine(np.ascontiguousarray(stamp), rotation, (size_px, size_px))

    lead = np.zeros((height, width), np.float32)
    for left, top in rng.integers(0, (width - size_px, height - size_px), size=(24, 2)):
        if free[top : top + size_px, left : left + size_px].all():
            lead[top : top + size_px, left : left + size_px] = rotated
            break
    return lead


def _absorb(
    bone_mm: Float32[np.ndarray, "height width"],
    soft_mm: Float32[np.ndarray, "height width"],
    *,
    unit_px: float,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "height width"]:
    """Return the share of each ray that soft tissue and bone absorb, with the texture of trabeculae and muscle."""
    grain = _noise(bone_mm.shape, blur_px=1.3 * unit_px, rng=rng)
    clouds = _noise(bone_mm.shape, blur_px=7.0 * unit_px, rng=rng)
    # Bones that overlap on the film share the hand's thickness, so their sum is limited.
    bone = OVERLAP_MM * np.tanh(bone_mm / OVERLAP_MM) * (1 + np.float32(0.10) * grain + np.float32(0.05) * clouds)
    soft = soft_mm * (1 + np.float32(0.02) * clouds)
    return 1 - np.exp(-(soft * np.float32(rng.uniform(0.010, 0.018)) + bone * np.float32(rng.uniform(0.050, 0.075))))


def _collimate(
    grey: Float32[np.ndarray, "height width"],
    *,
    beam_depth_px: Float32[np.ndarray, "height width"],
    base: float,
    unit_px: float,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "height width"]:
    """Mask the area outside the beam: mostly dark, sometimes grey or white, often with a bright border."""
    levels = (rng.uniform(0, 14), base + rng.uniform(5, 30), rng.uniform(225, 250))
    outside = np.float32(rng.choice(levels, p=(0.6, 0.3, 0.1)))
    border_px = np.float32(rng.uniform(1.5, 6.0) * unit_px)
    border = np.float32(rng.uniform(20, 120) * (rng.uniform() < 0.6))
    edge = np.clip(beam_depth_px / border_px + np.float32(0.5), 0, 1)
    return outside + (grey - outside) * edge + border * np.exp(-((beam_depth_px / border_px) ** 2))


def _background_gradient(shape: tuple[int, ...], *, rng: np.random.Generator) -> Float32[np.ndarray, "height width"]:
    """Return a background slightly brighter to one side, as from an X-ray tube off centre."""
    across, down = rng.normal(0, 7, size=2)
    x = np.linspace(-across, across, shape[1], dtype=np.float32)[None, :]
    y = np.linspace(-down, down, shape[0], dtype=np.float32)[:, None]
    return x + y


def _noise(shape: tuple[int, ...], *, blur_px: float, rng: np.random.Generator) -> Float32[np.ndarray, "height width"]:
    """Return Gaussian noise of unit variance, correlated over `blur_px` pixels."""
    coarse = max(1, int(blur_px))
    grains = rng.standard_normal((shape[0] // coarse + 2, shape[1] // coarse + 2), dtype=np.float32)
    fine = cv2.resize(grains, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_CUBIC)
    noise = _blur(fine, max(0.4, blur_px / 2))[: shape[0], : shape[1]]
    return noise / np.float32(noise.std())


def _blur(image: Float32[np.ndarray, "height width"], sigma_px: float) -> Float32[np.ndarray, "height width"]:
    """Apply a Gaussian blur; wide ones on a smaller copy, which is faster and visually equal."""
    if sigma_px < 6:
        return cv2.GaussianBlur(image, (0, 0), sigma_px)
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma_px / 4), image.shape[::-1], interpolation=cv2.INTER_LINEAR)
