"""Peak memory of a recipe: its training with evaluation and export, its evaluation alone, and a plain Keras `fit`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import COMMAND_LINE, Row, rounded, run_python

from boneage.configuration.experiment import load_experiment
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset

# The same network and batch, in float32 and without augmentation.
_PLAIN = """
import sys
import numpy as np
from boneage.configuration.experiment import load_experiment
from boneage.training.schedule import build_for_training
config = load_experiment(sys.argv[1], overrides=(*sys.argv[3:], "precision=float32")).train
model = build_for_training(config, mean_months=127.0, std_months=41.0)
model.compile("adam", loss="mean_absolute_error", jit_compile=False)
number, size = int(sys.argv[2]), config.input_size
inputs = {"image": np.zeros((number, size, size, 1), np.float32), "male": np.zeros((number, 1), np.float32)}
model.fit(inputs, np.full((number, 1), 120.0, np.float32), batch_size=config.batch_size, verbose=0)
"""


def memory(
    *,
    recipe: str = "rsna_16bit",
    overrides: Sequence[str] = (),
    num_images: int = 64,
    seed: int = 0,
) -> list[Row]:
    """Peak memory of a recipe on drawn radiographs: of each command, and of a plain Keras `fit`, each a fresh process.

    One epoch from random weights. The memory is the largest sum over the process tree, looked at 20 times a second.

    Args:
        recipe: Name of the recipe.
        overrides: Settings of it to change.
        num_images: Drawn radiographs: a few batches, since more need no more memory.
        seed: Seed of the drawings and of the split.

    Raises:
        BenchmarkError: If a process fails.
    """
    changed = ("init=none", "epochs=1", *overrides)
    config = load_experiment(recipe, overrides=changed).train
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "drawn", num_images=num_images, seed=seed)
        prepared = PreprocessingConfig(segmenter="none", image_size_px=config.input_size)
        data = prepare(folder / "drawn", out=folder / "records", config=prepared, split="random", workers=1).folder

        def train(parts: int) -> tuple[str, ...]:
            settings = [word for setting in (*changed, f"accumulate_steps={parts}") for word in ("--set", setting)]
            paths = ("--data", str(data), "--run", str(folder / f"run-{parts}"))
            return (*COMMAND_LINE, "train", recipe, *paths, "--tracking-uri", "none", *settings)

        commands: dict[str, tuple[str, ...]] = {
            "plain Keras `fit`": ("-c", _PLAIN, recipe, str(num_images), *changed),
            "training, with evaluation and export": train(1),
            "the same, each batch in two parts": train(2),
            "evaluation": (*COMMAND_LINE, "evaluate", str(folder / "run-1" / "bundle"), "--data", str(data)),
        }
        peaks_mib: list[float] = []
        for command in commands.values():
            run_python(command, peaks_mib=peaks_mib)
    return [
        {
            "what": what,
            "network": config.network,
            "input_size_px": config.input_size,
            "batch_size": config.batch_size,
            "peak_gib": rounded(peak / 1024),
        }
        for what, peak in zip(commands, peaks_mib, strict=True)
    ]
