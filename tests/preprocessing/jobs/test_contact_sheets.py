"""Contact sheets: what a person sees, in which order, and that nothing in them is code."""

import base64
import csv
import json
import re

import cv2
import numpy as np
import pytest

from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.hand.gate import GateConfig
from boneage.preprocessing.hand.segmenters import SEGMENTERS
from boneage.preprocessing.jobs import contact_sheets as sheets
from boneage.preprocessing.jobs.prepare import PreparationError, prepare
from boneage.preprocessing.segmentation.segmentation import Segmentation
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.schema import decode

HANDS = {
    name: draw_radiograph(150, sex="male", seed=seed, size_px=(160, 128)) for seed, name in enumerate(["1", "2", "3"])
}
SCORES = {"1": 0.95, "2": 0.3, "3": 0.8}
CONFIG = PreprocessingConfig(segmenter="unet", image_size_px=64, gate=GateConfig(max_landmark_doubt=1.0))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Three drawings, whose masks are known and trusted more or less."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    rows = ["id,boneage,male"]
    for name, drawn in HANDS.items():
        cv2.imwrite(str(folder / f"{name}.png"), drawn.pixels)
        rows.append(f"{name},150,True")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")

    def know(pixels):
        name = max(HANDS, key=lambda known: np.corrcoef(pixels.ravel(), HANDS[known].pixels.ravel())[0, 1])
        return Segmentation(HANDS[name].mask, SCORES[name])

    monkeypatch.setitem(SEGMENTERS, "unet", know)
    return folder


def run(source, out, **options):
    return prepare(
        source, out=out, table=source / "labels.csv", split="random", config=CONFIG, workers=1, **options
    ).folder


def read_records(folder):
    records = [decode(data) for path in folder.glob("*.tfrecord") for data in read_frames(path)]
    return {record.id: record for record in records}


def test_worst_first_with_outline_crop_and_reasons(source, tmp_path):
    page = (run(source, tmp_path / "records") / "review" / "index.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == ["2 0.30 <b>bad_mask</b>", "3 0.80", "1 0.95"]
    assert "3 radiographs, 1 rejected" in page and '<figure class="rejected">' in page
    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
        for encoded in re.findall(r"base64,([^\"]+)", page)
    ]
    assert [picture.shape for picture in pictures] == [(160, 320, 3)] * 3
    for picture in pictures:
        assert picture[:, 160:].max() > 200  # the crop is shown of the rejected one too
        green = (picture[..., 1].astype(int) - picture[..., 2] > 25).sum()
        assert green > 150  # the outline


def test_pages_hold_so_many_and_link_each_other(source, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "TILES_PER_PAGE", 2)
    folder = run(source, tmp_path / "records") / "review"
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "page-2.html", "tiles.jsonl"]
    for path in folder.glob("*.html"):
        page = path.read_text()
        assert 'href="index.html"' in page and 'href="page-2.html"' in page
    assert (folder / "page-2.html").read_text().count("<figure") == 1


def test_what_ids_say_is_text_and_no_code(tmp_path):
    part = tmp_path / "part.tiles"
    part.write_text('{"id":"<script>alert(1)</script>","score":null,"side":"","reasons":["no_hand"],"tile":"AAAA"}\n')
    sheets.write_contact_sheets(tmp_path / "review", [part])
    page = (tmp_path / "review" / "index.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_decisions_are_replayed_and_stand_in_the_record(source, tmp_path):
    plain = run(source, tmp_path / "plain")
    assert sorted(read_records(plain)) == ["1", "3"]
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("id,decision,value\n2,keep,\n3,reject,\n1,flip,\n")
    reviewed = run(source, tmp_path / "reviewed", decisions=decisions)
    records = read_records(reviewed)
    assert sorted(records) == ["1", "2"]
    assert '"review":["keep"]' in records["2"].decisions and '"reasons":["bad_mask"]' in records["2"].decisions
    assert records["1"].mirrored == 1 and read_records(plain)["1"].mirrored == 0
    with (reviewed / "rejected.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["id"]]
    assert (row["id"], row["reason"]) == ("3", "rejected_by_reviewer") and '"review":["reject"]' in row["decisions"]
    again = run(source, tmp_path / "again", decisions=decisions)
    for path in reviewed.rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(reviewed)).read_bytes()


def test_a_decision_on_nothing_is_named(source, tmp_path):
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("id,decision\n77,keep\n")
    with pytest.raises(PreparationError, match="'77' is not a radiograph of"):
        run(source, tmp_path / "records", decisions=decisions)
    assert not (tmp_path / "records").exists()


def write_part(path, rows):
    lines = [json.dumps({"side": "", "score": None, "reasons": [], **row}) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_sheets_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "TILES_PER_PAGE", 2)
    rows = [
        {"id": '<b>&"1 0.50', "score": 0.5, "tile": base64.b64encode(b"first").decode()},
        {"id": "2", "score": 0.954, "side": "right", "tile": base64.b64encode(b"second").decode()},
        {"id": "3", "reasons": ["no_hand", "cut_off"], "tile": base64.b64encode(b"third").decode()},
        {"id": "4", "score": 1.0, "side": "left", "tile": base64.b64encode(b"fourth").decode()},
    ]
    sheets.write_contact_sheets(tmp_path / "review", [write_part(tmp_path / "part.tiles", rows)])
    tiles = sheets.list_tiles(tmp_path / "review")
    assert [(tile.id, tile.score, tile.side, tile.reasons) for tile in tiles] == [
        ("3", None, "", ("no_hand", "cut_off")),
        ('<b>&"1 0.50', 0.5, "", ()),
        ("2", 0.954, "right", ()),
        ("4", 1.0, "left", ()),
    ]
    assert [tile.read() for tile in tiles] == [b"third", b"first", b"second", b"fourth"]


@pytest.mark.parametrize("changed", ["other", '{"id":"2","tile":"AAAA"}', '"1"', ""])
def test_sheets_that_are_not_there_or_changed_are_named(tmp_path, changed):
    with pytest.raises(sheets.ContactSheetError, match="no contact sheets"):
        sheets.list_tiles(tmp_path)
    row = {"id": "1", "tile": base64.b64encode(b"first").decode()}
    sheets.write_contact_sheets(tmp_path / "review", [write_part(tmp_path / "part.tiles", [row])])
    (tile,) = sheets.list_tiles(tmp_path / "review")
    tile.file.write_text(changed)
    with pytest.raises(sheets.ContactSheetError, match=r"tiles\.jsonl: changed while in use"):
        tile.read()
