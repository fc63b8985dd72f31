"""The benchmark of regions: bone age from wrist, carpals and fingers alone, and whether their disagreement shows."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float, UInt8
from measure import BenchmarkError, Row, rounded

from boneage.bundles.bundle import Bundle, load_bundle
from boneage.inference.loading import load_preprocessing
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.crop.upright import place_upright, stretch_within_mask, warp_upright
from boneage.preprocessing.hand.find_hand import Hand
from boneage.preprocessing.hand.pose import MIDDLE_TIP, WRIST
from boneage.preprocessing.io.radiograph import UnreadableImageError
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import analyse_hand, process
from boneage.preprocessing.sources.sources import Case, find_cases
from boneage.preprocessing.sources.splits import read_split_file
from boneage.tfrecords.schema import male_from_sex

SIZE_PX = 128
# Of the upright hand, of which the carpals are a twelfth.
_UPRIGHT_PX = 512
# Those of `boneage.preprocessing.synthetic.LANDMARK_NAMES`: joints and tips of the four fingers, and that of the palm
# towards which the carpals lie.
_FINGERS, _MIDDLE_KNUCKLE = slice(5, 21), 9
# Shares of the hand's length, chosen on 15 radiographs of the train split: the wrist's landmark lies between the
# radius and the carpals, which reach a quarter of the length above it.
_WRIST_SIDE, _WRIST_BELOW = 0.27, 0.08
_CARPALS_SIDE, _CARPALS_ABOVE = 0.26, 0.12
_FINGERS_MARGIN = 0.04
# Sides of the pictures for the network: of 64 and 96 px the better one on radiographs of the train split held out.
_SIDES_PX = {"wrist": 64, "carpals": 64, "fingers": 96}
_PENALTIES = tuple(10.0**power for power in np.arange(0.0, 5.5, 0.5))
_LARGEST_MONTHS = 228.0
_PLANTED_MONTHS, _NEAR_MONTHS = 24.0, 2.0
_FALSE_ALARM_SHARE = 0.05

Points = Float[np.ndarray, "21 2"]
Square = tuple[Float[np.ndarray, "2"], float]
"""Centre `(x, y)` and side of a region, in pixels of the upright hand."""
Pictures = UInt8[np.ndarray, "images size size"]
Features = Float[np.ndarray, "images features"]
Months = Float[np.ndarray, " images"]


def _find_wrist(points: Points, length_px: float) -> Square:
    """Find the square of the distal radius and ulna."""
    return points[WRIST] + [0, _WRIST_BELOW * length_px], _WRIST_SIDE * length_px


def _find_carpals(points: Points, length_px: float) -> Square:
    up = points[_MIDDLE_KNUCKLE] - points[WRIST]
    return points[WRIST] + _CARPALS_ABOVE * length_px * up / np.hypot(*up), _CARPALS_SIDE * length_px


def _find_fingers(points: Points, length_px: float) -> Square:
    """Find the square of the four fingers, with the knuckles."""
    low, high = points[_FINGERS].min(axis=0), points[_FINGERS].max(axis=0)
    return (low + high) / 2, float((high - low).max()) + 2 * _FINGERS_MARGIN * length_px


REGIONS: dict[str, Callable[[Points, float], Square]] = {
    "wrist": _find_wrist,
    "carpals": _find_carpals,
    "fingers": _find_fingers,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Radiographs that the hand stage accepts.

    Args:
        months: Labelled bone age.
        male: 1 for boys, 0 for girls.
        whole_months: Bone age by the bundle from the whole hand.
        pictures: The crops of each region, uint8.
    """

    months: Months
    male: Months
    whole_months: Months
    pictures: dict[str, Pictures]


def regions(
    bundle: Path, *, source: Path, split: Path, num_train: int = 2000, num_held_out: int = 400, seed: int = 0
) -> list[Row]:
    """Bone age by region from features of a frozen network, the noise of their differences, and planted disharmony.

    The regions are cut by landmarks. Of each, a ridge regression reads the features of the bundle's network; it is
    trained on a part of the train split; its penalty and the threshold of the flag are set on another. The
    validation split is measured. A child is flagged if the carpals lie beyond what wrist and fingers let expect. A
    disharmony is planted by the carpals of another child of the same sex, 24 months older or younger.

    Args:
        bundle: The bundle whose network gives features and the reading of the whole hand.
        source: Source of the radiographs.
        split: CSV with `id,split`.
        num_train: Radiographs of the train split to train on.
        num_held_out: Further ones of it, to choose settings and threshold.
        seed: Seed of the choice.

    Raises:
        BenchmarkError: If the source has no labelled radiographs of these splits.
    """
    loaded = load_bundle(bundle)
    groups = [
        read_group(cases, loaded)
        for cases in _choose(source, split, num_train=num_train, num_held_out=num_held_out, seed=seed)
    ]
    return measure(groups, features=load_features(loaded))


