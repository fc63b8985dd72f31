"""The demonstration: the complete workflow on synthetic radiographs."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from boneage.base.errors import BoneAgeError
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.training import TrainConfig
from boneage.evaluation.evaluate import evaluate_records
from boneage.inference.predict import predict
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset
from boneage.training.train import train

NUM_SYNTHETIC = 700
NUM_UNSEEN = 6
SIZE_PX = (200, 160)
EXPERIMENT = Experiment(
    "demo",
    TrainConfig(input_size=96, epochs=12, batch_size=16, learning_rate=2e-3, warmup_epochs=1.0),
    AugmentConfig(rotation_degrees=10.0),
)

T = TypeVar("T")


def demo(out: str | Path) -> None:
    """Generate synthetic radiographs, prepare them, train a small network, evaluate it and predict unseen ones.

    Args:
        out: Folder to create.

    Raises:
        BoneAgeError: If `out` already exists.
    """
    out = Path(out)
    if out.exists():
        raise BoneAgeError(f"{out}: already exists; remove it or choose another folder with --out.")
    console = Console()
    rows: list[tuple[str, str, str]] = []

    def step(title: str, path: Path, work: Callable[[], T], describe: Callable[[T], str]) -> T:
        console.rule(title)
        began = time.perf_counter()
        result = work()
        rows.append((title, f"{describe(result)}, {time.perf_counter() - began:.0f} s", str(path)))
        return result

    synthetic, unseen, records = out / "radiographs", out / "unseen", out / "records"
    step(
        "Generate synthetic radiographs",
        synthetic,
        lambda: write_dataset(synthetic, num_images=NUM_SYNTHETIC, seed=1, size_px=SIZE_PX),
        lambda _: f"{NUM_SYNTHETIC} radiographs",
    )
    prepared = step(
        "Prepare records",
        records,
        functools.partial(
            prepare, synthetic, out=records, split="random", config=PreprocessingConfig(image_size_px=160)
        ),
        lambda made: ", ".join(f"{split['num_records']} {name}" for name, split in made.info["splits"].items()),
    )
    run = step(
        "Train a network",
        out / "run",
        functools.partial(
            train,
            EXPERIMENT,
            data=prepared.folder,
            run=out / "run",
            tracking_uri=f"sqlite:///{out / 'mlruns' / 'mlflow.db'}",
        ),
        lambda made: f"{len(made.history)} epochs",
    )
    step(
        "Evaluate on the test split",
        out / "evaluation",
        functools.partial(evaluate_records, run.bundle, data=prepared.folder, split="test", out=out / "evaluation"),
        lambda found: f"{found.headline} on synthetic data",
    )
    write_dataset(unseen, num_images=NUM_UNSEEN, seed=2, size_px=SIZE_PX)
    step(
        "Predict unseen radiographs",
        out / "predictions.csv",
        functools.partial(
            predict,
            unseen / "boneage-training-dataset",
            bundle=run.bundle,
            table=unseen / "boneage-training-dataset.csv",
            out=out / "predictions.csv",
        ),
        lambda frame: f"{int(frame['accepted'].sum())} of {len(frame)} predicted",
    )
    table = Table("Step", "Result", "Path", title="Results (synthetic data: no clinical meaning)")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"Figures: {out / 'evaluation' / 'evaluation.png'}, {out / 'run' / 'history.png'}")
    console.print(f"Runs in MLflow: boneage ui --tracking-uri sqlite:///{out / 'mlruns' / 'mlflow.db'}")
    console.print(
        "Next: the documentation shows the same steps on the RSNA radiographs and on a hospital's DICOM files."
    )
