"""Labelled radiographs with known answers: of whole frames, 100 x mean grey, and 10 more for boys."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.cohorts.answers import Answers
from boneage.cohorts.labelled import Labelled
from boneage.preprocessing.sources.sources import Case

LABELS = """id,bone_age_months,sex,patient,Device
1,48,F,a,Agfa
2,60,M,a,Agfa
3,40,F,b,Canon
4,50,F,c,
5,50,F,d,Canon
7,50,F,e,Canon
"""


@pytest.fixture
def hospital(tmp_path, write_bundle):
    """A folder of half white frames (50 months, 60 for boys), one of them damaged, one without a row; their labels."""
    folder = tmp_path / "radiographs"
    folder.mkdir()
    for number in range(1, 7):
        pixels = np.zeros((20, 20), np.uint8)
        pixels[:, 10:] = 255
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    (tmp_path / "labels.csv").write_text(LABELS)
    write_bundle(tmp_path / "bundle")
    return tmp_path


@pytest.fixture
def make_cohort():
    """A function that makes labelled radiographs, and the answers of a system for them."""

    def make(labels, errors, *, columns=None, patients=None):
        cases = [
            Case(
                str(number),
                Path(f"{number}.png"),
                f"{number}.png",
                sex="female",
                bone_age_months=float(label),
                patient=patients[number] if patients else None,
                columns=tuple(values[number] for values in (columns or {}).values()),
            )
            for number, label in enumerate(labels)
        ]
        labelled = Labelled("cohort", cases, tuple(columns or ()), {})
        predicted = np.asarray(labels, float) + np.asarray(errors, float)
        frame = pd.DataFrame({"id": [case.id for case in cases], "predicted_months": predicted})
        frame["low_months"], frame["high_months"] = predicted - 5, predicted + 5
        frame["reasons"] = np.where(np.isnan(predicted), "no_hand;low_contrast", "")
        return labelled, Answers("system", frame, 0.9)

    return make