def measure(groups: Sequence[Group], *, features: Callable[[Pictures], Features]) -> list[Row]:
    """Train on the first group, choose on the second, measure on the third; see `regions`."""
    _, held_out, measured = groups
    read = {region: _read_region(region, groups, features) for region in REGIONS}
    rows: list[Row] = []
    for region, (_, months, penalty) in read.items():
        rows.append({"what": region, **_describe(months, measured), "penalty": rounded(penalty)})
    rows.append({"what": "whole hand, by the bundle", **_describe(measured.whole_months, measured)})
    for first, second in (("wrist", "carpals"), ("carpals", "fingers"), ("wrist", "fingers")):
        differences = read[first][1] - read[second][1]
        rows.append({"what": f"{first} minus {second}", "SD months": rounded(float(differences.std(ddof=1)))})
    known = [np.mean([read[region][number] for region in ("wrist", "fingers")], axis=0) for number in (0, 1)]
    carpals = read["carpals"]
    expect = _fit_expected(known[0], held_out.male, carpals[0])
    own, residuals = (carpals[0] - expect(known[0], held_out.male)), carpals[1] - expect(known[1], measured.male)
    threshold = float(np.quantile(np.abs(own), 1 - _FALSE_ALARM_SHARE))
    planted = np.concatenate(
        [
            residuals[child] + carpals[1][donor] - carpals[1][child]
            for child, donor in (_find_donors(measured, by_months=by) for by in (-_PLANTED_MONTHS, _PLANTED_MONTHS))
        ]
    )
    rows.append(
        {
            "what": "carpals beyond what wrist and fingers let expect",
            "SD months": rounded(float(residuals.std(ddof=1))),
            "threshold months": rounded(threshold),
            "false alarms": rounded(float(np.mean(np.abs(residuals) > threshold))),
            "planted": len(planted),
            "planted, detected": rounded(float(np.mean(np.abs(planted) > threshold))),
        }
    )
    return rows


def _choose(source: Path, split: Path, *, num_train: int, num_held_out: int, seed: int) -> list[list[Case]]:
    """Choose the cases to train on, those held out, and those measured."""
    splits = read_split_file(split)
    labelled = {
        case.id: case for case in find_cases(source)[0] if case.bone_age_months is not None and case.sex is not None
    }
    train, validation = (
        [id for id, name in splits.items() if name == wanted and id in labelled] for wanted in ("train", "validation")
    )
    if len(train) < num_train + num_held_out or not validation:
        raise BenchmarkError(
            f"{source}: {len(train)} labelled radiographs of the train split and {len(validation)} of the validation "
            f"split in {split}; {num_train + num_held_out} and at least one are needed."
        )
    drawn = np.random.default_rng(seed).permutation(train)
    chosen = (drawn[:num_train], drawn[num_train : num_train + num_held_out], validation)
    return [[labelled[id] for id in ids] for ids in chosen]


def read_group(cases: Sequence[Case], bundle: Bundle) -> Group:
    """Cut the regions of labelled radiographs and read their whole hands; what the hand stage refuses is left out."""
    config = load_preprocessing(bundle)
    kept, images, cut = [], [], []
    for case in cases:
        try:
            radiograph = read_radiograph(case.path)
        except UnreadableImageError:
            continue
        hand = analyse_hand(radiograph, config)
        prepared = process(radiograph, config, hand=hand)
        found = None if prepared.reasons else cut_regions(hand, config)
        if found is not None and prepared.image is not None:
            kept.append(case)
            images.append(bundle.resize_to_input(prepared.image))
            cut.append(found)
    male = np.array([male_from_sex(str(case.sex)) for case in kept])
    return Group(
        months=np.array([float(case.bone_age_months or 0) for case in kept]),
        male=male,
        whole_months=bundle.predict_batch(np.stack(images), male[:, None].astype(np.float32)).astype(np.float64),
        pictures={region: np.stack([found[region] for found in cut]) for region in REGIONS},
    )


def cut_regions(hand: Hand, config: PreprocessingConfig) -> dict[str, UInt8[np.ndarray, "size size"]] | None:
    """Cut the regions out of a hand turned upright, each `SIZE_PX` square; None where it has no place."""
    if hand.pose is None or hand.landmarks is None:
        return None
    placement = place_upright(
        hand.segmentation.mask,
        wrist=hand.landmarks.points[WRIST],
        angle_degrees=hand.pose.angle_degrees,
        length_px=hand.pose.length_px,
        mirror=hand.pose.side == "right",
        forearm_share=config.forearm_share,
        margin_share=config.margin_share,
        max_size_px=_UPRIGHT_PX,
    )
    if placement is None:
        return None
    upright = stretch_within_mask(
        *warp_upright(hand.pixels, hand.segmentation.mask, placement),
        low_percentile=config.contrast_low_percentile,
        high_percentile=config.contrast_high_percentile,
    )
    points = hand.landmarks.points @ placement.matrix[:, :2].T + placement.matrix[:, 2]
    length_px = float(np.hypot(*(points[MIDDLE_TIP] - points[WRIST])))
    return {region: _resample(upright, *find(points, length_px)) for region, find in REGIONS.items()}


