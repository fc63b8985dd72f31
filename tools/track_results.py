"""Import the recorded results into MLflow, as runs for `boneage best` and the MLflow UI.

    python tools/track_results.py --tracking-uri sqlite:///mlruns/mlflow.db

Each run has the settings of its experiment file, the metrics of each epoch, and the evaluation of its bundle. Its start
time is that of the import, and it has neither commit nor model.
"""

import argparse
import json
import tempfile
from pathlib import Path

from boneage.configuration.experiment import load_experiment
from boneage.registry.settings import TRAINING_EXPERIMENT
from boneage.tracking.outbox import Outbox
from boneage.tracking.sync import sync
from boneage.tracking.tracker import list_params

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def main() -> None:
    """Import each result that has an experiment file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracking-uri", help="MLflow tracking URI, as in `boneage train`")
    options = parser.parse_args()
    for path in sorted(EXPERIMENTS.glob("results/*/history.json")):
        file = EXPERIMENTS / f"{path.parent.name}.toml"
        if file.exists():
            with tempfile.TemporaryDirectory() as folder:
                write_outbox(Path(folder), file, results=path.parent)
                sync([folder], tracking_uri=options.tracking_uri)


def write_outbox(folder: Path, file: Path, *, results: Path) -> None:
    """Write the recorded results of a run to an outbox."""
    config, outbox, run = load_experiment(file).train, Outbox(folder), f"recorded-{file.stem}"
    evaluation = json.loads((results / "evaluation.json").read_text(encoding="utf-8"))
    outbox.append("begin", run=run, experiment=TRAINING_EXPERIMENT, name=file.stem, parent=None, tags={})
    settings = list_params("train", config)
    outbox.append("params", run=run, params={**settings, "data.digest": evaluation["dataset"].rsplit(maxsplit=1)[-1]})
    for row in json.loads((results / "history.json").read_text(encoding="utf-8")):
        epoch = row.pop("epoch")
        outbox.append("metrics", run=run, metrics=row, step=epoch)
    error = (
        evaluation["overall"]["mae_months"]["value"] if config.task == "age" else 1 - evaluation["accuracy"]["value"]
    )
    outbox.append("metrics", run=run, metrics={f"best_val_{config.metric}": error}, step=None)
    outbox.append("end", run=run, status="FINISHED")


if __name__ == "__main__":
    main()
