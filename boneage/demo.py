"""The demonstration: the whole path on drawn radiographs, from nothing to a prediction."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from boneage.config import AugmentConfig, Experiment, TrainConfig
from boneage.evaluation import evaluate
from boneage.prediction import predict
from boneage.training import train
from preprocessing.pipeline import PreprocessingConfig
from preprocessing.prepare import prepare
from preprocessing.synthetic import write_dataset
from tfrecords.errors import BoneAgeError

NUM_DRAWN = 700
NUM_UNSEEN = 6
SIZE_PX = (200, 160)
EXPERIMENT = Experiment(
    "demo",
    TrainConfig(input_size=96, epochs=12, batch_size=16, learning_rate=2e-3, warmup_epochs=1.0),
    AugmentConfig(rotation_degrees=10.0),
)

T = TypeVar("T")


def demo(out: str | Path) -> None:
    """Draw synthetic radiographs, prepare them, train a small network, evaluate it and predict new drawings.

    Args:
        out: Folder to make.

    Raises:
        BoneAgeError: If `out` is already there.
    """
    out = Path(out)
    if out.exists():
        raise BoneAgeError(f"{out}: already there; remove it or choose another folder by --out.")
    console = Console()
    rows: list[tuple[str, str, str]] = []

    def step(title: str, path: Path, work: Callable[[], T], tell: Callable[[T], str]) -> T:
        console.rule(title)
        began = time.perf_counter()
        result = work()
        rows.append((title, f"{tell(result)}, {time.perf_counter() - began:.0f} s", str(path)))
        return result

    drawn, unseen, records = out / "radiographs", out / "unseen", out / "records"
    step(
        "Draw synthetic radiographs",
        drawn,
        lambda: write_dataset(drawn, num_images=NUM_DRAWN, seed=1, size_px=SIZE_PX),
        lambda _: f"{NUM_DRAWN} radiographs",
    )
    prepared = step(
        "Prepare records",
        records,
        functools.partial(prepare, drawn, out=records, split="random", config=PreprocessingConfig(image_size_px=160)),
        lambda made: ", ".join(f"{each['num_records']} {name}" for name, each in made.info["splits"].items()),
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
        functools.partial(evaluate, run.bundle, data=prepared.folder, split="test", out=out / "evaluation"),
        lambda found: f"{found.headline} on synthetic data",
    )
    write_dataset(unseen, num_images=NUM_UNSEEN, seed=2, size_px=SIZE_PX)
    step(
        "Predict new drawings",
        out / "predictions.csv",
        functools.partial(
            predict,
            unseen / "boneage-training-dataset",
            bundle=run.bundle,
            table=unseen / "boneage-training-dataset.csv",
            out=out / "predictions.csv",
        ),
        lambda frame: f"{int(frame['accepted'].sum())} of {len(frame)} answered",
    )
    table = Table("Step", "Result", "Where to look", title="What was made (synthetic data: no clinical meaning)")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"Pictures: {out / 'evaluation' / 'evaluation.png'}, {out / 'run' / 'history.png'}")
    console.print(f"Runs in MLflow: boneage ui --tracking-uri sqlite:///{out / 'mlruns' / 'mlflow.db'}")
    console.print("Next: the README shows the same steps on the RSNA radiographs and on a hospital's DICOM files.")
