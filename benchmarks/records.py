"""The benchmarks of records: reading them, and encoding their images."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from measure import (
    BenchmarkError,
    Row,
    TimedCase,
    clock,
    median_and_quartiles,
    ratios,
    rounded,
    speed_row,
    time_in_turns,
)

from boneage.bundles.bundle import Bundle, load_bundle
from boneage.configuration.build import build
from boneage.configuration.experiment import Experiment
from boneage.evaluation.summarise import Comparison, compare
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.jobs.shard import PNG_COMPRESSION
from boneage.preprocessing.process import process
from boneage.preprocessing.sources.sources import find_cases
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.info import read_info, split_info
from boneage.tfrecords.reader import read_records, resize
from boneage.tfrecords.schema import Record, decode, male_from_sex
from boneage.training.augmentation import build_augmentation
from boneage.training.datasets import training_batches

PREDICTED_AT_ONCE = 64
DEFAULTS = Experiment("defaults")


def reading(
    data: Path,
    *,
    source: Path,
    experiment: Experiment = DEFAULTS,
    num_files: int = 500,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Reading the training records, plain and augmented, beside reading the PNG files they were made from.

    Of the files a sample is read, everything from the system's file cache. One by one they go through the whole
    preprocessing; the plain `tf.data` pipeline only decodes and resizes them, which is less than records hold.

    Args:
        data: Record folder with a split `train`.
        source: The source it was prepared from, with PNG files.
        experiment: Decides input size, batch size and the ranges of the augmentation.
        num_files: Files in the sample.
        repeats: Rounds that count.
        seed: Seed of the sample, of the shuffle and of the augmentation.

    Raises:
        BenchmarkError: If `source` has no PNG file of the training split.
    """
    config = dataclasses.replace(experiment.train, seed=seed)
    info = read_info(data)
    num_records = split_info(info, "train", folder=data)["num_records"]
    steps = num_records // config.batch_size

    def open_records() -> tf.data.Dataset:
        return read_records(data, split="train", input_size=config.input_size, batch_size=config.batch_size)

    kept = open_records()
    ids = {id.decode() for batch in kept for id in batch["id"].numpy()}
    batches = training_batches(data, dataclasses.replace(experiment, train=config), steps=steps, first_epoch=0)
    epoch, augment = batches.take(steps), build_augmentation(experiment.augment)

    def consume_augmented() -> None:
        for inputs, _, _, draws in epoch:
            augment(inputs["image"], draws)

    paths = _sample_png_files(source, ids, num_files=num_files, seed=seed)
    # Ready for the network, as records are, but for the enlarging of sources smaller than its input.
    values = {**info["preprocessing"], "image_size_px": config.input_size}
    preprocessing = build(PreprocessingConfig, values, where=f"{data} preprocessing")
    plain = _plain_batches(paths, input_size=config.input_size, batch_size=config.batch_size)
    num_images = {
        "records, first pass": num_records,
        "records, later pass": num_records,
        "records, later pass, shuffled and augmented": steps * config.batch_size,
        "files, one by one": len(paths),
        "files, plain tf.data": len(paths),
    }
    works: tuple[Callable[[], object], ...] = (
        lambda: _consume(open_records()),
        lambda: _consume(kept),
        consume_augmented,
        lambda: [process(read_radiograph(path), preprocessing) for path in paths],
        lambda: _consume(plain),
    )
    sides = {name: clock(work, num_items=num) for (name, num), work in zip(num_images.items(), works, strict=True)}
    seconds = time_in_turns(sides, repeats=repeats)
    first, later, shuffled, one_by_one, by_tf_data = num_images
    pairs = [(case, one_by_one) for case in (first, later, shuffled, by_tf_data)]
    pairs += [(first, by_tf_data), (later, by_tf_data), (shuffled, by_tf_data), (shuffled, later)]
    return [
        speed_row(case, baseline=baseline, seconds=seconds, num_images=num_images[case]) for case, baseline in pairs
    ]


