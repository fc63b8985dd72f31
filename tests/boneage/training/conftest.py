"""Records whose validation split has as many radiographs as a test needs."""

import pytest

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.synthetic import write_dataset


@pytest.fixture(scope="session")
def divided_records(tmp_path_factory):
    """A function that prepares 60 drawn radiographs, some of them for validation."""
    source = tmp_path_factory.mktemp("drawn")
    write_dataset(source, num_images=60, seed=3, size_px=(80, 64))
    ids = sorted(path.stem for path in source.rglob("*.png"))

    def make(num_validation):
        split = source.parent / f"split-{num_validation}.csv"
        rows = [f"{id},{'validation' if number < num_validation else 'train'}" for number, id in enumerate(ids)]
        split.write_text("\n".join(["id,split", *rows]))
        out = source.parent / f"records-{num_validation}"
        config = PreprocessingConfig(segmenter="none", image_size_px=32)
        return prepare(source, out=out, split=str(split), config=config, workers=1)

    return make
