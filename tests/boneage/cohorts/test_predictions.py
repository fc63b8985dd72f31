import json

import pytest

from boneage.cli.main import main
from boneage.cohorts.predictions import measure_predictions
from boneage.inference.predict import predict


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["boneage", "predict", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_measure_predictions_joins_by_id(hospital):
    inputs, table = hospital / "radiographs", hospital / "labels.csv"
    frame = predict(inputs, bundle=hospital / "bundle", table=table)
    group = measure_predictions(frame.iloc[::-1], inputs, table=table, num_resamples=10)
    assert (group.num_images, group.num_refused) == (5, 1)
    assert group.answered.mae_months.value == pytest.approx(3, abs=0.1)


def test_predict_command_prints_the_error_if_there_are_labels(hospital, monkeypatch, capsys):
    monkeypatch.chdir(hospital)
    words = ("radiographs", "--bundle", "bundle", "--table", "labels.csv", "--out", "predictions.csv")
    status, told = run(monkeypatch, capsys, *words)
    assert status == 0
    assert told.out.splitlines()[-1].startswith("answered 4 of 5 labelled radiographs, MAE 3.0")
    status, told = run(monkeypatch, capsys, *words, "--json")
    assert len(json.loads(told.out)) == 7
    assert told.err.startswith("answered 4 of 5 labelled radiographs, MAE 3.0")


def test_predict_command_without_labels_prints_what_it_did(hospital, monkeypatch, capsys):
    monkeypatch.chdir(hospital)
    (hospital / "labels.csv").write_text("id,sex\n1,F\n2,M\n")
    words = ("radiographs", "--bundle", "bundle", "--table", "labels.csv")
    status, told = run(monkeypatch, capsys, *words, "--json")
    assert status == 0
    assert isinstance(json.loads(told.out), list)
    status, told = run(monkeypatch, capsys, *words)
    assert "labelled" not in told.out
