"""Augmentation of radiographs with hand masks: pose, film edges, exposure and resolution."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.crop.crop import bounding_box
from boneage.preprocessing.crop.letterbox import Letterbox
from boneage.preprocessing.training_data.film_processing import process_film
from boneage.preprocessing.training_data.mask_pairs import MaskPair

# Shade at the film edge that takes less of the light than this hides no outline.
_DEEP_SHADE = 0.25


def augment_pair(
    pair: MaskPair, *, size_px: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "size size"]]:
    """Augment a radiograph and its mask: pose, borders, exposure and resolution.

    Each at random: the edge of a scanned film, a crop to the hand, a letterbox or an affine transformation,
    collimation, film edges and markers, exposure, inversion, resolution and noise.

    Args:
        pair: The radiograph and its mask.
        size_px: Side of the result in pixels.
        rng: Random generator.

    Returns:
        The radiograph, shape `(size, size)`, uint8, contrast-normalised again; and the share of hand in each pixel, in
        [0, 1], same shape, float32. A network trained on binary masks gives jagged outlines.
    """
    pair = _simulate_film_edge(pair, rng=rng) if rng.random() < 0.25 else pair
    pair = _crop_to_hand(pair, rng=rng) if rng.random() < 0.4 else pair
    place = _place_in_letterbox if rng.random() < 0.4 else _apply_random_affine
    pixels, mask = place(pair, size_px=size_px, rng=rng)
    pixels, mask = _add_occlusions(pixels, mask, rng=rng)
    return augment_film(pixels, rng=rng), mask


def augment_film(
    pixels: UInt8[np.ndarray, "height width"], *, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width"]:
    """Augment processing, exposure, inversion, resolution and noise; normalise the contrast again."""
    if rng.random() < 0.4:
        pixels = stretch_contrast(process_film(pixels, rng=rng))
    image = _change_exposure(pixels.astype(np.float32) / 255, rng=rng)
    if rng.random() < 0.1:
        image = 1 - image
    if rng.random() < 0.35:
        image = _reduce_resolution(image, rng=rng)
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0.003, 0.03), image.shape).astype(np.float32)
    changed = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return stretch_contrast(changed)


def _simulate_film_edge(pair: MaskPair, *, rng: np.random.Generator) -> MaskPair:
    """Simulate the edge of a scanned film across the forearm: shade, bright line, darkness.

    Hands on scanned films are the hardest to outline: small, pale, with scattered light between the fingers, and cut by
    the film edge. If the shade is deep, the hand ends in the middle of the shade.
    """
    space = np.rint(rng.uniform(0, 0.4, 4) * max(pair.mask.shape)).astype(int).reshape(2, 2)
    pixels, mask = np.pad(pair.pixels, space, mode="edge"), np.pad(pair.mask, space)
    direction = _find_forearm(pair.mask)
    direction = rng.normal(0, 1, 2) if direction is None else direction
    angle = np.arctan2(*direction[::-1]) + np.radians(rng.normal(0, 10))
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # along the forearm and across
    points = np.argwhere(mask)[::7] @ axes.T  # a seventh of the pixels is enough for the extent
    low, high = points.min(axis=0), points.max(axis=0)
    length = float(high[0] - low[0])
    low = low - rng.uniform(0.02, 0.4, 2) * length
    high = np.array([np.quantile(points[:, 0], 1 - rng.uniform(0, 0.1)), high[1] + rng.uniform(0.02, 0.4) * length])
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    beyond = np.full(pixels.shape, -np.inf, np.float32)  # distance beyond the film, in pixels
    for (down, right), first, last in zip(axes.tolist(), low.tolist(), high.tolist(), strict=True):
        reach = rows * down + columns * right
        beyond = np.maximum(beyond, np.maximum(first - reach, reach - last))
    film, end_px = _paint_film_edge(pixels, beyond, length_px=length, rng=rng)
    return MaskPair(pair.name, film, mask & (beyond < -end_px))


def _paint_film_edge(
    pixels: UInt8[np.ndarray, "height width"],
    beyond: Float32[np.ndarray, "height width"],
    *,
    length_px: float,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "height width"], float]:
    """Paint film, film edge and darkness by the distance beyond the film; return how far inside the hand ends."""
    film_edge_px, shade_px = (float(share) * length_px for share in rng.uniform((0.003, 0.001), (0.03, 0.04)))
    edge_px = max(0.3, rng.uniform(0.001, 0.01) * length_px)
    grey, shade, bright, dark = (float(share) for share in rng.uniform((0, 0, 0.5, 0), (0.6, 0.6, 1, 0.15)))
    film = grey + (1 - grey) * pixels.astype(np.float32) / 255
    veil = rng.uniform(0, 0.4)
    spread_px = max(1, round(rng.uniform(0.03, 0.15) * length_px))
    film = film * (1 - veil) + cv2.blur(film, (spread_px, spread_px)) * veil
    film *= 1 - shade * np.clip((beyond + film_edge_px) / shade_px + 1, 0, 1)
    for start, level in ((-film_edge_px, bright), (0.0, dark)):
        share = np.clip((beyond - start) / edge_px + 0.5, 0, 1)
        film = film * (1 - share) + _blend_level(film, level, rng=rng) * share
    end_px = film_edge_px + shade_px / 2 if shade > _DEEP_SHADE else film_edge_px
    return np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8), end_px


def _blend_level(
    film: Float32[np.ndarray, "height width"],
    level: float | Float32[np.ndarray, "height width"],
    *,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "height width"]:
    """Blend a grey level over the film; the forearm mostly stays visible, as through the edges of real films."""
    through = rng.uniform(0, 0.6) if rng.random() < 0.7 else 0.0
    blended: Float32[np.ndarray, "height width"] = level + through * (film - film.mean())
    return blended


def _find_forearm(mask: Bool[np.ndarray, "height width"]) -> np.ndarray | None:
    """Return the direction of the forearm `(row, column)`, towards the edge that cuts the mask; None if none does."""
    edge = mask.copy()
    edge[2:-2, 2:-2] = False
    return np.argwhere(edge).mean(axis=0) - np.argwhere(mask).mean(axis=0) if edge.any() else None


def _crop_to_hand(pair: MaskPair, *, rng: np.random.Generator) -> MaskPair:
    """Crop the frame around the hand, as hand-SAM does for small hands."""
    left, top, right, bottom = bounding_box(pair.mask)
    low_x, low_y, high_x, high_y = rng.uniform(0.03, 0.2, 4) * max(right - left, bottom - top)
    rows = slice(max(0, round(top - low_y)), round(bottom + high_y))
    columns = slice(max(0, round(left - low_x)), round(right + high_x))
    return MaskPair(pair.name, pair.pixels[rows, columns], pair.mask[rows, columns])


def _place_in_letterbox(
    pair: MaskPair, *, size_px: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "size size"]]:
    """Letterbox the frame as in inference; sometimes rotated by quarter turns."""
    turns, mirror = int(rng.choice(4, p=(0.7, 0.1, 0.1, 0.1))), int(rng.choice((-1, 1)))
    pixels, mask = (
        np.ascontiguousarray(np.rot90(image, turns)[:, ::mirror]) for image in (pair.pixels, pair.mask * np.uint8(255))
    )
    box = Letterbox(pixels.shape, size_px)
    return np.rint(box.apply(pixels)).astype(np.uint8), box.apply(mask) / 255


def _apply_random_affine(
    pair: MaskPair, *, size_px: int, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "size size"]]:
    """Rotate, mirror, stretch, scale and shift the frame onto the square."""
    height, width = pair.pixels.shape
    degrees = rng.uniform(-180, 180) if rng.random() < 0.5 else rng.normal(0, 12)
    zoom = size_px / max(height, width) * np.exp(rng.uniform(-0.25, 0.3))
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    scale_x, scale_y = zoom * stretch * rng.choice([-1, 1]), zoom / stretch
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([scale_x, scale_y])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    target = (size_px - 1) / 2 + rng.uniform(-0.12, 0.12, 2) * size_px
    matrix = np.column_stack([linear, target - linear @ middle])
    # Padding is black at inference; other greys teach that the edge of a frame is not the edge of a hand.
    fill = 0.0 if rng.random() < 0.7 else float(rng.uniform(0, 255))
    # Nearest neighbour aliases, as some thumbnails do.
    interpolation = cv2.INTER_NEAREST if rng.random() < 0.15 else cv2.INTER_LINEAR
    source = (
        pair.pixels
        if interpolation == cv2.INTER_NEAREST
        else cv2.GaussianBlur(pair.pixels, (0, 0), max(0.3, 0.4 / zoom))
    )
    pixels = cv2.warpAffine(source, matrix, (size_px, size_px), flags=interpolation, borderValue=(fill,))
    soft = cv2.GaussianBlur(pair.mask.astype(np.uint8) * 255, (0, 0), max(0.3, 0.4 / zoom))
    mask = cv2.warpAffine(soft, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
    return pixels, mask.astype(np.float32) / 255


def _change_exposure(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Change gamma and contrast, and add a gradient of brightness."""
    image = image ** float(np.exp(rng.uniform(-0.7, 0.7)))  # a NumPy scalar would convert the image to float64
    image = image * rng.uniform(0.25, 1.0) + rng.uniform(0, 0.3)
    if rng.random() < 0.4:
        slope = rng.uniform(-0.3, 0.3, 2)
        axis = np.linspace(-0.5, 0.5, image.shape[0], dtype=np.float32)
        image = image + slope[0] * axis[:, None] + slope[1] * axis[None]
    return image.astype(np.float32)


