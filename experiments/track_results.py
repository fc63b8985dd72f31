"""Put the recorded results into MLflow, as runs that `boneage best` compares and MLflow draws.

    python experiments/track_results.py --tracking-uri sqlite:///mlruns/mlflow.db

Each has what was kept of it: the settings of its experiment file, the figures of each epoch, and the evaluation of its
bundle. It began when it was put there, and has neither commit nor model.
"""

import argparse
import json
import tempfile
from pathlib import Path

from boneage.config import load_experiment
from boneage.delivery import sync
from boneage.journal import Journal
from boneage.tracking import TRAINING_EXPERIMENT, list_params

HERE = Path(__file__).parent


def main() -> None:
    """Track each result that has an experiment file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracking-uri", help="MLflow's store, as in `boneage train`")
    options = parser.parse_args()
    for path in sorted(HERE.glob("results/*/history.json")):
        file = HERE / f"{path.parent.name}.toml"
        if file.exists():
            with tempfile.TemporaryDirectory() as folder:
                write_journal(Path(folder), file, results=path.parent)
                sync([folder], tracking_uri=options.tracking_uri)


def write_journal(folder: Path, file: Path, *, results: Path) -> None:
    """Write what is known of a run into a journal."""
    config, journal, run = load_experiment(file).train, Journal(folder), f"recorded-{file.stem}"
    evaluation = json.loads((results / "evaluation.json").read_text(encoding="utf-8"))
    journal.append("begin", run=run, experiment=TRAINING_EXPERIMENT, name=file.stem, parent=None, tags={})
    settings = list_params("train", config)
    journal.append("params", run=run, params={**settings, "data.digest": evaluation["dataset"].rsplit(maxsplit=1)[-1]})
    for row in json.loads((results / "history.json").read_text(encoding="utf-8")):
        epoch = row.pop("epoch")
        journal.append("metrics", run=run, metrics=row, step=epoch)
    error = (
        evaluation["overall"]["mae_months"]["value"] if config.task == "age" else 1 - evaluation["accuracy"]["value"]
    )
    journal.append("metrics", run=run, metrics={f"best_val_{config.measure}": error}, step=None)
    journal.append("end", run=run, status="FINISHED")


if __name__ == "__main__":
    main()
