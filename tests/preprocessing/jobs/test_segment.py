"""Segment alone: masks at the radiographs' own sizes, and a table that answers for every file."""

import itertools
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.hand import find_hand as module
from boneage.preprocessing.hand.landmarks import Landmarks
from boneage.preprocessing.hand.pose import find_pose, turn_between
from boneage.preprocessing.hand.segmenters import SEGMENTERS
from boneage.preprocessing.jobs.segment import SegmentationError, segment
from boneage.preprocessing.segmentation.segmentation import Segmentation
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data.mask_pairs import score_mask

DRAWN = {
    f"{side}{angle}": draw_radiograph(
        140, sex="female", seed=8, size_px=(320, 320), angle_degrees=float(angle), side=side
    )
    for side, angle in (("left", 0), ("left", 90), ("right", -30))
}


@pytest.fixture
def radiographs(tmp_path):
    folder = tmp_path / "radiographs"
    folder.mkdir()
    for name, drawn in DRAWN.items():
        cv2.imwrite(str(folder / f"{name}.png"), drawn.pixels)
    return folder


@pytest.fixture
def know_all(monkeypatch):
    """A segmenter that knows the drawings, turned by quarters too, and a landmark network that knows them."""

    def find(pixels):
        def likeness(which):
            name, quarters = which
            return np.corrcoef(pixels.ravel(), np.rot90(DRAWN[name].pixels, quarters).ravel())[0, 1]

        name, quarters = max(itertools.product(DRAWN, range(4)), key=likeness)
        return DRAWN[name], quarters

    def outline(pixels):
        drawn, quarters = find(pixels)
        return Segmentation(np.rot90(drawn.mask, quarters).copy(), 0.97)

    monkeypatch.setitem(SEGMENTERS, "know_all", outline)
    monkeypatch.setattr(module, "_landmarks", lambda: lambda pixels, mask: Landmarks(find(pixels)[0].landmarks, 0.04))
    return PreprocessingConfig(segmenter="know_all")


def test_every_radiograph_gets_its_mask_and_row(radiographs, know_all, tmp_path):
    out = tmp_path / "masks"
    frame = segment(radiographs, out=out, config=know_all, workers=1)
    for name, drawn in DRAWN.items():
        mask = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, drawn.mask * np.uint8(255))
        row = frame.set_index("file").loc[f"{name}.png"]
        assert row["angle_degrees"] == pytest.approx(drawn.angle_degrees, abs=1e-6)
        assert (row["side"], row["score"], row["accepted"], row["reasons"]) == (drawn.side, 0.97, True, "")
    written = pd.read_csv(out / "segments.csv", keep_default_na=False)
    assert list(written.columns[:6]) == ["file", "score", "angle_degrees", "side", "accepted", "reasons"]
    assert written["file"].tolist() == sorted(f"{name}.png" for name in DRAWN)


def test_files_that_cannot_be_read_are_listed_and_the_rest_goes_through(radiographs, know_all, tmp_path):
    (radiographs / "broken.png").write_bytes((radiographs / "left0.png").read_bytes()[:500])
    (radiographs / "note.txt").write_text("no radiograph")
    calls = []
    frame = segment(
        radiographs, out=tmp_path / "masks", config=know_all, workers=1, progress=lambda *counts: calls.append(counts)
    ).set_index("file")
    assert frame.loc["broken.png", "reasons"] == "damaged_image" and not frame.loc["broken.png", "accepted"]
    assert frame.loc["note.txt", "reasons"] == "not_an_image"
    assert frame["accepted"].sum() == len(DRAWN)
    assert not (tmp_path / "masks" / "broken.png").exists()
    assert calls[-1] == (4, 4)


def test_an_empty_mask_is_no_hand(radiographs, monkeypatch, tmp_path):
    for name in ("blind", "unet"):
        monkeypatch.setitem(SEGMENTERS, name, lambda pixels: Segmentation(np.zeros(pixels.shape, np.bool_), 0.0))
    frame = segment(radiographs, out=tmp_path / "masks", config=PreprocessingConfig(segmenter="blind"), workers=1)
    assert (
        set(frame["reasons"]) == {"no_hand;bad_mask"}
        and not frame["accepted"].any()
        and frame["angle_degrees"].isna().all()
    )
    assert not cv2.imread(str(tmp_path / "masks" / "left0.png"), cv2.IMREAD_UNCHANGED).any()