def _add_occlusions(
    pixels: UInt8[np.ndarray, "size size"], mask: Float32[np.ndarray, "size size"], *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "size size"]]:
    """Add collimation, bright film edges and a marker, and remove the hand that they cover from the mask."""
    size = pixels.shape[0]
    if rng.random() < 0.4:
        pixels, mask = _cut_forearm(pixels, mask, rng=rng)
    if rng.random() < 0.35:  # collimation: a rotated rectangle beyond which the film is black, dark or bright
        box = ((size / 2, size / 2), tuple(rng.uniform(0.75, 1.25, 2) * size), rng.uniform(-25, 25))
        field = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(field, cv2.boxPoints(box).astype(np.int32), (1,))
        beyond = (0, rng.integers(0, 80), rng.integers(180, 256))[int(rng.integers(3))]
        pixels, mask = np.where(field == 1, pixels, np.uint8(beyond)), mask * field
    if rng.random() < 0.35:  # bright edges of the film
        for turn in range(4):
            if rng.random() < 0.4:
                start, end = rng.uniform(0, 0.08, 2) * size
                corners = np.array([[0, 0], [size, 0], [size, end], [0, start]], np.int32)
                edge = np.zeros((size, size), np.uint8)
                cv2.fillConvexPoly(edge, corners, (1,))
                covered = np.rot90(edge, turn) == 1
                pixels, mask = np.where(covered, np.uint8(rng.integers(160, 256)), pixels), mask * ~covered
    if rng.random() < 0.3:  # a lead letter, beside the hand
        free = np.argwhere(cv2.dilate(mask, np.ones((size // 8, size // 8))) == 0)
        if len(free):
            row, column = (int(coordinate) for coordinate in free[rng.integers(len(free))])
            letter = str(rng.choice(["L", "R", "AB", "12"]))
            pixels = np.ascontiguousarray(pixels)
            corner = (column - size // 32, row + size // 32)
            level = int(rng.integers(200, 256))
            cv2.putText(pixels, letter, corner, cv2.FONT_HERSHEY_SIMPLEX, size / 400, (level,), max(1, size // 100))
    return pixels, mask


def _cut_forearm(
    pixels: UInt8[np.ndarray, "size size"], mask: Float32[np.ndarray, "size size"], *, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "size size"], Float32[np.ndarray, "size size"]]:
    """End the film across the forearm, where outlines are most often wrong; beyond it is a bar or the table."""
    size = pixels.shape[0]
    hand = mask > 0.5
    forearm = _find_forearm(hand)
    if forearm is None:
        return pixels, mask
    points = np.argwhere(hand)
    angle = np.arctan2(*forearm[::-1]) + np.radians(rng.normal(0, 12))
    direction = np.array([np.cos(angle), np.sin(angle)])
    reach = points @ direction
    end = np.quantile(reach, 1 - rng.uniform(0.01, 0.15))
    rows, columns = np.mgrid[:size, :size]
    beyond = (rows * direction[0] + columns * direction[1] - end).astype(np.float32)  # in pixels
    edge_px = rng.uniform(0.3, 2.5)
    covered = np.clip(beyond / edge_px + 0.5, 0, 1)
    film = pixels.astype(np.float32)
    table = np.full_like(film, rng.choice([0.0, rng.uniform(0, 90), rng.uniform(90, 255)]))
    if rng.random() < 0.6:
        bar_px = rng.uniform(0.01, 0.06) * size
        table = np.where(beyond < bar_px, np.float32(rng.uniform(170, 255)), table)
    table = _blend_level(film, table, rng=rng)
    table += rng.normal(0, rng.uniform(0, 8), table.shape)
    ended = film * (1 - covered) + np.clip(table, 0, 255) * covered
    return ended.astype(np.uint8), mask * np.clip(0.5 - beyond, 0, 1)


def _reduce_resolution(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Downscale and upscale again, with area averaging or aliasing."""
    size = image.shape[0]
    small = int(rng.uniform(0.25, 0.7) * size)
    if rng.random() < 0.5:
        down = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    else:  # OpenCV's nearest neighbour samples a corner of each coarse pixel, which shifts the hand against its mask
        down = subsample(image, shape=(small, small))
    return cv2.resize(down, (size, size), interpolation=cv2.INTER_LINEAR)


def subsample(
    pixels: Shaped[np.ndarray, "height width"], *, shape: tuple[int, int]
) -> Shaped[np.ndarray, "rows columns"]:
    """Subsample an image or a mask: nearest neighbour, without averaging.

    Args:
        pixels: Shape `(height, width)`, any dtype.
        shape: Rows and columns to keep.
    """
    if pixels.shape == shape:
        return pixels
    rows, columns = (
        ((np.arange(size) + 0.5) * (side / size)).astype(int) for size, side in zip(shape, pixels.shape, strict=True)
    )
    return np.ascontiguousarray(pixels[np.ix_(rows, columns)])
