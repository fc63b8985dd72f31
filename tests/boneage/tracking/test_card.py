"""The card of a published bundle."""

import pytest
import yaml

from boneage.bundles.bundle import CARD_FILE, DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE, read_metadata
from boneage.tracking.card import CARD_MARK, write_card

NAME = "hf://ward/bones"
MEASURED = {
    "task": "age",
    "network": "known",
    "input_size": 32,
    "use_sex": True,
    "fingerprint": "b9df168ef6968fd9",
    "sha256": {"model.onnx": "bf7b"},
    "validation_error": 7.25,
    "interval": {"measured_coverage_share": 0.9},
    "training_data": {"num_records": 10144, "source": "rsna"},
    "source": "https://example.org/somenet",
}


def read_front(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_write_card_from_metadata():
    card = write_card(MEASURED, name=NAME, licence="CC-BY-NC-4.0")
    front = read_front(card)
    assert (front["license"], front["library_name"]) == ("cc-by-nc-4.0", "boneage")
    assert {"bone-age", "radiograph", "onnx"} <= set(front["tags"])
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert index["name"] == "bones"
    assert result["dataset"] == {"name": "rsna", "type": "rsna", "split": "validation"}
    assert {measure["type"]: measure["value"] for measure in result["metrics"]} == {"mae": 7.25, "coverage": 0.9}
    assert "10,144 radiographs of `rsna`." in card
    assert "| Mean absolute error, months | 7.25 |" in card
    assert "- Weights: CC-BY-NC-4.0, from https://example.org/somenet." in card
    assert "**Not a medical device**" in card
    assert "boneage predict hand.png --sex female --bundle hf://ward/bones" in card


def test_write_card_of_little():
    little = {key: MEASURED[key] for key in ("task", "input_size", "use_sex", "fingerprint", "sha256")} | {
        "task": "sex"
    }
    card = write_card(little, name=NAME, licence="Our Terms, 2026")
    front = read_front(card)
    assert (front["license"], front["license_name"]) == ("other", "our-terms-2026")
    assert "model-index" not in front
    assert "Not recorded." in card
    assert "boneage predict hand.png --sex-bundle hf://ward/bones" in card


@pytest.mark.parametrize("folder", [DEFAULT_BUNDLE, DEFAULT_SEX_BUNDLE])
def test_write_card_keeps_the_card_of_the_bundle(folder):
    own = (folder / CARD_FILE).read_text(encoding="utf-8")
    card = write_card(read_metadata(folder), name=NAME, licence="LicenseRef-RSNA-research", own=own)
    assert read_front(card)["license_link"].endswith("/LICENSES/LicenseRef-RSNA-research.txt")
    assert own.splitlines()[0] in card
    assert "](../" not in card
    assert write_card(read_metadata(folder), name=NAME, licence="LicenseRef-RSNA-research", own=card) == card


def test_write_card_writes_its_own_anew():
    card = write_card(MEASURED, name=NAME, licence="MIT")
    assert CARD_MARK in card
    again = write_card({**MEASURED, "validation_error": 6.5}, name=NAME, licence="MIT", own=card)
    assert "| Mean absolute error, months | 6.50 |" in again
    assert "7.25" not in again