def _resample(
    pixels: UInt8[np.ndarray, "height width"], centre: Float[np.ndarray, "2"], side: float
) -> UInt8[np.ndarray, "size size"]:
    scale = SIZE_PX / side
    matrix = np.column_stack([np.eye(2) * scale, SIZE_PX / 2 - 0.5 - centre * scale])
    # Fingers shrink to half: linear interpolation alone would alias.
    smooth = cv2.GaussianBlur(pixels, (0, 0), 0.4 / scale) if scale < 0.7 else pixels
    return cv2.warpAffine(smooth, matrix, (SIZE_PX, SIZE_PX), flags=cv2.INTER_LINEAR).astype(np.uint8)


def load_features(bundle: Bundle) -> Callable[[Pictures], Features]:
    """Load the network of a bundle as a function from pictures of any side to what its pooling layers give."""
    model = onnx.load(bundle.folder / "model.onnx")
    pooled = [node.output[0] for node in model.graph.node if node.op_type == "GlobalAveragePool"]
    for dimension in model.graph.input[0].type.tensor_type.shape.dim:
        dimension.dim_param = f"any{id(dimension)}"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1
    del model.graph.value_info[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in pooled)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    picture, male = (given.name for given in session.get_inputs())

    def features(pictures: Pictures) -> Features:
        batches = []
        for start in range(0, len(pictures), 32):
            batch = pictures[start : start + 32, ..., None].astype(np.float32) / 255
            found = session.run(pooled, {picture: batch, male: np.zeros((len(batch), 1), np.float32)})
            batches.append(np.concatenate([layer.reshape(len(batch), -1) for layer in found], axis=1))
        return np.concatenate(batches).astype(np.float64)

    return features


def _read_region(
    region: str, groups: Sequence[Group], features: Callable[[Pictures], Features]
) -> tuple[Months, Months, float]:
    """Read one region; returns the readings of the radiographs held out and measured, and the penalty chosen."""
    train, held_out, measured = (
        _join_sex(features(_shrink(group.pictures[region], side_px=_SIDES_PX[region])), group.male) for group in groups
    )
    read = _fit_ridge(train, groups[0].months)
    tried = {penalty: read(held_out, penalty) for penalty in _PENALTIES}
    best = min(tried, key=lambda penalty: float(np.abs(tried[penalty] - groups[1].months).mean()))
    return tried[best], read(measured, best), best


def _shrink(pictures: Pictures, *, side_px: int) -> Pictures:
    size = (side_px, side_px)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]).astype(np.uint8)


def _join_sex(features: Features, male: Months) -> Features:
    """Join features with the sex, and with those of boys alone: each sex has its own weights, near those of both."""
    return np.column_stack([features, features * male[:, None], male])


def _fit_ridge(features: Features, months: Months) -> Callable[[Features, float], Months]:
    """Fit ridge regressions of every penalty, in the space of the images, which are fewer than the features."""
    mean, spread, middle = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6), float(months.mean())
    scaled = (features - mean) / spread
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    along = vectors.T @ (months - middle)

    def read(given: Features, penalty: float) -> Months:
        weights = vectors @ (along / (values + penalty))
        months: np.ndarray = np.clip((given - mean) / spread @ scaled.T @ weights + middle, 0, _LARGEST_MONTHS)
        return months

    return read


def _describe(months: Months, group: Group) -> Row:
    return {
        "MAE months": rounded(float(np.abs(months - group.months).mean())),
        "bias months": rounded(float((months - group.months).mean())),
        "correlation with the label": rounded(float(np.corrcoef(months, group.months)[0, 1])),
        "correlation with the whole hand": rounded(float(np.corrcoef(months, group.whole_months)[0, 1])),
    }


def _fit_expected(known: Months, male: Months, months: Months) -> Callable[[Months, Months], Months]:
    """Fit one region by others, a line for each sex: weak regions shrink towards the mean."""
    make = lambda known, male: np.column_stack([np.ones(len(known)), known, male, known * male])  # noqa: E731
    weights = np.linalg.lstsq(make(known, male), months, rcond=None)[0]
    return lambda known, male: make(known, male) @ weights


def _find_donors(group: Group, *, by_months: float) -> tuple[np.ndarray, np.ndarray]:
    """Find for each child the other of the same sex whose label is nearest to so many months more.

    Returns:
        The numbers of the children that have one within `_NEAR_MONTHS`, and those of the others.
    """
    distance = np.abs(group.months[None] - group.months[:, None] - by_months)
    distance[group.male[None] != group.male[:, None]] = np.inf
    donors = distance.argmin(axis=1)
    own = np.flatnonzero(distance.min(axis=1) <= _NEAR_MONTHS)
    return own, donors[own]
