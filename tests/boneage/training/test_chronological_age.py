"""Networks that are given the chronological age: trained on drawings whose ages are simulated."""

import csv
import dataclasses
import re
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import boneage
from boneage.bundles.bundle import BundleError, load_bundle
from boneage.bundles.export import export
from boneage.bundles.join import ensemble
from boneage.cohorts.evaluate import evaluate
from boneage.configuration.augmentation import AugmentConfig
from boneage.configuration.experiment import Experiment
from boneage.configuration.networks import register_backbone
from boneage.configuration.training import TrainConfig
from boneage.evaluation.calibrate import calibrate
from boneage.evaluation.tables import list_remarks
from boneage.inference.loading import load
from boneage.inference.occlusion import measure_occlusion
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset
from boneage.tfrecords.identities import read_identities
from boneage.tfrecords.info import RecordsError
from boneage.tracking.card import write_card
from boneage.tracking.pyfunc import BoneAgeModel
from boneage.training.chronological_age import DROPPED_SHARE, read_target, to_age_inputs
from boneage.training.train import train

SD_MONTHS = 8.0


def tiny(image):
    return keras.layers.Conv2D(8, 5, strides=4, activation="relu", name="conv")(image)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory) -> Path:
    """160 drawings with ages near the bone age, but for each eighth, whose age is not known."""
    folder = tmp_path_factory.mktemp("drawings")
    write_dataset(folder, num_images=160, seed=3, size_px=(80, 64))
    rng = np.random.default_rng(0)
    with (folder / "boneage-training-dataset.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        age = max(1.0, float(row["boneage"]) + rng.normal(0, SD_MONTHS))
        row["chronological_age_months"] = "" if number % 8 == 0 else f"{age:.1f}"
    with (folder / "boneage-training-dataset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_records(drawings, out, *, are_known):
    table = pd.read_csv(drawings / "boneage-training-dataset.csv")
    table["split"] = ["validation" if number < 60 else "train" for number in range(len(table))]
    if are_known:
        table = table[table["chronological_age_months"].notna()]
    out.mkdir()
    table.drop(columns="split").to_csv(out / "table.csv", index=False)
    table[["id", "split"]].to_csv(out / "split.csv", index=False)
    config = PreprocessingConfig(segmenter="none", image_size_px=32)
    return prepare(
        drawings,
        out=out / "records",
        table=out / "table.csv",
        split=str(out / "split.csv"),
        config=config,
        workers=1,
    ).folder


@pytest.fixture(scope="module")
def records(drawings, tmp_path_factory):
    return write_records(drawings, tmp_path_factory.mktemp("some") / "known", are_known=False)


@pytest.fixture(scope="module")
def records_of_known(drawings, tmp_path_factory):
    return write_records(drawings, tmp_path_factory.mktemp("all") / "known", are_known=True)


@pytest.fixture(scope="module")
def bundles(records, records_of_known, tmp_path_factory):
    """A bundle for each use of the age, trained alike."""
    register_backbone("tiny_of_age", tiny)
    config = TrainConfig(
        network="tiny_of_age",
        init="none",
        input_size=32,
        epochs=12,
        batch_size=20,
        learning_rate=0.01,
        head_units=(32,),
        warmup_epochs=1.0,
        seed=5,
    )
    folder = tmp_path_factory.mktemp("runs")
    return {
        use: train(
            Experiment(use, dataclasses.replace(config, chronological_age=use), AugmentConfig()),
            data=records_of_known if use == "relative" else records,
            run=folder / use,
            tracking_uri="none",
        ).bundle
        for use in ("none", "input", "relative")
    }


def error_of(bundle, records, **options):
    frame = load_bundle(bundle).predict_records(records, split="validation", **options)
    assert np.isfinite(frame["predicted_months"]).all()
    return float((frame["predicted_months"] - frame["bone_age_months"]).abs().mean())


@pytest.mark.slow
def test_train_with_the_age_errs_less(bundles, records_of_known):
    without, with_age, relative = (error_of(bundles[use], records_of_known) for use in ("none", "input", "relative"))
    assert with_age < 0.75 * without and relative < 0.75 * without


@pytest.mark.slow
def test_train_with_the_age_as_input_answers_without_it(bundles, records_of_known):
    with_age, left_out = (error_of(bundles["input"], records_of_known, with_age=is_known) for is_known in (True, False))
    assert with_age < left_out < 60


@pytest.mark.slow
def test_train_writes_an_interval_for_answers_without_the_age(bundles):
    metadata = load_bundle(bundles["input"]).metadata
    assert metadata["chronological_age"] == "input" and metadata["interval"] != metadata["interval_without_age"]
    assert "interval_without_age" not in load_bundle(bundles["relative"]).metadata


@pytest.mark.slow
def test_train_relative_learns_the_difference(bundles, records_of_known):
    config = TrainConfig(chronological_age="relative")
    identities = read_identities(records_of_known, split="train")
    differences = identities["bone_age_months"] - identities["chronological_age_months"]
    target = read_target(records_of_known, config)
    assert target == pytest.approx({"mean_months": differences.mean(), "std_months": differences.std(ddof=0)})
    assert load_bundle(bundles["relative"]).metadata["target"] == pytest.approx(target, abs=1e-4)
    assert 5 < target["std_months"] < 12


def test_read_target_refuses_records_without_the_ages(records, prepared):
    with pytest.raises(RecordsError, match=r"records of the split 'train' have no chronological age, which .*relative"):
        read_target(records, TrainConfig(chronological_age="relative"))
    with pytest.raises(RecordsError, match="no record of the split 'train' has a chronological age; prepare"):
        read_target(prepared.folder, TrainConfig(chronological_age="input"))


def test_to_age_inputs_leaves_out_a_share_in_training():
    config, ages = TrainConfig(chronological_age="input"), tf.constant([[120.0]] * 4000 + [[np.nan]] * 10)
    drawn = tf.random.stateless_uniform((4010, 1), (1, 2))
    one = to_age_inputs(ages, config, drawn)
    known = one["age_is_known"].numpy()[:, 0]
    assert np.mean(known[:4000]) == pytest.approx(1 - DROPPED_SHARE, abs=0.03) and not known[4000:].any()
    np.testing.assert_array_equal(one["chronological_age_months"][:, 0], np.where(known, 120.0, 0.0))
    assert to_age_inputs(ages, config)["age_is_known"].numpy().sum() == 4000
    assert to_age_inputs(ages, TrainConfig()) == {}


@pytest.mark.slow
def test_predict_with_and_without_the_age(bundles, drawings):
    path, reader = next(iter(sorted(drawings.rglob("*.png")))), load(bundles["input"])
    young, old = (reader.predict(path, sex="male", chronological_age_months=months) for months in (60, 180))
    unknown = reader.predict(path, sex="male")
    assert young.bone_age_months + 20 < old.bone_age_months
    assert (young.network_age_months, unknown.network_age_months) == (60, None)
    assert np.isfinite(unknown.bone_age_months) and unknown.warnings == ("answered_without_age",)
    assert dict(young.statements)["Age in the model"] == "used by the model: it pulls the bone age towards normal"
    assert dict(unknown.statements)["Age in the model"] == "used by the model, but not known: it answered without"
    assert "answered_without_age" not in young.warnings
    plain = load(bundles["none"]).predict(path, sex="male", chronological_age_months=60)
    assert plain.network_age_months is None and "Age in the model" not in dict(plain.statements)


@pytest.mark.slow
@pytest.mark.parametrize("age", [None, -1.0, 241.0, float("nan")])
def test_predict_relative_refuses_without_the_age(bundles, drawings, age):
    path = next(iter(sorted(drawings.rglob("*.png"))))
    reading = load(bundles["relative"]).predict(path, sex="male", chronological_age_months=age)
    assert reading.reasons == ("age_missing",)
    assert reading.detail.endswith("give it, or use a model that needs none.")


@pytest.mark.slow
def test_predict_uses_no_age_of_a_doubtful_unit(bundles, drawings, tmp_path):
    path = next(iter(sorted(drawings.rglob("*.png"))))
    for heading, is_used in (("age_months", True), ("age", False)):
        (tmp_path / "table.csv").write_text(f"id,sex,{heading}\n{path.stem},male,60\n")
        row = boneage.predict(path, bundle=bundles["input"], table=tmp_path / "table.csv").iloc[0]
        assert ("answered_without_age" not in row["warnings"]) == is_used


@pytest.mark.slow
def test_predict_batch_of_a_relative_network_needs_every_age(bundles):
    bundle = load_bundle(bundles["relative"])
    images, male = np.zeros((2, 32, 32, 1), np.uint8), np.ones((2, 1), np.float32)
    with pytest.raises(BundleError, match="which 1 of 2 radiographs lack; give it"):
        bundle.predict_batch(images, male, ages_months=np.float32([[100], [np.nan]]))
    low, high = bundle.predict_batch(images, male, ages_months=np.float32([[100], [160]]))
    assert low + 30 < high


@pytest.mark.slow
def test_load_bundle_refuses_a_network_with_other_inputs_than_it_says(bundles, write_bundle, tmp_path):
    folder = write_bundle(tmp_path / "bundle", chronological_age="relative")
    with pytest.raises(BundleError, match="and `chronological_age_months`; it has image, male"):
        load_bundle(folder)


@pytest.mark.slow
def test_evaluate_shows_the_delayed_and_the_advanced_apart(bundles, records, tmp_path):
    evaluation = evaluate(bundles["input"], data=records, out=tmp_path / "out", num_resamples=50)
    counts = {name: group.num_images for name, group in evaluation.by_determination.items()}
    known = read_identities(records, split="validation")["chronological_age_months"].notna().sum()
    assert counts["normal"] > 20 and sum(counts.values()) <= known
    assert evaluation.num_without_age == 60 - known > 0
    remarks = "\n".join(list_remarks(evaluation))
    assert f"{60 - known} of 60 were answered without the chronological age" in remarks and "delayed, normal" in remarks
    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert {"chronological_age_months", "determination", "without_age"} <= set(written.columns)


@pytest.mark.slow
def test_evaluate_files_gives_the_network_the_ages(bundles, drawings):
    tables = {"files": drawings, "table": drawings / "boneage-training-dataset.csv"}
    cohort = evaluate(bundles["input"], **tables, num_resamples=50)
    assert cohort.evaluation.num_without_age == 20 and cohort.evaluation.by_determination["normal"].num_images > 50
    refused = evaluate(bundles["relative"], **tables, num_resamples=50).overall
    assert refused.reasons == {"age_missing": 20}


@pytest.mark.slow
def test_ensemble_needs_one_use_of_the_age(bundles, tmp_path):
    with pytest.raises(BundleError, match=r"`chronological_age` is 'none', that of .* is 'input'"):
        ensemble([bundles["input"], bundles["none"]], out=tmp_path / "both")
    joined = load_bundle(ensemble([bundles["relative"]] * 2, out=tmp_path / "joined"))
    images, male, ages = np.zeros((1, 32, 32, 1), np.uint8), np.ones((1, 1), np.float32), np.float32([[100]])
    alone = load_bundle(bundles["relative"]).predict_batch(images, male, ages_months=ages)
    np.testing.assert_allclose(joined.predict_batch(images, male, ages_months=ages), alone, atol=1e-4)


@pytest.mark.slow
def test_calibrate_sets_the_interval_of_answers_without_the_age_too(bundles, records, tmp_path):
    # Another digest of the same radiographs is still seen, so that the check is left out.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boneage.evaluation.calibrate._require_unseen", lambda *_, **__: None)
        made = calibrate(bundles["input"], data=records, split="validation", out=tmp_path / "out", force=True)
    metadata = load_bundle(made.bundle).metadata
    widths = [
        np.diff(metadata[name]["offsets_months"]["female"]["5-10"])[0] for name in ("interval", "interval_without_age")
    ]
    assert 0 < widths[0] < widths[1]


@pytest.mark.slow
@pytest.mark.parametrize(("use", "format"), [("input", "saved_model"), ("relative", "tflite")])
def test_export_keeps_the_age(bundles, tmp_path, use, format):
    assert export(bundles[use], out=tmp_path / f"exported.{format}", format=format) < 0.1


@pytest.mark.slow
def test_mlflow_model_is_given_the_age(bundles, drawings):
    path = str(next(iter(sorted(drawings.rglob("*.png")))))
    table = pd.DataFrame({"image": [path] * 3, "sex": ["male"] * 3, "chronological_age_months": [60.0, 180.0, None]})
    young, old, unknown = BoneAgeModel(load(bundles["input"])).predict(table).to_dict("records")
    assert young["bone_age_months"] + 20 < old["bone_age_months"]
    assert (young["warnings"], unknown["warnings"]) == ("", "answered_without_age")


@pytest.mark.slow
def test_server_is_given_the_age(serve, bundles, drawings):
    client, path = serve(load(bundles["input"])), next(iter(sorted(drawings.rglob("*.png"))))
    answers = [
        client.post(
            "/api/v1/predict",
            files=[("files", (path.name, path.read_bytes()))],
            data={"sex": "male", **({"chronological_age_months": age} if age else {})},
        ).json()[0]
        for age in ("60", "180", None)
    ]
    assert answers[0]["bone_age_months"] + 20 < answers[1]["bone_age_months"]
    assert ["answered_without_age" in answer["warnings"] for answer in answers] == [False, False, True]


@pytest.mark.slow
def test_server_draws_the_occlusion_map_of_a_relative_network(serve, bundles, drawings, upload):
    client, path = serve(load(bundles["relative"])), next(iter(sorted(drawings.rglob("*.png"))))
    page = upload(client, [(path.name, path.read_bytes())], sex="male", age_years="10")
    drawn = client.get(re.search(r'src="([^"]+/occlusion.png)"', page)[1])
    assert drawn.content.startswith(b"\x89PNG")


@pytest.mark.slow
def test_occlusion_map_of_a_relative_network(bundles):
    crop = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
    changes = measure_occlusion(load_bundle(bundles["relative"]), crop, male=1.0, age_months=120.0)
    assert changes.shape == (32, 32) and changes.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use", "told"), [("input", "Without the age it answers too"), ("relative", "Without the age it refuses")]
)
def test_card_says_that_the_age_pulls_towards_normal(bundles, use, told):
    card = write_card(load_bundle(bundles[use]).metadata, name="hf://some/net", licence="mit")
    assert "pulls the answer towards normal" in card and told in card
    assert "towards normal" not in write_card(
        load_bundle(bundles["none"]).metadata, name="hf://some/net", licence="mit"
    )
