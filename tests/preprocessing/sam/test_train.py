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

from boneage.cli import main
from preprocessing.sam.fit import HandSamTraining, Phases
from preprocessing.sam.train import draw_pairs, read_accepted_masks, read_base, train_hand_sam
from tfrecords.errors import BoneAgeError


@pytest.fixture
def radiographs(tmp_path, monkeypatch):
    """Drawings with masks, and others that a segmenter has drawn masks of."""
    monkeypatch.setattr("preprocessing.sam.train.NUM_DRAWN", 3)
    for folder in ("labelled", "masks", "unlabelled", "segments"):
        (tmp_path / folder).mkdir()
    for number, pair in enumerate(draw_pairs(4, seed=1)):
        for pixels, masks in (("labelled", "masks"), ("unlabelled", "segments")):
            cv2.imwrite(str(tmp_path / pixels / f"{number}.png"), pair.pixels)
            cv2.imwrite(str(tmp_path / masks / f"{number}.png"), pair.mask.astype(np.uint8) * 255)
    (tmp_path / "split.csv").write_text("id,split\n0,train\n1,train\n2,validation\n3,train\n")
    rows = [{"file": f"{number}.png", "accepted": number != 3} for number in range(4)]
    pd.DataFrame(rows).to_csv(tmp_path / "segments" / "segments.csv", index=False)
    return tmp_path


def test_only_accepted_masks_of_the_train_split_are_learnt_from(radiographs):
    pairs = read_accepted_masks(
        radiographs / "segments", radiographs=radiographs / "unlabelled", split=radiographs / "split.csv"
    )
    assert [pair.name for pair in pairs] == ["0.png", "1.png"]


def run(radiographs, *, out="out", steps=1):
    """Train in two folds; return the card and the lines that tell of it."""
    lines = []
    card = train_hand_sam(
        radiographs / "labelled",
        masks=radiographs / "masks",
        unlabelled=radiographs / "unlabelled",
        segments=radiographs / "segments",
        split=radiographs / "split.csv",
        out=radiographs / out,
        num_folds=2,
        phases=Phases(*[HandSamTraining(steps=steps, batch_size=1)] * 4),
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
    assert lines[0].startswith("encoder: 0 masks made by hand, 2 by a segmenter")
    assert "fold-0: 2 masks made by hand, 2 by a segmenter, 3 drawings" in lines
    assert (radiographs / "out" / "fold-1" / "hand_sam.onnx").exists()


def test_the_base_of_another_folder_is_gone_on_from(radiographs):
    run(radiographs)
    (radiographs / "again").mkdir()
    shutil.copy(radiographs / "out" / "base.npz", radiographs / "again")
    _, lines = run(radiographs, out="again")
    assert lines[0].startswith("base: {") and lines[1].startswith("fold-0-outlines")
    first, again = (pd.read_csv(radiographs / folder / "hand_sam.csv") for folder in ("out", "again"))
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(BoneAgeError, match=r"base\.npz: of a training with other settings"):
        run(radiographs, out="again", steps=2)


@pytest.mark.parametrize("content", [b"", b"PK no archive", {"training": np.array("[]")}, {"a": np.zeros(2)}])
def test_what_is_no_base_is_told_in_one_line(tmp_path, content):
    with (tmp_path / "base.npz").open("wb") as file:
        file.write(content) if isinstance(content, bytes) else np.savez(file, **content)
    with pytest.raises(BoneAgeError, match=r"base\.npz: no base that `boneage train-sam` wrote, or damaged; remove it"):
        read_base(tmp_path, phases=Phases())


def test_what_is_set_of_a_phase_leaves_the_rest_of_it(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        "preprocessing.sam.train.train_hand_sam",
        lambda *_, phases, **__: asked.update(phases=phases) or {"cross_validated": {}},
    )
    folders = [f"--{name}={tmp_path}" for name in ("masks", "unlabelled", "segments", "split", "out")]
    with pytest.raises(SystemExit) as ended:
        monkeypatch.setattr("sys.argv", ["boneage", "train-sam", str(tmp_path), *folders, "--set", "fine.steps=7"])
        main()
    assert ended.value.code == 0
    assert asked["phases"] == Phases(fine=dataclasses.replace(Phases().fine, steps=7))
