"""The halves of the validation split: by patient, the same for every training, and one alone where it is small."""

import numpy as np
import pytest

from boneage.bundles.seen import find_overlap, hash_radiographs
from boneage.tfrecords.identities import read_identities
from boneage.training.validation import list_used_radiographs


def test_halves_choose_the_epoch_and_set_the_interval(divided_records):
    made = divided_records(42)
    used = list_used_radiographs(made.folder, task="age", init="none")
    assert (len(used.choosing), len(used.held_back)) == (21, 21)
    validation = read_identities(made.folder, split="validation").set_index("id")
    assert set(used.choosing) | set(used.held_back) == set(validation.index)
    assert not set(validation.loc[used.choosing, "group"]) & set(validation.loc[used.held_back, "group"])
    assert list_used_radiographs(made.folder, task="age", init="none").held_back == used.held_back
    assert [(entry["use"], entry["num_images"]) for entry in used.entries] == [
        ("training", 18),
        ("selection", 21),
        ("interval", 21),
    ]
    for use, num_images in (("training", 18), ("selection", 21), ("interval", 21)):
        assert len(used.hashes[use]) == num_images
    hashes = hash_radiographs(validation["pixel_sha256"])
    overlap = find_overlap({}, used.hashes, digest="another", split="validation", hashes=hashes)
    assert [(seen.use, seen.num_images) for seen in overlap] == [("selection", 21), ("interval", 21)]


@pytest.mark.parametrize(("num_validation", "task"), [(1, "age"), (30, "age"), (42, "sex")])
def test_a_half_of_too_few_patients_goes_to_the_other(divided_records, num_validation, task):
    used = list_used_radiographs(divided_records(num_validation).folder, task=task, init="none")
    assert (len(used.choosing), used.held_back) == (num_validation, [])
    assert "interval" not in used.hashes


def test_what_the_initial_bundle_has_seen_was_seen(divided_records, write_bundle, tmp_path):
    entries = [
        {"use": "training", "digest": "d1", "split": "train"},
        {"use": "selection", "digest": "d1", "split": "validation"},
        {"use": "interval", "digest": "d1", "split": "validation"},
    ]
    init = write_bundle(tmp_path / "init", seen_data=entries)
    used = list_used_radiographs(divided_records(1).folder, task="age", init=str(init))
    inherited = [(entry["use"], entry["split"]) for entry in used.entries if entry["digest"] == "d1"]
    assert inherited == [("training", "train"), ("training", "validation")]
    found = find_overlap(
        {"seen_data": used.entries}, used.hashes, digest="d1", split="validation", hashes=np.arange(3, dtype=np.uint64)
    )
    assert [(seen.use, seen.num_images) for seen in found] == [("training", 3)]
