"""The benchmarks of networks: training, prediction, and the way from raw files to months."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from measure import BenchmarkError, Row, clock, median_and_quartiles, ratios, rounded, speed_row, time_in_turns

from boneage.bundles.bundle import load_bundle
from boneage.configuration.networks import NETWORKS
from boneage.inference.loading import load_preprocessing
from boneage.inference.predict import predict
from boneage.models.build import build_model
from boneage.preprocessing.io.read import read_radiograph
from boneage.preprocessing.process import process
from boneage.preprocessing.sources.sources import find_cases
from boneage.tfrecords.schema import male_from_sex


def networks(
    *,
    names: Sequence[str] = NETWORKS,
    precisions: Sequence[str] = ("float32", "mixed_bfloat16"),
    input_size: int = 128,
    batch_size: int = 32,
    steps: int = 5,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Training steps and predictions of the networks, each beside the first of them in the same precision.

    Args:
        names: Networks of `boneage.configuration.networks.NETWORKS`; the first one is the baseline.
        precisions: Keras's precision policies; the first network in each is also compared to the first of these.
        input_size: Side of the images in pixels.
        batch_size: Images in a batch; the batch is random and already in memory.
        steps: Batches in each timing.
        repeats: Rounds that count.
        seed: Seed of the images and of the weights.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    inputs = {
        "image": tf.constant(rng.random((batch_size, input_size, input_size, 1), np.float32)),
        "male": tf.constant(rng.integers(0, 2, (batch_size, 1)), tf.float32),
    }
    months = tf.constant(rng.uniform(1, 228, (batch_size, 1)), tf.float32)
    models = {
        (name, precision): _compiled(name, precision, input_size=input_size)
        for precision in precisions
        for name in names
    }
    works: dict[str, Callable[[keras.Model], object]] = {
        "training": lambda model: [model.train_on_batch(inputs, months) for _ in range(steps)],
        "prediction": lambda model: [model.predict_on_batch(inputs) for _ in range(steps)],
    }
    num_images = steps * batch_size
    sides = {
        _side(name, precision, work): clock(functools.partial(works[work], model), num_items=num_images)
        for (name, precision), model in models.items()
        for work in works
    }
    seconds = time_in_turns(sides, repeats=repeats)
    rows = []
    for (name, precision), model in models.items():
        for work in works:
            # The baseline itself is shown in the other precisions, where it is compared to its own first one.
            baseline = (names[0], precision if name != names[0] else precisions[0])
            row = speed_row(
                _side(name, precision, work),
                baseline=_side(*baseline, work),
                seconds=seconds,
                num_images=num_images,
            )
            rows.append({**row, "num_parameters": model.count_params(), "device": _device()})
    return rows


def _side(name: str, precision: str, work: str) -> str:
    return f"{name}, {precision}, {work}"


def _device() -> str:
    """Name the accelerator that TensorFlow uses, or the CPU."""
    accelerators = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(accelerators[0])["device_name"] if accelerators else "CPU"


def _compiled(name: str, precision: str, *, input_size: int) -> keras.Model:
    """Build a network with random weights, ready to train as `boneage train` does."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        model = build_model(name, input_size=input_size, target_mean_months=127.0, target_std_months=41.0)
    finally:
        keras.mixed_precision.set_global_policy(before)
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.01),
        loss="mean_absolute_error",
        metrics=[keras.metrics.MeanAbsoluteError(name="mae")],
        jit_compile=False,
    )
    return model


def predicting(files: Path, *, bundle: Path, sex: str = "female", repeats: int = 5) -> list[Row]:
    """Predicting from raw files to months, and the share of it that each of its parts takes.

    Args:
        files: Folder of radiographs.
        bundle: The bundle.
        sex: Sex to assume for files that bring none; it does not change the speed.
        repeats: Rounds that count.

    Raises:
        BenchmarkError: If a file gets no answer, because rejecting is faster than predicting.
    """
    answers = predict(files, bundle=bundle, sex=sex)
    if not answers["accepted"].all():
        raise BenchmarkError(
            f"{files}: {int((~answers['accepted']).sum())} of {len(answers)} files have no answer; remove them: "
            "`boneage predict` names the reasons."
        )
    loaded = load_bundle(bundle)
    config = load_preprocessing(loaded)
    paths = [case.path for case in find_cases(files)[0]]

    def prepare_all() -> np.ndarray:
        prepared = (process(read_radiograph(path), config).image for path in paths)
        return np.stack([loaded.resize_to_input(image) for image in prepared])

    images = prepare_all()
    males = np.full((len(images), 1), male_from_sex(sex), np.float32)

    def run_network() -> None:
        for start in range(len(images)):
            loaded.predict_batch(images[start : start + 1], males[start : start + 1])

    works: dict[str, Callable[[], object]] = {
        "files to months": lambda: predict(files, bundle=bundle, sex=sex),
        "loading the bundle": lambda: load_bundle(bundle),
        "reading and preparing": prepare_all,
        "network": run_network,
    }
    whole = next(iter(works))
    seconds = time_in_turns({name: clock(work, num_items=len(paths)) for name, work in works.items()}, repeats=repeats)
    return [
        {
            "case": name,
            "baseline": whole,
            "seconds": rounded(float(np.median(seconds[name])) * len(paths)),
            "images_per_second": rounded(1 / float(np.median(seconds[name]))),
            **median_and_quartiles("share_of_time", ratios(seconds[name], seconds[whole])),
            "num_images": len(paths),
            "repeats": repeats,
        }
        for name in works
    ]
