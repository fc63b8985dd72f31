"""The benchmark of renderings: hands in other tones, noisy, small, with metal, on screens and photographs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from disturbing import choose_validation_cases, prepare_pixels
from gate import tabulate_reasons
from jaxtyping import Bool, Float, UInt8
from measure import Row, rounded

from boneage.bundles.bundle import Bundle, load_bundle
from boneage.cohorts.transformations import apply_gamma, equalise, invert
from boneage.inference.loading import load_preprocessing
from boneage.preprocessing.crop.contrast import stretch_contrast
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import Prepared
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.training_data.mask_pairs import score_mask
from boneage.tfrecords.schema import male_from_sex

# Below this Dice coefficient an outline is wrong to the eye.
_WRONG_DICE = 0.95
_CLOSE_MONTHS = 3.0
_SCREEN = (1080, 1920)


@dataclasses.dataclass(frozen=True, eq=False)
class Film:
    """A radiograph with its hand.

    Args:
        pixels: Contrast-normalised radiograph, uint8, bright bone.
        mask: The hand.
        points: Its landmarks `(x, y)` in pixels.
    """

    pixels: UInt8[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    points: Float[np.ndarray, "21 2"]


Change = Callable[[Film, np.random.Generator], Film]


def rendering(bundle: Path, *, source: Path, split: Path, num_files: int = 60, seed: int = 0) -> list[Row]:
    """What the hand stage makes of validation radiographs that are rendered otherwise, and how the readings change.

    Outlines are compared with those of the radiographs as they come, readings too.

    Args:
        bundle: The bundle that reads.
        source: Source of the radiographs.
        split: CSV with `id,split`; `validation` is measured.
        num_files: How many of them.
        seed: Seed of the sample and of what is changed.

    Raises:
        BenchmarkError: If the source has no labelled radiograph of that split.
    """
    loaded = load_bundle(bundle)
    films = []
    for case in choose_validation_cases(source, split, num_files=num_files, seed=seed):
        film = _open(case, loaded)
        if film is not None:  # what is rejected as it comes tells nothing about a rendering
            films.append((case, film))
    read = {name: _read_all(films, change, bundle=loaded, seed=seed) for name, change in CHANGES.items()}
    (_, as_they_come), *_ = read.items()
    rows: list[Row] = []
    for name, readings in read.items():
        answered = [number for number, reading in enumerate(readings) if not reading.reasons]
        errors = [readings[number].months - float(films[number][0].bone_age_months or 0) for number in answered]
        changes = [abs(readings[number].months - as_they_come[number].months) for number in answered]
        dices = [readings[number].dice for number in answered]
        rows.append(
            {
                **tabulate_reasons(name, [reading.reasons for reading in readings]),
                "Dice": rounded(float(np.mean(dices))) if dices else None,
                "Dice, 5%": rounded(float(np.quantile(dices, 0.05))) if dices else None,
                "wrong outlines answered": sum(dice < _WRONG_DICE for dice in dices),
                "MAE months": rounded(float(np.mean(np.abs(errors)))) if errors else None,
                "change months, median": rounded(float(np.median(changes))) if changes else None,
                f"within {_CLOSE_MONTHS:g} months": rounded(float(np.mean(np.array(changes) <= _CLOSE_MONTHS)))
                if changes
                else None,
            }
        )
    return rows


@dataclasses.dataclass(frozen=True)
class _Reading:
    reasons: tuple[str, ...]
    months: float
    dice: float


def _open(case: Case, bundle: Bundle) -> Film | None:
    prepared = _prepare(stretch_contrast(read_radiograph(case.path).pixels), bundle)
    hand = prepared.hand
    if prepared.reasons or hand is None or hand.landmarks is None:
        return None
    return Film(hand.pixels, hand.segmentation.mask, hand.landmarks.points)


def _prepare(pixels: UInt8[np.ndarray, "height width"], bundle: Bundle) -> Prepared:
    return prepare_pixels(pixels, load_preprocessing(bundle))


def _read_all(films: list[tuple[Case, Film]], change: Change, *, bundle: Bundle, seed: int) -> list[_Reading]:
    reasons, images, dices = [], [], []
    for number, (_, film) in enumerate(films):
        changed = change(film, np.random.default_rng((seed, number)))
        prepared = _prepare(changed.pixels, bundle)
        reasons.append(prepared.reasons)
        nothing = np.zeros((16, 16), np.uint8)  # its answer is not used
        images.append(bundle.resize_to_input(nothing if prepared.image is None else prepared.image))
        found = prepared.hand.segmentation.mask if prepared.hand else np.zeros_like(changed.mask)
        dices.append(score_mask(found, truth=changed.mask)["dice"])
    male = np.array([[male_from_sex(str(case.sex))] for case, _ in films], np.float32)
    months = bundle.predict_batch(np.stack(images), male)
    return [_Reading(*reading) for reading in zip(reasons, months.ravel().tolist(), dices, strict=True)]


def _tone(change: Callable[[UInt8[np.ndarray, "height width"], np.random.Generator], np.ndarray]) -> Change:
    """Make a change of a change of grey values, which may leave [0, 255]."""
    return lambda film, rng: dataclasses.replace(
        film, pixels=np.rint(np.clip(change(film.pixels, rng), 0, 255)).astype(np.uint8)
    )


def _gamma(gamma: float) -> Change:
    return _tone(lambda pixels, _: apply_gamma(pixels, gamma))


def _noise(share: float) -> Change:
    return _tone(lambda pixels, rng: pixels + rng.normal(0, share * 255, pixels.shape))


def _unsharp(pixels: UInt8[np.ndarray, "height width"], _: np.random.Generator) -> np.ndarray:
    image = pixels.astype(np.float32)
    return image + 1.5 * (image - cv2.GaussianBlur(image, (0, 0), 0.02 * max(pixels.shape)))


def _local_contrast(limit: float) -> Change:
    return _tone(lambda pixels, _: equalise(pixels, limit))


def _print(film: Film, rng: np.random.Generator, *, width: float) -> Film:
    """Print a film: grey values up to the median of the hand, its soft tissue, are nearly black; JPEG."""
    middle = float(np.median(film.pixels[film.mask])) / 255
    curve = 1 / (1 + np.exp((middle - np.arange(256) / 255) / width))
    printed = ((curve - curve[0]) / (curve[-1] - curve[0]) * 255)[film.pixels]
    grey = np.clip(printed + rng.normal(0, 2, printed.shape), 0, 255).astype(np.uint8)
    return dataclasses.replace(film, pixels=_compress(grey))


def _compress(pixels: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).astype(np.uint8)


def _burn_out(film: Film, _: np.random.Generator) -> Film:
    limit = np.percentile(film.pixels[film.mask], 75)
    return dataclasses.replace(film, pixels=np.clip(film.pixels * (255 / limit), 0, 255).astype(np.uint8))


def _surround(film: Film, rng: np.random.Generator, *, share: float, black: bool) -> Film:
    """Place a film on a larger one, of which the hand covers a share."""
    shape = np.array(film.pixels.shape)
    size = np.rint(shape * np.sqrt(film.mask.sum() / share / film.mask.size)).astype(int)
    ground = 0.0 if black else float(np.median(film.pixels[~film.mask]))
    pixels = np.clip(rng.normal(ground, 0 if black else 3, size), 0, 255).astype(np.uint8)
    mask = np.zeros(size, np.bool_)
    row, column = rng.integers(0, np.maximum(size - shape, 0) + 1)
    part = slice(row, row + shape[0]), slice(column, column + shape[1])
    pixels[part], mask[part] = film.pixels, film.mask
    return Film(pixels, mask, film.points + np.array([column, row]))


def _shrink(film: Film, *, length_px: float) -> Film:
    """Shrink a film until its hand, from wrist to middle fingertip, has a length in pixels."""
    scale = length_px / float(np.hypot(*(film.points[MIDDLE_TIP] - film.points[WRIST])))
    size = tuple(max(1, round(side * scale)) for side in film.pixels.shape[::-1])
    mask = cv2.resize(film.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1
    return Film(cv2.resize(film.pixels, size, interpolation=cv2.INTER_AREA), mask, film.points * scale)


def _insert_rod(film: Film, rng: np.random.Generator, *, tissue: float) -> Film:
    """Draw a metal rod across hand and wrist, beside which tissue has a share of the grey range."""
    wrist, knuckle = film.points[WRIST], film.points[rng.choice([5, 9, 13, 17])]
    ends = (wrist + share * (knuckle - wrist) for share in (-0.3, 1.2))
    pixels = (film.pixels * tissue).astype(np.uint8)
    thick = max(1, round(0.03 * float(np.hypot(*(film.points[MIDDLE_TIP] - wrist)))))
    first, last = (tuple(np.rint(end).astype(int).tolist()) for end in ends)
    return dataclasses.replace(film, pixels=cv2.line(pixels, first, last, (255,), thick))


def _put_in_cast(film: Film, rng: np.random.Generator, *, reach: float, density: float) -> Film:
    """Put forearm and wrist, to a share of the hand's length above it, in a cast of a twentieth of that length.

    A cast absorbs twice as much at its sides as in front of the hand, and is not even.
    """
    wrist, tip = film.points[WRIST], film.points[MIDDLE_TIP]
    length = float(np.hypot(*(tip - wrist)))
    axis = (tip - wrist) / length**2
    rows, columns = np.indices(film.pixels.shape)
    along = (columns - wrist[0]) * axis[0] + (rows - wrist[1]) * axis[1]
    wall, blur = 0.05 * length, max(0.5, 0.006 * length)
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) / wall for part in (film.mask, ~film.mask)
    )
    thickness = np.where(film.mask, 1 + np.exp(-inside), 2 * np.sqrt(np.clip(1 - outside, 0, None)))
    unevenness = cv2.GaussianBlur(rng.normal(0, 1, film.pixels.shape), (0, 0), blur)
    share = cv2.GaussianBlur(((along < reach) & (outside < 1)).astype(np.float64), (0, 0), blur)
    absorbed = density * thickness * share * (1 + 0.18 * unevenness / unevenness.std())
    grey = 255 - (255 - film.pixels) * np.exp(-absorbed)
    return dataclasses.replace(film, pixels=np.clip(grey, 0, 255).astype(np.uint8))


def _show_on_screen(film: Film, rng: np.random.Generator) -> Film:
    """Show a film in a viewer on a wide screen: dark, with a bar of buttons, thumbnails and lines of text."""
    height, width = film.pixels.shape
    scale = 900 / height
    size = min(1500, round(width * scale)), 900
    screen = np.full(_SCREEN, 24, np.uint8)
    screen[:60] = 70
    for column in range(20, 1200, 60):
        cv2.rectangle(screen, (column, 15), (column + 30, 45), (int(rng.integers(120, 230)),), -1)
    thumbnail = cv2.resize(film.pixels, (120, 150), interpolation=cv2.INTER_AREA)
    for row in (80, 250, 420):
        screen[row : row + 150, 20:140] = thumbnail
    left, top = (_SCREEN[1] - size[0]) // 2, 100
    mask = np.zeros(_SCREEN, np.bool_)
    screen[top : top + 900, left : left + size[0]] = cv2.resize(film.pixels, size, interpolation=cv2.INTER_LINEAR)
    shown = cv2.resize(film.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    mask[top : top + 900, left : left + size[0]] = shown == 1
    for number, text in enumerate(("Hand AP L", "W 2048 L 1024", "Zoom 43%")):
        cv2.putText(screen, text, (1640, 130 + 40 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (220,), 2)
    return Film(screen, mask, film.points * scale + np.array([left, top]))


def _photograph(film: Film, rng: np.random.Generator) -> Film:
    """Photograph a film on a light box, a little aslant: perspective, vignette, blur, noise, JPEG."""
    height, width = film.pixels.shape
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    jitter = rng.uniform(-0.04, 0.04, (4, 2)) * max(height, width)
    margin = 0.12 * max(height, width)
    matrix = cv2.getPerspectiveTransform(corners, (corners + jitter + margin).astype(np.float32))
    size = round(width + 2 * margin), round(height + 2 * margin)
    ground = float(rng.choice([25.0, 215.0]))
    seen = cv2.warpPerspective(film.pixels, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(ground,))
    mask = cv2.warpPerspective(film.mask.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST) == 1
    rows, columns = np.indices(seen.shape)
    far = np.hypot(rows / size[1] - rng.uniform(0.3, 0.7), columns / size[0] - rng.uniform(0.3, 0.7))
    light = cv2.GaussianBlur(seen, (0, 0), 0.8) * (1 - 0.45 * far) + rng.normal(0, 4, seen.shape)
    points = cv2.perspectiveTransform(film.points[None].astype(np.float32), matrix)[0].astype(np.float64)
    return Film(_compress(np.clip(light, 0, 255).astype(np.uint8)), mask, points)


CHANGES: dict[str, Change] = {
    "as they come": lambda film, _: film,
    **{f"gamma {gamma}": _gamma(gamma) for gamma in (0.45, 0.7, 1.5, 2.2)},
    "printed": lambda film, rng: _print(film, rng, width=0.1),
    "printed, soft tissue black": lambda film, rng: _print(film, rng, width=0.06),
    "CLAHE 2": _local_contrast(2.0),
    "CLAHE 4": _local_contrast(4.0),
    "unsharp mask": _tone(_unsharp),
    "bone burnt out": _burn_out,
    "equalised": _tone(lambda pixels, _: cv2.equalizeHist(pixels)),
    "inverted": _tone(lambda pixels, _: invert(pixels)),
    "16 grey levels": _tone(lambda pixels, _: pixels // 16 * 17),
    **{f"noise {share:.0%}": _noise(share) for share in (0.01, 0.02, 0.04, 0.08, 0.12)},
    **{
        f"hand of {length} px": (lambda film, rng, length=length: _shrink(film, length_px=length))
        for length in (60, 40)
    },
    **{
        f"{share:.0%} of the plate, {'black' if black else 'film'}": (
            lambda film, rng, share=share, black=black: _surround(film, rng, share=share, black=black)
        )
        for share in (0.04, 0.03, 0.02)
        for black in (True, False)
    },
    "metal rod": lambda film, rng: _insert_rod(film, rng, tissue=1.0),
    "metal rod, tissue dim": lambda film, rng: _insert_rod(film, rng, tissue=0.4),
    **{
        f"cast of {part}, {kind}": (
            lambda film, rng, reach=reach, density=density: _put_in_cast(film, rng, reach=reach, density=density)
        )
        for part, reach in (("the wrist", 0.12), ("wrist and palm", 0.45))
        for kind, density in (("thin", 0.4), ("thick", 1.0))
    },
    "screenshot of a viewer": _show_on_screen,
    "photograph of the film": _photograph,
}
