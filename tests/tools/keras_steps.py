"""Write the training steps that the torch tool has to repeat: `python tests/tools/keras_steps.py`.

TensorFlow and torch live in separate environments, so the two sides meet in a file: the tests of one check that
`boneage.training` still makes these steps, the tests of the other that torch makes the same ones.
"""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.training import TrainConfig
from boneage.models import efficientnet_lite0
from boneage.models.efficientnet_lite0 import Stage
from boneage.models.fused_batch_norm import fuse_batch_norm
from boneage.training import fit_loop
from boneage.training.augmentation import DRAWS
from boneage.training.distribution import distribute
from boneage.training.schedule import build_for_training, prepare_phases

FOLDER = Path(__file__).parent
NUM_STEPS, BATCH_SIZE, SIZE_PX = 3, 6, 32
UNCHANGED = AugmentConfig(**{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)})
# EfficientNet-Lite0 in small: with and without expansion, stride and addition, kernels of 3 and 5 pixels.
STAGES = (
    Stage(num_blocks=1, kernel_size=3, stride=1, expansion=1, filters=4),
    Stage(num_blocks=2, kernel_size=5, stride=2, expansion=2, filters=6),
)


def compute_steps(task: str) -> dict[str, np.ndarray]:
    """Train a small network for a few steps with `boneage.training`.

    Args:
        task: `"age"` or `"sex"`.

    Returns:
        `about` (JSON: layers, task, learning rates, weight decay), the batches `images` (uint8), `male` and `truth`,
        the loss of each step, and the weights `before/...` and `after/...`.
    """
    # So strong a weight decay that steps without it would differ.
    config = TrainConfig(
        task=task, use_sex=task == "age", input_size=SIZE_PX, init="none", head_units=(5,), epochs=1,
        batch_size=BATCH_SIZE, learning_rate=1e-3, warmup_epochs=0.0, weight_decay=5.0, seed=4,
    )  # fmt: skip
    small = {"STAGES": STAGES, "STEM_FILTERS": 4, "HEAD_FILTERS": 8}
    with mock.patch.multiple(efficientnet_lite0, **small):
        model = build_for_training(config, mean_months=120.0, std_months=40.0)
    rng = np.random.default_rng(0)
    for name, weight in load_tool()._list_weights(model):
        # With the shifts at zero, a scale in front of another normalisation has no gradient but rounding.
        if name.endswith("_norm") and weight.name == "beta":
            weight.assign(rng.normal(0.5, 0.5, weight.shape))
    pixels = rng.integers(0, 256, (NUM_STEPS, BATCH_SIZE, SIZE_PX, SIZE_PX, 1), np.uint8)
    male = rng.integers(0, 2, (NUM_STEPS, BATCH_SIZE, 1)).astype(np.float32)
    truth = male if task == "sex" else rng.uniform(0, 228, male.shape).astype(np.float32)
    inputs = {"image": pixels, "male": male} if config.use_sex else {"image": pixels}
    examples = tf.data.Dataset.from_tensor_slices((inputs, truth))
    draws = tf.zeros((BATCH_SIZE, len(DRAWS)))
    batches = examples.map(lambda inputs, truth: (inputs, truth, tf.ones(BATCH_SIZE), draws))
    strategy, trained = tf.distribute.get_strategy(), fuse_batch_norm(model)
    on_gpu = load_tool()
    before, losses = _read_weights(on_gpu, trained), _Losses()
    for epochs in prepare_phases(trained, strategy, config=config, steps=NUM_STEPS):
        iterator = iter(distribute(batches, strategy))
        with mock.patch.object(fit_loop, "READ_STEPS", 1):  # the loss of each step is compared
            fit_loop.fit(
                trained, strategy, config=config, ranges=UNCHANGED, mean_months=120.0, std_months=40.0,
                batches=iterator, validation=distribute(examples, strategy), steps=NUM_STEPS, epochs=epochs,
                callbacks=[losses],
            )  # fmt: skip
    about = {
        "layers": on_gpu._list_layers(model),
        "task": task,
        "weight_decay": config.weight_decay,
        "learning_rates": [float(losses.schedule(step)) for step in range(NUM_STEPS)],
    }
    after = _read_weights(on_gpu, trained)
    return {
        "about": np.array(json.dumps(about)),
        "images": pixels,
        "male": male,
        "truth": truth,
        "losses": np.array(losses.values),
        **{f"before/{name}": weight for name, weight in before.items()},
        **{f"after/{name}": weight for name, weight in after.items()},
    }


class _Losses(keras.callbacks.Callback):
    """Keep the loss of each step, and the schedule of the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []
        self.schedule: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.schedule = self.model.optimizer._learning_rate

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # The logs hold the mean over the steps of the epoch so far.
        self.values.append(logs["loss"] * (batch + 1) - sum(self.values))


def load_tool() -> Any:
    """Import `tools/on_gpu.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("on_gpu", FOLDER.parents[1] / "tools" / "on_gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_weights(on_gpu: Any, model: keras.Model) -> dict[str, np.ndarray]:
    # Copied: TensorFlow's arrays on a CPU may share their memory with the variable.
    return {f"{name}/{weight.name}": weight.numpy().copy() for name, weight in on_gpu._list_weights(model)}


def main() -> None:
    """Write the steps of both tasks."""
    for task in ("age", "sex"):
        np.savez_compressed(FOLDER / f"keras_steps_{task}.npz", allow_pickle=False, **compute_steps(task))


if __name__ == "__main__":
    main()
