"""An imported network is a bundle like any other, which has no interval until it is calibrated."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import boneage
from boneage.bundles.bundle import BundleError, read_metadata
from boneage.bundles.import_model import import_model
from boneage.bundles.save import load_network
from boneage.cli.main import app
from boneage.configuration.import_spec import ImportSpec, read_import_spec
from boneage.preprocessing.synthetic import draw_radiograph

PAGE = Path(__file__).parents[3] / "docs" / "importing.md"


@pytest.fixture(scope="module", params=["batch", 1], ids=["any-batch", "batch-of-one"])
def imported(request, tmp_path_factory, make_network, write_spec):
    """A bundle of whole frames of 32 pixels, as the records of `prepared` are."""
    folder = tmp_path_factory.mktemp("imported")
    model = make_network(folder / "theirs.onnx", batch=request.param)
    return import_model(model, spec=write_spec(folder / "spec.toml", model), out=folder / "bundle").bundle


def invoke(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_predict_says_that_there_is_no_interval(imported, drawn, tmp_path):
    radiograph = min(drawn.rglob("*.png"))
    told = invoke("predict", radiograph, "--bundle", imported, "--sex", "female", "--occlusion-maps", tmp_path / "maps")
    assert re.search(r"^\d+: \d+\.\d months \(\d+\.\d years\)\n", told)
    assert "no prediction interval with this model; `boneage calibrate` sets one" in told
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_predict_without_the_sex_answers_for_both(imported, drawn):
    radiograph = min(drawn.rglob("*.png"))
    row = boneage.predict(radiograph, bundle=imported).iloc[0]
    assert row["as_female_months"] != row["as_male_months"]
    assert np.isnan(row["low_months"])


def test_the_hand_stage_and_the_gate_stand_before_it(tmp_path, make_network, write_spec, write_hand):
    model = make_network(tmp_path / "theirs.onnx")
    spec = write_spec(tmp_path / "spec.toml", model, preprocessing={"segmenter": "hand_sam", "image_size_px": 256})
    bundle = import_model(model, spec=spec, out=tmp_path / "bundle").bundle
    options = {"bundle": bundle, "dicom": tmp_path / "dicom", "fhir": tmp_path / "fhir"}
    row = boneage.predict(write_hand(), **options).iloc[0]
    assert row["accepted"]
    assert len(row["reports"].split(";")) == 3
    observation = json.loads(next((tmp_path / "fhir").iterdir()).read_text(encoding="utf-8"))
    assert read_metadata(bundle)["fingerprint"] in json.dumps(observation)
    reading = boneage.load(bundle).predict(np.zeros((200, 160), np.uint8), sex="female")
    assert not reading.accepted
    assert reading.reasons


def test_evaluate_and_stress_take_it(imported, tmp_path):
    (tmp_path / "films").mkdir()
    for number in range(3):
        drawn = draw_radiograph(60 + 40 * number, sex="male", seed=number, size_px=(80, 64))
        Image.fromarray(drawn.pixels).save(tmp_path / "films" / f"{number}.png")
    table = tmp_path / "labels.csv"
    table.write_text("id,bone_age_months,sex\n0,60,male\n1,100,male\n2,140,male\n", encoding="utf-8")
    cohort = boneage.evaluate(imported, files=tmp_path / "films", table=table, workers=1)
    assert cohort.evaluation.overall.num_images == 3
    assert cohort.evaluation.coverage is None
    stressed = boneage.stress(
        imported, files=tmp_path / "films", table=table, out=tmp_path / "stressed", workers=1, num_resamples=10
    )
    assert sum(effect.num_paired for effect in stressed.effects.values()) > 100


def test_calibrate_sets_its_interval(imported, prepared, drawn, tmp_path):
    made = boneage.calibrate(imported, data=prepared.folder, out=tmp_path / "calibrated", force=True)
    assert made.interval is not None
    metadata = read_metadata(made.bundle)
    assert metadata["imported"] == read_metadata(imported)["imported"]
    assert metadata["seen_data"][0]["use"] == "calibration"
    radiograph = min(drawn.rglob("*.png"))
    row = boneage.predict(radiograph, bundle=made.bundle, sex="male").iloc[0]
    assert row["low_months"] < row["high_months"]


def test_the_page_reads_with_it(imported, serve, upload, drawn_hand):
    page = upload(serve(boneage.load(imported)), [("hand.png", drawn_hand)], sex="female")
    assert "none with this model" in page
    assert "bundle (theirs)" in page


def test_it_cannot_be_trained(imported):
    with pytest.raises(BundleError, match=r"contains no model\.keras, which training needs"):
        load_network(imported)


def test_import_prints_licence_and_answers(tmp_path, make_network, write_spec):
    model = make_network(tmp_path / "theirs.onnx")
    words = ["import", model, "--spec", write_spec(tmp_path / "spec.toml", model), "--out", tmp_path / "bundle"]
    told = invoke(*words)
    assert "theirs: licence CC-BY-4.0, from https://example.org/theirs\n" in told
    assert re.search(r"which is no radiograph: \d+\.\d months as female, \d+\.\d months as male\n", told)
    assert "no prediction interval: `boneage calibrate` sets one" in told
    made = json.loads(invoke(*words, "--json"))
    assert made["bundle"] == str(tmp_path / "bundle")
    assert made["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert set(made["tried_months"]) == {"female", "male"}


def test_import_needs_no_training_framework(tmp_path, make_network, write_spec):
    model = make_network(tmp_path / "theirs.onnx")
    spec = write_spec(tmp_path / "spec.toml", model)
    code = (
        f"import sys, boneage; boneage.import_model({str(model)!r}, spec={str(spec)!r}, "
        f"out={str(tmp_path / 'bundle')!r}); sys.exit(bool({{'tensorflow', 'keras', 'torch'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_of_the_documentation_has_a_valid_specification(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "spec.toml").write_text(example, encoding="utf-8")
    spec = read_import_spec(tmp_path / "spec.toml")
    assert spec.preprocessing.image_size_px == spec.image.size_px == tomllib.loads(example)["image"]["size_px"]
    table = text.partition("| Key |")[2].partition("\n\n")[0]
    explained = {name for row in table.splitlines()[2:] for name in re.findall(r"`\[?(\w+)\]?`", row.split("|")[1])}
    tables = [getattr(spec, name) for name in ("image", "sex", "output")]
    keys = {field.name for part in (ImportSpec, *tables) for field in dataclasses.fields(part)}
    assert explained == keys