def test_a_place_that_cannot_be_written_is_named(radiographs, know_all, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SegmentationError, match="taken: Not a directory; choose another folder with --out"):
        segment(radiographs, out=tmp_path / "taken", config=know_all, workers=1)


def test_masks_never_go_among_the_radiographs(radiographs, know_all):
    before = {path.name: path.read_bytes() for path in radiographs.iterdir()}
    for inputs, out in (
        (radiographs, radiographs),
        (radiographs, radiographs / "masks"),
        ([radiographs / "left0.png"], radiographs),
    ):
        with pytest.raises(SegmentationError, match="is the folder of the radiographs or inside it"):
            segment(inputs, out=out, config=know_all, workers=1)
    assert {path.name: path.read_bytes() for path in radiographs.iterdir()} == before


def test_unknown_segmenter_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'unet'"):
        PreprocessingConfig(segmenter="u-net")
    with pytest.raises(ValueError, match="must not be 'none'"):
        segment(tmp_path / "nowhere", out=tmp_path, config=PreprocessingConfig(segmenter="none"))


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_a_killed_run_goes_on_where_it_was(radiographs, know_all, tmp_path, monkeypatch):
    out, seen = tmp_path / "masks", []
    plain = SEGMENTERS["know_all"]

    def count(pixels):
        seen.append(pixels.shape)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return plain(pixels)

    monkeypatch.setitem(SEGMENTERS, "know_all", count)
    with pytest.raises(KeyboardInterrupt):
        segment(radiographs, out=out, config=know_all, workers=1)
    assert len(seen) == 2 and not (out / "segments.csv").exists()
    with next(out.glob("*.jsonl")).open("a") as file:
        file.write('["half a li')
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
    ):  # again, once all is done but the table
        patch.setattr("boneage.preprocessing.jobs.segment.pd.DataFrame", interrupt)
        segment(radiographs, out=out, config=know_all, workers=1)
    frame = segment(radiographs, out=out, config=know_all, workers=1)
    assert len(seen) == 2 + len(DRAWN) - 1 + 1  # the hand that lies is looked at once more
    assert sorted(path.name for path in out.iterdir()) == sorted([*(f"{name}.png" for name in DRAWN), "segments.csv"])
    assert len(frame) == len(DRAWN) and frame["accepted"].all()


@pytest.mark.slow
def test_several_processes_write_the_same(radiographs, tmp_path):
    config = PreprocessingConfig()
    one = segment(radiographs, out=tmp_path / "one", config=config, workers=1)
    two = segment(radiographs, out=tmp_path / "two", config=config, workers=2)
    pd.testing.assert_frame_equal(one, two)
    for name in DRAWN:
        assert (tmp_path / "one" / f"{name}.png").read_bytes() == (tmp_path / "two" / f"{name}.png").read_bytes()


@pytest.mark.parametrize("segmenter", ["hand_sam", "unet"])
@pytest.mark.parametrize("name", DRAWN)
def test_the_shipped_networks_find_drawn_hands(name, segmenter):
    """They were trained on radiographs; a drawing of a hand is easier."""
    drawn = DRAWN[name]
    found = SEGMENTERS[segmenter](drawn.pixels)
    assert score_mask(found.mask, truth=drawn.mask)["dice"] > 0.9
    pose = find_pose(module._landmarks()(drawn.pixels, found.mask).points)
    assert abs(turn_between(pose.angle_degrees, drawn.angle_degrees)) < 8
    assert pose.side == drawn.side


def test_neither_tensorflow_nor_torch_is_needed(radiographs, tmp_path):
    code = (
        "import sys; from boneage.preprocessing.jobs.segment import segment; "
        f"segment({str(radiographs)!r}, out={str(tmp_path / 'masks')!r}, workers=1); "
        "assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(pd.read_csv(tmp_path / "masks" / "segments.csv")) == len(DRAWN)