def _consume(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass


def _sample_png_files(source: Path, ids: set[str], *, num_files: int, seed: int) -> list[Path]:
    cases, _ = find_cases(source)
    paths = [case.path for case in cases if case.id in ids and case.path.suffix.lower() == ".png"]
    if not paths:
        raise BenchmarkError(f"{source}: no PNG file of the training split; give the source of the records.")
    chosen = np.random.default_rng(seed).permutation(len(paths))[:num_files]
    return [paths[index] for index in chosen]


def _plain_batches(paths: Sequence[Path], *, input_size: int, batch_size: int) -> tf.data.Dataset:
    """Decode and resize PNG files as a first `tf.data` pipeline would: whole frames, no preprocessing."""
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    images = files.map(
        lambda path: resize(tf.io.decode_png(tf.io.read_file(path), channels=1), input_size=input_size),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return images.batch(batch_size).prefetch(tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One way to store an image.

    Args:
        kind: `"png"`, `"jpeg"` or `"raw"`.
        level: Compression of PNG, quality of JPEG.
        dct_method: `"INTEGER_ACCURATE"` or `"INTEGER_FAST"`, how JPEG is decoded.
    """

    kind: str
    level: int = 0
    dct_method: str = "INTEGER_ACCURATE"

    @property
    def is_lossy(self) -> bool:
        """Whether other pixels may come back than went in."""
        return self.kind == "jpeg"

    def encode(self, image: np.ndarray) -> bytes:
        """Encode an image, uint8 `(height, width)`."""
        if self.kind == "raw":
            return image.tobytes()
        option = {"png": cv2.IMWRITE_PNG_COMPRESSION, "jpeg": cv2.IMWRITE_JPEG_QUALITY}[self.kind]
        encoded, data = cv2.imencode(f".{self.kind}", image, [option, self.level])
        if not encoded:
            raise BenchmarkError(f"OpenCV could not encode an image as {self.kind}; install a build that can.")
        return data.tobytes()

    def decode(self, data: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """Decode to uint8 `(height, width, 1)` as a `tf.data` pipeline would."""
        if self.kind == "raw":
            return tf.reshape(tf.io.decode_raw(data, tf.uint8), shape)
        if self.kind == "jpeg":
            return tf.io.decode_jpeg(data, channels=1, dct_method=self.dct_method)
        return tf.io.decode_png(data, channels=1)


ENCODINGS = {
    **{f"PNG {level}": Encoding("png", level) for level in (1, 6, 9)},
    **{f"JPEG {quality}": Encoding("jpeg", quality) for quality in (95, 90)},
    # TensorFlow's default, whose own error adds to that of the encoding: told apart, neither is blamed for the other.
    **{f"JPEG {quality}, fast decoding": Encoding("jpeg", quality, "INTEGER_FAST") for quality in (95, 90)},
    "raw": Encoding("raw"),
}
IN_USE = f"PNG {PNG_COMPRESSION}"


def encoding(
    data: Path,
    *,
    bundle: Path | None = None,
    split: str = "validation",
    num_images: int = 1000,
    min_seconds: float = 0.5,
    repeats: int = 7,
    seed: int = 0,
) -> list[Row]:
    """Storing prepared images as PNG, JPEG or raw: size, speed, grey error and, with a bundle, what it costs in months.

    Args:
        data: Record folder.
        bundle: Bundle whose MAE on the split is measured with images that went through each lossy encoding.
        split: The split the images are from.
        num_images: Images in the sample; the MAE is measured on the whole split.
        min_seconds: How long each timing goes on.
        repeats: Rounds that count.
        seed: Seed of the sample.
    """
    records = list(_iterate_records(data, split=split))
    chosen = np.random.default_rng(seed).permutation(len(records))[:num_images]
    images = [_decode_image(records[index]) for index in chosen]
    encoded = {name: [encoding.encode(image) for image in images] for name, encoding in ENCODINGS.items()}
    sides: dict[str, TimedCase] = {}
    for name, encoding in ENCODINGS.items():
        work = functools.partial(_encode_all, encoding, images)
        sides[f"encode {name}"] = clock(work, num_items=len(images), min_seconds=min_seconds)
        work = functools.partial(_consume, _decoded(encoding, encoded[name], images))
        sides[f"decode {name}"] = clock(work, num_items=len(images), min_seconds=min_seconds)
    seconds = time_in_turns(sides, repeats=repeats)
    costs = {} if bundle is None else _mae_costs(load_bundle(bundle), data, records, split=split)
    rows: list[Row] = []
    for name, encoding in ENCODINGS.items():
        row: Row = {
            "case": name,
            "baseline": IN_USE,
            "bytes_per_image": rounded(float(np.mean([len(item) for item in encoded[name]]))),
        }
        for action in ("encode", "decode"):
            timed, baseline = seconds[f"{action} {name}"], seconds[f"{action} {IN_USE}"]
            row[f"{action}_images_per_second"] = rounded(1 / float(np.median(timed)))
            row |= median_and_quartiles(f"{action}_times_as_fast", ratios(baseline, timed))
        row |= {**_grey_error(encoding, encoded[name], images), "num_images": len(images), "repeats": repeats}
        if name in costs:
            change = costs[name].difference_months
            row |= {
                "mae_months": rounded(costs[name].mae_months),
                "lossless_mae_months": rounded(costs[name].baseline_mae_months),
                # Here the range is the 95% interval of a bootstrap over the images, not quartiles over rounds.
                "mae_change_months": rounded(change.value),
                "mae_change_months_low": rounded(change.low),
                "mae_change_months_high": rounded(change.high),
                "mae_num_images": costs[name].num_images,
            }
        rows.append(row)
    return rows


def _iterate_records(data: Path, *, split: str) -> Iterator[Record]:
    for shard in split_info(read_info(data), split, folder=data)["shards"]:
        yield from map(decode, read_frames(data / shard["file"]))


def _decode_image(record: Record) -> np.ndarray:
    return tf.io.decode_png(record.image, channels=1).numpy()[..., 0]


def _encode_all(encoding: Encoding, images: Sequence[np.ndarray]) -> None:
    for image in images:
        encoding.encode(image)


def _decoded(encoding: Encoding, encoded: Sequence[bytes], images: Sequence[np.ndarray]) -> tf.data.Dataset:
    """Decode all in one parallel map; only one pixel of each leaves it, since their sizes may differ."""
    slices = tf.data.Dataset.from_tensor_slices((list(encoded), [(*image.shape, 1) for image in images]))
    pixels = slices.map(lambda data, shape: encoding.decode(data, shape)[0, 0, 0], num_parallel_calls=tf.data.AUTOTUNE)
    return pixels.batch(len(images))


def _grey_error(encoding: Encoding, encoded: Sequence[bytes], images: Sequence[np.ndarray]) -> Row:
    """Largest and mean absolute difference of the pixels that come back, in grey levels of 0 to 255."""
    largest, total = 0, 0
    for data, image in zip(encoded, images, strict=True):
        back = encoding.decode(tf.constant(data), (*image.shape, 1)).numpy()[..., 0]
        error = np.abs(back.astype(int) - image)
        largest, total = max(largest, int(error.max())), total + int(error.sum())
    return {"largest_grey_error": largest, "mean_grey_error": rounded(total / sum(image.size for image in images))}


def _mae_costs(bundle: Bundle, data: Path, records: Sequence[Record], *, split: str) -> dict[str, Comparison]:
    """Compare the bundle on images that went through each lossy encoding with the bundle on the records as they are."""
    lossless = bundle.predict_records(data, split=split)
    costs = {}
    for name, encoding in ENCODINGS.items():
        if encoding.is_lossy:
            predicted = _predict_through(encoding, bundle, records)
            lossy = lossless.assign(predicted_months=lossless["id"].map(predicted))
            costs[name] = compare(lossy, lossless)
    return costs


def _predict_through(encoding: Encoding, bundle: Bundle, records: Sequence[Record]) -> dict[str, float]:
    """Return the predicted months by id."""
    predicted: dict[str, float] = {}
    for start in range(0, len(records), PREDICTED_AT_ONCE):
        batch = records[start : start + PREDICTED_AT_ONCE]
        images = []
        for record in batch:
            image = _decode_image(record)
            back = encoding.decode(tf.constant(encoding.encode(image)), (*image.shape, 1))
            images.append(bundle.resize_to_input(back.numpy()[..., 0]))
        males = np.array([[male_from_sex(record.sex)] for record in batch], np.float32)
        months = bundle.predict_batch(np.stack(images), males)
        predicted |= {record.id: float(value) for record, value in zip(batch, months, strict=True)}
    return predicted
