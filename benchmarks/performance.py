"""The table of docs/performance.md: what this package adds to plain Keras, tf.data and OpenCV, on drawn radiographs.

All times are CPU seconds of the process, over all its threads: other programs on the machine lengthen the wait, and not
the work.
"""

import dataclasses
import functools
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from measure import Row, TimedCase, median_and_quartiles, ratios, run_python, time_in_turns

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.models.fused_batch_norm import fuse_batch_norm
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset
from boneage.tfrecords.info import read_info
from boneage.tfrecords.reader import read_records
from boneage.training.augmentation import augment, build_augmentation, draw
from boneage.training.datasets import training_batches
from boneage.training.fit_loop import Step, build_training_step
from boneage.training.schedule import build_for_training, prepare_phases

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from on_gpu import pack_network

TORCH_STEP = Path(__file__).with_name("torch_step.py")
_TRAIN_SIZE_PX = 128
_BATCH_SIZE = 16
_NUM_STEPS = 6
_STILL = AugmentConfig(**{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)})


def performance(
    *, torch: Path | None = None, num_images: int = 48, image_size_px: int = 500, repeats: int = 7, seed: int = 0
) -> list[Row]:
    """What a training step, its augmentation and its input cost beside plain programs that do the same.

    Args:
        torch: Python of an environment with torch, which is not installed with TensorFlow (default: none).
        num_images: Drawn radiographs.
        image_size_px: Side of the prepared images of the input pipeline, in pixels.
        repeats: Rounds that count, of both sides in turns.
        seed: Seed of the drawings and of the order.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "drawn", num_images=num_images, seed=seed)
        config = PreprocessingConfig(segmenter="none", image_size_px=image_size_px)
        data = prepare(folder / "drawn", out=folder / "records", config=config, split="random", workers=1).folder
        steps = _time_steps(seed, torch=torch, folder=folder)
        by_torch = {"ours": steps["ours"], "anchor": steps.pop("torch")} if torch else None
        return [
            _compare("training step, 128 px", "Keras `train_on_batch`", steps, repeats=repeats),
            *([_compare("training step, 128 px", "torch, eager", by_torch, repeats=repeats)] if by_torch else []),
            _compare("augmentation, 500 px", "OpenCV, one by one", _time_augmentation(data), repeats=repeats),
            _compare("input, decoded anew", "plain tf.data", _time_input(data, image_size_px), repeats=repeats),
            _compare("input, later epochs", "plain tf.data, cached", _time_later(data, image_size_px), repeats=repeats),
            _compare(
                "preparing whole frames, 500 px",
                "a loop of OpenCV calls",
                _time_preparing(folder, seed=seed),
                repeats=repeats,
            ),
            _compare(
                "all of a training, 500 px", "its step alone", _time_training(data, image_size_px), repeats=repeats
            ),
        ]


def _cpu_clock(work: Callable[[], object], *, num_items: int) -> TimedCase:
    def side() -> float:
        began = time.process_time()
        work()
        return (time.process_time() - began) / num_items

    return side


def _compare(what: str, anchor: str, sides: Mapping[str, TimedCase], *, repeats: int) -> Row:
    seconds = time_in_turns(sides, repeats=repeats)
    ours, other = (1000 * np.array(seconds[name]) for name in ("ours", "anchor"))
    return {
        "what": what,
        "unit": "CPU ms per radiograph",
        **median_and_quartiles("ours", ours),
        "anchor": anchor,
        **median_and_quartiles("of_anchor", other),
        **median_and_quartiles("ratio", ratios(list(ours), list(other))),
    }


def _build_step(config: TrainConfig, ranges: AugmentConfig, batch: Any) -> tuple[Step, keras.Model]:
    """Build the training step for batches like one, and the network as it is before its layers are fused."""
    plain = build_for_training(config, mean_months=127.0, std_months=41.0)
    trained, strategy = fuse_batch_norm(plain), tf.distribute.get_strategy()
    next(prepare_phases(trained, strategy, config=config, steps=1000))
    step = build_training_step(
        trained,
        strategy,
        config=config,
        augment=functools.partial(augment, config=ranges),
        weigh=lambda losses, _: losses,
        spec=tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), batch),
    )
    return step, plain


def _time_steps(seed: int, *, torch: Path | None, folder: Path) -> dict[str, TimedCase]:
    """Steps of EfficientNet-Lite0 on a batch in memory, without augmentation."""
    config = TrainConfig(init="none", input_size=_TRAIN_SIZE_PX, batch_size=_BATCH_SIZE, seed=seed)
    rng = np.random.default_rng(seed)
    images = tf.constant(rng.integers(0, 256, (_BATCH_SIZE, _TRAIN_SIZE_PX, _TRAIN_SIZE_PX, 1), dtype=np.uint8))
    male = tf.constant(rng.integers(0, 2, (_BATCH_SIZE, 1)), tf.float32)
    months = tf.constant(rng.uniform(1, 228, (_BATCH_SIZE, 1)), tf.float32)
    draws = draw(seed, step=tf.constant(0, tf.int64), batch_size=_BATCH_SIZE)
    batch = ({"image": images, "male": male}, months, tf.ones(_BATCH_SIZE), draws)
    step, plain = _build_step(config, _STILL, batch)
    sides = {}
    if torch is not None:
        pack_network(folder / "network.npz", plain, about={})
        words = (str(TORCH_STEP), str(folder / "network.npz"), str(_BATCH_SIZE), str(_TRAIN_SIZE_PX))
        sides["torch"] = lambda: float(run_python(words, python=str(torch)))
    plain.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.01), loss="mean_absolute_error", jit_compile=False)
    inputs = {"image": tf.cast(images, tf.float32) / 255, "male": male}
    return {
        "ours": _cpu_clock(lambda: step(batch).numpy(), num_items=_BATCH_SIZE),
        "anchor": _cpu_clock(lambda: plain.train_on_batch(inputs, months), num_items=_BATCH_SIZE),
        **sides,
    }


def _time_training(data: Path, size: int) -> dict[str, TimedCase]:
    """Steps with the default augmentation, on batches that are shuffled, decoded and drawn, and on one batch again."""
    config = TrainConfig(init="none", input_size=size, batch_size=4)
    batches = iter(training_batches(data, Experiment("", config), steps=_NUM_STEPS))
    batch = next(batches)
    step, _ = _build_step(config, AugmentConfig(), batch)

    def train(take: Callable[[], Any]) -> None:
        for _ in range(_NUM_STEPS):
            step(take()).numpy()

    return {
        "ours": _cpu_clock(lambda: train(lambda: next(batches)), num_items=4 * _NUM_STEPS),
        "anchor": _cpu_clock(lambda: train(lambda: batch), num_items=4 * _NUM_STEPS),
    }


def _time_augmentation(data: Path) -> dict[str, TimedCase]:
    """The default ranges on a batch in memory, by the compiled operations and by an affine warp and a table."""
    size = read_info(data)["preprocessing"]["image_size_px"]
    images = next(iter(read_records(data, split="train", input_size=size, batch_size=_BATCH_SIZE)))["image"]
    draws = draw(0, step=tf.constant(0, tf.int64), batch_size=_BATCH_SIZE)
    ours, arrays = build_augmentation(AugmentConfig()), images.numpy()[..., 0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), 10, 0.9)
    levels = np.arange(256, dtype=np.float32) / 255
    table = np.clip((levels**1.2 - 0.5) * 1.05 + 0.55, 0, 1).astype(np.float32)

    def by_opencv() -> np.ndarray:
        return np.stack([table[cv2.warpAffine(image, matrix, (size, size))] for image in arrays])

    return {
        "ours": _cpu_clock(lambda: ours(images, draws).numpy(), num_items=_BATCH_SIZE),
        "anchor": _cpu_clock(by_opencv, num_items=_BATCH_SIZE),
    }


def _time_preparing(folder: Path, *, seed: int, num_images: int = 12) -> dict[str, TimedCase]:
    """Full-size PNG files into squares of 500 px: by `prepare`, and read, stretched, reduced and encoded by a loop."""
    source = folder / "large"
    write_dataset(source, num_images=num_images, seed=seed, size_px=(2040, 1600))
    config = PreprocessingConfig(segmenter="none", image_size_px=500)
    files = sorted(source.glob("*/*.png"))
    attempts = itertools.count()

    def by_prepare() -> None:
        prepare(source, out=folder / f"large-{next(attempts)}", config=config, split="random", workers=1)

    def by_opencv() -> None:
        for file in files:
            pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            low, high = np.percentile(pixels[::4, ::4], (1, 99))
            table = np.clip((np.arange(256) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
            share = 500 / max(pixels.shape)
            cv2.imencode(
                ".png", cv2.resize(cv2.LUT(pixels, table), None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            )

    return {
        "ours": _cpu_clock(by_prepare, num_items=num_images),
        "anchor": _cpu_clock(by_opencv, num_items=num_images),
    }


def _consume(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass


def _open_plain(data: Path) -> tuple[tf.data.Dataset, int]:
    """Records as the tutorials of TensorFlow read them."""
    described = read_info(data)["splits"]["train"]
    features = {
        "image": tf.io.FixedLenFeature((), tf.string),
        "sex": tf.io.FixedLenFeature((), tf.string),
        "bone_age_months": tf.io.FixedLenFeature((), tf.float32),
    }

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_single_example(serialized, features)
        image = tf.io.decode_png(parsed["image"], channels=1)
        return image, tf.cast(parsed["sex"] == "male", tf.float32), parsed["bone_age_months"]

    files = [str(data / shard["file"]) for shard in described["shards"]]
    records = tf.data.TFRecordDataset(files, buffer_size=1 << 18)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE), described["num_records"]


def _time_input(data: Path, size: int) -> dict[str, TimedCase]:
    plain, number = _open_plain(data)
    return {
        "ours": _cpu_clock(
            lambda: _consume(read_records(data, split="train", input_size=size, batch_size=4)), num_items=number
        ),
        "anchor": _cpu_clock(lambda: _consume(plain.batch(4).prefetch(2)), num_items=number),
    }


def _time_later(data: Path, size: int) -> dict[str, TimedCase]:
    """All that comes beside decoding: shuffling, batches, draws; ten epochs at a time."""
    plain, number = _open_plain(data)
    steps = number // 4
    batches = training_batches(data, Experiment("", TrainConfig(input_size=size, batch_size=4)), steps=steps)
    cached = plain.cache().shuffle(4096).repeat().batch(4).prefetch(2)
    sides = {"ours": iter(batches), "anchor": iter(cached)}

    def take(batches: tf.data.Iterator) -> None:
        for _ in range(10 * steps):
            next(batches)

    return {name: _cpu_clock(functools.partial(take, side), num_items=40 * steps) for name, side in sides.items()}
