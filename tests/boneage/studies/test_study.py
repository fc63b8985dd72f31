"""A study from start to end, by the command lines of the documentation, on drawings."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from boneage.cli.main import app
from boneage.preprocessing.synthetic import write_dataset

PAGE = Path(__file__).parents[3] / "docs" / "studies.md"
READERS = {"Ada": (0.0, 7.0), "Ben": (4.0, 8.0), "Cleo": (-3.0, 6.0)}
# The recipe of the page takes an hour; this goes on with the included model for a minute.
SMALL = ["epochs=1", "warmup_epochs=0", "batch_size=8", "init=default", "learning_rate=1e-6"]


def draw(folder, *, num_images, seed):
    """Draw radiographs, and the readings of three simulated readers; returns the true bone ages by id."""
    write_dataset(folder / "drawn", num_images=num_images, seed=seed, size_px=(200, 160))
    (folder / "drawn" / "boneage-training-dataset").rename(folder / "images")
    labels = pd.read_csv(folder / "drawn" / "boneage-training-dataset.csv")
    rng = np.random.default_rng(seed)
    readings = [
        labels.assign(reader=name, months=(labels["boneage"] + rng.normal(bias, error, num_images)).clip(1, 230))
        for name, (bias, error) in READERS.items()
    ]
    table = pd.concat(readings).assign(sex=lambda frame: np.where(frame["male"], "M", "F"))
    return table[["id", "reader", "months", "sex"]]


@pytest.mark.slow
def test_a_study_from_start_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, prefix, num_images, seed in (("radiographs", "", 60, 1), ("new-radiographs", "new-", 12, 2)):
        (tmp_path / f"{prefix}work").mkdir()
        readings = draw(tmp_path / f"{prefix}work", num_images=num_images, seed=seed)
        (tmp_path / f"{prefix}work" / "images").rename(tmp_path / name)
        readings.to_csv(f"{prefix}readings.csv", index=False)
        readings[["id", "sex"]].drop_duplicates().to_csv(f"{prefix}sexes.csv", index=False)
    section = PAGE.read_text(encoding="utf-8").partition("### A study from start to end")[2]
    lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            words += ["--tracking-uri", "none", *(word for setting in SMALL for word in ("--set", setting))]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (line, result.output)
    described = json.loads(Path("records/dataset_info.json").read_text())["splits"]["train"]
    assert described["mean_label_weight"] > 2
    assert json.loads(Path("run/bundle/metadata.json").read_text())["experiment"]["train"]["label_weights"] == "readers"
    found = json.loads(Path("comparison/agreement.json").read_text())
    assert found["readers"] == [*READERS, "model"]
    assert found["model"]["num_radiographs"] + found["model"]["num_refused"] == 12
    assert found["against_others"]["Ben"]["bias"]["value"] > found["against_others"]["Cleo"]["bias"]["value"]
