import json

import pandas as pd
import pytest

from boneage.bundles.bundle import load_bundle
from boneage.cohorts.evaluate import evaluate
from boneage.cohorts.labelled import CohortError
from boneage.cohorts.records import measure_records
from boneage.tfrecords.identities import read_identities


@pytest.fixture
def bundle(prepared, write_bundle, tmp_path):
    return write_bundle(
        tmp_path / "bundle", fingerprint=prepared.info["fingerprint"], preprocessing=prepared.info["preprocessing"]
    )


def test_evaluate_of_records_by_a_column_of_a_table(bundle, prepared, tmp_path):
    ids = list(read_identities(prepared.folder, split="train")["id"])
    devices = {id: "Agfa" if number % 2 else "Canon" for number, id in enumerate(ids[1:])}
    rows = [f"{id},{device},1\n" for id, device in devices.items()]
    (tmp_path / "devices.csv").write_text("".join(["id,device,room\n", *rows, "elsewhere,Fuji,2\n"]))
    cohort = evaluate(
        tmp_path / "bundle",
        data=prepared.folder,
        split="train",
        table=tmp_path / "devices.csv",
        by=("device", "sex"),
        out=tmp_path / "out",
        num_resamples=20,
    )
    numbers = {level: group.num_images for level, group in cohort.by["device"].items()}
    assert numbers == {"Agfa": 15, "Canon": 16, "(blank)": 1}
    assert sum(group.num_images for group in cohort.by["sex"].values()) == 32
    assert cohort.overall.answered == cohort.evaluation.overall
    frame = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"id": str}).set_index("id")
    for id, device in devices.items():
        assert frame.loc[id, "device"] == device
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["overall"]["num_images"] == 32


@pytest.mark.parametrize("without", [{"interval": None}, {}], ids=["without intervals", "with intervals"])
def test_measure_records_keeps_the_order_of_the_records(without, prepared, write_bundle, tmp_path):
    known = {"fingerprint": prepared.info["fingerprint"], "preprocessing": prepared.info["preprocessing"]}
    bundle = write_bundle(tmp_path / "bundle", **known, **without)
    ids = load_bundle(bundle).predict_records(prepared.folder, split="train")["id"].tolist()
    (tmp_path / "devices.csv").write_text("".join(["id,device\n", *(f"{id},Agfa\n" for id in ids)]))
    _, frame = measure_records(
        bundle,
        data=prepared.folder,
        split="train",
        table=tmp_path / "devices.csv",
        by=["device"],
        tta=None,
        num_resamples=5,
        seed=0,
    )
    assert frame["id"].tolist() == ids != sorted(ids)
    assert ("low_months" in frame) == (not without)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,device\nelsewhere,Agfa\n", "no row is of a record of"),
        ("{0},Agfa\n{0},Fuji\n", "has another row with other"),
    ],
)
def test_evaluate_of_records_says_what_is_wrong_with_the_table(text, told, bundle, prepared, tmp_path):
    id = next(iter(read_identities(prepared.folder, split="train")["id"]))
    text = text if text.startswith("id") else "id,device\n" + text.format(id)
    (tmp_path / "devices.csv").write_text(text)
    with pytest.raises(CohortError, match=told):
        evaluate(
            tmp_path / "bundle", data=prepared.folder, split="train", table=tmp_path / "devices.csv", by=("device",)
        )
