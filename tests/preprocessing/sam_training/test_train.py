"""The command that trains hand-SAM: a network for each fold, and one for all."""

import dataclasses
import importlib.util
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="needs torch: run `make test-sam`")
if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("needs segment-anything: run `make test-sam`", allow_module_level=True)

from boneage.base.errors import BoneAgeError
from boneage.cli.main import main
from boneage.preprocessing.sam_training.schedule import HandSamConfig, HandSamSchedule
from boneage.preprocessing.sam_training.train import draw_mask_pairs, read_accepted_masks, read_base, train_hand_sam


@pytest.fixture
def radiographs(tmp_path, monkeypatch):
    """Drawings with masks, and others that a segmenter has drawn masks of."""
    monkeypatch.setattr("boneage.preprocessing.sam_training.train.NUM_DRAWN", 3)
    for folder in ("labelled", "masks", "unlabelled", "segments"):
        (tmp_path / folder).mkdir()
    for number, pair in enumerate(draw_mask_pairs(4, seed=1)):
        for pixels, masks in (("labelled", "masks"), ("unlabelled", "segments")):
            cv2.imwrite(str(tmp_path / pixels / f"{number}.png"), pair.pixels)
            cv2.imwrite(str(tmp_path / masks / f"{number}.png"), pair.mask.astype(np.uint8) * 255)
    (tmp_path / "split.csv").write_text("id,split\n0,train\n1,train\n2,validation\n3,train\n")
    rows = [{"file": f"{number}.png", "accepted": number != 3} for number in range(4)]
    pd.DataFrame(rows).to_csv(tmp_path / "segments" / "segments.csv", index=False)
    return tmp_path


def test_only_accepted_masks_of_the_train_split_are_used(radiographs):
    pairs = read_accepted_masks(
        radiographs / "segments", radiographs=radiographs / "unlabelled", split=radiographs / "split.csv"
    )
    assert [pair.name for pair in pairs] == ["0.png", "1.png"]


def run(radiographs, *, out="out", steps=1):
    """Train in two folds; return the card and the status lines."""
    lines = []
    card = train_hand_sam(
        radiographs / "labelled",
        masks=radiographs / "masks",
        unlabelled=radiographs / "unlabelled",
        segments=radiographs / "segments",
        split=radiographs / "split.csv",
        out=radiographs / out,
        num_folds=2,
        schedule=HandSamSchedule(*[HandSamConfig(steps=steps, batch_size=1)] * 4),
        progress=lines.append,
    )
    return card, lines


def test_the_command_measures_each_radiograph_unseen(radiographs):
    card, lines = run(radiographs)
    measured = pd.read_csv(radiographs / "out" / "hand_sam.csv")
    assert sorted(measured.file) == [f"{number}.png" for number in range(4)] and set(measured.fold) == {0, 1}
    assert 0 <= card["cross_validated"]["dice"] <= 1 and card["trained_on"]["by_segmenter"] == 2
    assert 0 <= card["base"]["dice_quantiles"]["0"] <= card["base"]["dice"] <= 1
    folds = pd.read_csv(radiographs / "out" / "folds.csv")
    assert folds.merge(measured, on=["file", "fold"]).shape[0] == 4
    assert lines[0].startswith("encoder: 0 manual masks, 2 of a segmenter")
    assert "fold-0: 2 manual masks, 2 of a segmenter, 3 drawings" in lines
    assert (radiographs / "out" / "fold-1" / "hand_sam.onnx").exists()


def test_the_base_of_another_folder_is_used(radiographs):
    run(radiographs)
    (radiographs / "again").mkdir()
    shutil.copy(radiographs / "out" / "base.npz", radiographs / "again")
    _, lines = run(radiographs, out="again")
    assert lines[0].startswith("base: {") and lines[1].startswith("fold-0-outlines")
    first, again = (pd.read_csv(radiographs / folder / "hand_sam.csv") for folder in ("out", "again"))
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(BoneAgeError, match=r"base\.npz: was trained with other settings"):
        run(radiographs, out="again", steps=2)


@pytest.mark.parametrize("content", [b"", b"PK no archive", {"training": np.array("[]")}, {"a": np.zeros(2)}])
def test_a_file_that_is_no_base_is_an_error_of_one_line(tmp_path, content):
    with (tmp_path / "base.npz").open("wb") as file:
        file.write(content) if isinstance(content, bytes) else np.savez(file, **content)
    with pytest.raises(BoneAgeError, match=r"base\.npz: damaged, or not written by `boneage train-sam`; remove it"):
        read_base(tmp_path, schedule=HandSamSchedule())


def test_setting_one_value_of_a_training_keeps_the_others(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        "boneage.preprocessing.sam_training.train.train_hand_sam",
        lambda *_, schedule, **__: asked.update(schedule=schedule) or {"cross_validated": {}},
    )
    folders = [f"--{name}={tmp_path}" for name in ("masks", "unlabelled", "segments", "split", "out")]
    with pytest.raises(SystemExit) as ended:
        monkeypatch.setattr("sys.argv", ["boneage", "train-sam", str(tmp_path), *folders, "--set", "fine.steps=7"])
        main()
    assert ended.value.code == 0
    assert asked["schedule"] == HandSamSchedule(fine=dataclasses.replace(HandSamSchedule().fine, steps=7))
