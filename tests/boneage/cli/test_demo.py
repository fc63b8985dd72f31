import dataclasses

import pytest

from boneage.base.errors import BoneAgeError
from boneage.cli import demo


@pytest.mark.slow
def test_goes_from_nothing_to_predictions_and_tells_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")  # keeps each cell of the closing table on one line
    quick = dataclasses.replace(demo.EXPERIMENT.train, input_size=32, epochs=2, batch_size=8)
    monkeypatch.setattr(demo, "NUM_SYNTHETIC", 40)
    monkeypatch.setattr(demo, "SIZE_PX", (80, 64))
    monkeypatch.setattr(demo, "EXPERIMENT", dataclasses.replace(demo.EXPERIMENT, train=quick))
    demo.demo(tmp_path / "demo")
    told = capsys.readouterr().out
    assert "months on synthetic data" in told
    for path in ("records/dataset_info.json", "run/bundle/model.keras", "evaluation/evaluation.png", "predictions.csv"):
        assert (tmp_path / "demo" / path).exists()
    rows = (tmp_path / "demo" / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + demo.NUM_UNSEEN


def test_refuses_to_write_over_what_is_there(tmp_path):
    with pytest.raises(BoneAgeError, match="already exists"):
        demo.demo(tmp_path)
