from pathlib import Path

import pytest

from preprocessing.pipeline import PreprocessingConfig
from preprocessing.prepare import Preparation, prepare
from preprocessing.synthetic import write_dataset


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """A folder of 40 drawn radiographs, laid out like the RSNA download."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, num_images=40, seed=3, size_px=(80, 64))
    return folder


@pytest.fixture(scope="session")
def prepared(drawn, tmp_path_factory) -> Preparation:
    """Records of the drawn radiographs: 32 to train on, 4 each to validate and to test."""
    out = tmp_path_factory.mktemp("prepared") / "records"
    return prepare(
        drawn, out=out, split="random", config=PreprocessingConfig(segmenter="none", image_size_px=32), workers=1
    )
