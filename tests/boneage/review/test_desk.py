"""The review desk: its pages, decisions on the disk, and `boneage prepare --decisions` with them."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from boneage.inference.messages import explain_reasons
from boneage.preprocessing.config import PreprocessingConfig
from boneage.preprocessing.hand.interactive_correction import Click
from boneage.preprocessing.jobs.contact_sheets import ContactSheetError
from boneage.preprocessing.jobs.prepare import prepare
from boneage.preprocessing.segmentation.hand_sam import load_hand_sam
from boneage.preprocessing.sources.review_csv import Review, read_reviews
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.review.app import create_review
from boneage.review.decisions import Decisions
from boneage.review.desk import Desk, DeskError, trace_outline
from boneage.tfrecords.framing import read_frames
from boneage.tfrecords.schema import decode

CONFIG = PreprocessingConfig(image_size_px=64)
ORIGIN = {"Origin": "http://127.0.0.1:8000"}
TOKEN = "a-secret-of-some-length"
PAGE = {"Accept": "text/html"}
# The two hands of one frame come first, for the gate rejects them.
NUM_HANDS = 5


def draw(number):
    return draw_radiograph(60 + 20 * number, sex="male", seed=number, size_px=(256, 205)).pixels


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four drawings of a hand, and one of two."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(NUM_HANDS - 1):
        cv2.imwrite(str(folder / f"hand-{number}.png"), draw(number))
    two = np.hstack([draw(NUM_HANDS), draw(NUM_HANDS)[:, ::-1]])
    cv2.imwrite(str(folder / "two & (hands).png"), two)
    ids = sorted(path.stem for path in folder.glob("*.png"))
    (folder / "labels.csv").write_text("id,boneage,male\n" + "".join(f"{id},100,True\n" for id in ids))
    return folder


def make(source, out, **options):
    return prepare(
        source, out=out, table=source / "labels.csv", split="random", config=CONFIG, workers=1, **options
    ).folder


@pytest.fixture(scope="module")
def records(source, tmp_path_factory):
    return make(source, tmp_path_factory.mktemp("records") / "records")


@pytest.fixture(scope="module")
def desk(records, source):
    return Desk(records, source=source)


@pytest.fixture
def start(desk, tmp_path):
    """A function that starts the application for a reviewer and gives a client of it."""

    def open_(reviewer="", **options):
        taken = Decisions(tmp_path / "decisions.csv", reviewer=reviewer, ids={tile.id for tile in desk.tiles})
        return TestClient(
            create_review(desk, taken, **options), base_url="http://127.0.0.1:8000", follow_redirects=False
        )

    return open_


@pytest.fixture
def client(start):
    return start()


def decide(client, number, decision, **more):
    return client.post(f"/hands/{number}/decision", json={"decision": decision, **more}, headers=ORIGIN)


def shown(client, query=""):
    """Numbers of the radiographs on a page."""
    return [int(number) for number in re.findall(r'id="hand-(\d+)"', client.get(f"/{query}").text)]


def image(answer):
    assert answer.status_code == 200, answer.text
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE)


def test_worst_first_with_score_and_reasons(client, desk):
    assert shown(client) == list(range(NUM_HANDS))
    assert desk.tiles[0].id == "two & (hands)"
    page = client.get("/").text
    assert "two &amp; (hands)" in page
    assert explain_reasons(desk.tiles[0].reasons[:1]) in page
    assert f"{desk.tiles[1].score:.2f}" in page
    assert "0</span> of 5 decided" in page
    assert image(client.get("/hands/0/tile.jpg")).shape == (160, 320)


def test_filters_by_decision_and_by_reason(client, desk):
    decide(client, 1, "keep")
    decide(client, 2, "reject")
    decide(client, 3, "rotate", degrees=90)
    for state, numbers in (("undecided", [0, 4]), ("kept", [1]), ("rejected", [2]), ("corrected", [3]), ("none", [])):
        assert shown(client, f"?state={state}") == numbers
    assert shown(client, "?gate=rejected") == shown(client, f"?gate={desk.tiles[0].reasons[0]}") == [0]
    assert shown(client, "?gate=accepted&state=undecided") == [4]
    assert "No radiograph matches" in client.get("/?gate=%3Cscript%3E").text


def test_pages_go_on_where_the_last_one_ended(client, monkeypatch):
    monkeypatch.setattr("boneage.review.app.PAGE_HANDS", 2)
    assert shown(client) == [0, 1]
    following = re.search(r'id="next" class="button" href="/(.*?)"', client.get("/?state=undecided").text)[1]
    assert following == "?state=undecided&amp;start=2"
    # What is decided on one page must not make the next one leave any out.
    decide(client, 0, "keep")
    decide(client, 1, "keep")
    assert shown(client, following.replace("&amp;", "&")) == [2, 3]
    assert shown(client, "?start=4") == [4]
    assert 'href="/?start=2"' in client.get("/?start=4").text
    assert "5 to 5 of 5" in client.get("/?start=4").text


def test_a_decision_is_on_the_disk_before_the_answer(client, tmp_path, desk):
    told = decide(client, 1, "reject").json()
    assert (told["state"], told["verdict"], told["num_decided"]) == ("rejected", "rejected", 1)
    assert read_reviews(tmp_path / "decisions.csv")[desk.tiles[1].id].reject
    told = client.post("/undo", headers=ORIGIN).json()
    assert (told["number"], told["state"], told["num_decided"]) == (1, "undecided", 0)
    assert read_reviews(tmp_path / "decisions.csv") == {}
    nothing = client.post("/undo", headers=ORIGIN)
    assert (nothing.status_code, nothing.json()["detail"][:15]) == (409, "nothing to undo")


def test_what_was_undone_is_redone(client):
    decide(client, 1, "reject")
    assert client.post("/undo", headers=ORIGIN).json()["state"] == "undecided"
    told = client.post("/redo", headers=ORIGIN).json()
    assert (told["number"], told["state"]) == (1, "rejected")
    nothing = client.post("/redo", headers=ORIGIN)
    assert (nothing.status_code, nothing.json()["detail"]) == (409, "nothing to redo.")


def test_a_comment_decides_nothing_and_is_shown(client, tmp_path, desk):
    told = client.post("/hands/1/comment", json={"comment": " the <wrist>\n is cut "}, headers=ORIGIN).json()
    assert (told["comment"], told["state"], told["num_decided"]) == ("the <wrist> is cut", "undecided", 0)
    assert read_reviews(tmp_path / "decisions.csv")[desk.tiles[1].id].comment == "the <wrist> is cut"
    for path in ("/", "/hands/1"):
        assert "the &lt;wrist&gt; is cut" in client.get(path).text
    long = client.post("/hands/1/comment", json={"comment": "x" * 501}, headers=ORIGIN)
    assert (long.status_code, "`comment`" in long.json()["detail"]) == (422, True)


def test_without_scripts_it_is_told_what_does_not_work(client):
    for path in ("/", "/hands/1"):
        assert '<noscript><p class="notice">JavaScript is off' in client.get(path).text


def resemble(one, other):
    return np.corrcoef(cv2.resize(one, other.shape).ravel(), other.ravel())[0, 1]


def test_corrections_are_shown(client):
    before = image(client.get("/hands/1/crop.png"))
    decide(client, 1, "flip")
    flipped = image(client.get("/hands/1/crop.png"))
    assert resemble(flipped, before[:, ::-1]) > 0.9 > resemble(flipped, before)
    decide(client, 1, "rotate", degrees=90)
    turned = image(client.get("/hands/1/crop.png"))
    # The forearm is cut anew, so that the frame is another one.
    assert resemble(turned, np.rot90(flipped)) > max(resemble(turned, np.rot90(flipped, -1)), resemble(turned, flipped))
    tile = image(client.get("/hands/1/tile.jpg"))
    assert resemble(turned, tile[:, 160:]) > 0.95
    decide(client, 1, "rotate", degrees=-90)
    decide(client, 1, "flip")
    assert np.array_equal(image(client.get("/hands/1/crop.png")), before)


def test_a_box_and_clicks_make_a_mask(client, tmp_path, desk):
    page = client.get("/hands/0").text
    assert 'viewBox="0 0 410 256"' in page
    asked = {"box": [0, 0, 205, 256], "clicks": [[100.0, 150.0, True], [3.0, 3.0, False]]}
    answer = client.post("/hands/0/outline", json=asked, headers=ORIGIN).json()
    outline = answer["outline"]
    assert outline.startswith("M") and outline.endswith("Z")
    assert answer["message"] == ""
    assert max(float(coordinate) for coordinate in re.findall(r"[ML]([\d.]+) ", outline)) <= 205
    told = decide(client, 0, "mask", **asked).json()
    assert (told["state"], told["verdict"]) == ("corrected", "mask corrected")
    review = read_reviews(tmp_path / "decisions.csv")[desk.tiles[0].id]
    mask = cv2.imread(str(review.mask), cv2.IMREAD_GRAYSCALE) == 255
    assert mask.shape == (256, 410)
    assert trace_outline(mask) == outline
    assert review.mask.parent == tmp_path / "decisions.masks"
    assert f'd="{outline}"' in client.get("/hands/0").text
    # The next click goes on from there; at a fingertip, but not on its very edge, which is finer than what is decided.
    row, column = np.argwhere(cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)))[0]
    more = {"clicks": [[float(column), float(row), False]]}
    assert client.post("/hands/0/outline", json=more, headers=ORIGIN).json()["outline"] not in ("", outline)


def test_a_click_that_cannot_be_followed_is_told(client, desk):
    (number,) = (number for number, tile in enumerate(desk.tiles) if tile.id == "hand-2")
    within = desk.process(number, Review()).hand.segmentation.mask.astype(np.uint8)
    row, column = np.unravel_index(cv2.distanceTransform(within, cv2.DIST_L2, 5).argmax(), within.shape)
    beyond = [9999.0, 9999.0, True]  # it cannot come from the page, and is not heard

    def ask(*clicks):
        return client.post(f"/hands/{number}/outline", json={"clicks": clicks}, headers=ORIGIN).json()

    told = ask(beyond, [float(column), float(row), False])
    assert "the mask is one connected region without holes" in told["message"]
    assert told["not_followed"] == [1]
    told = ask(beyond)
    assert (told["message"], told["not_followed"]) == ("", [])


def test_a_click_on_a_hand_that_lies_goes_on_from_the_outline_that_is_shown(tmp_path, monkeypatch):
    upright, sources, seen = draw(2), tmp_path / "source", []
    sources.mkdir()
    cv2.imwrite(str(sources / "hand.png"), upright[::-1, ::-1])
    (sources / "labels.csv").write_text("id,boneage,male\nhand,100,True\n")

    def load_spied(path):
        network = load_hand_sam(path)
        return lambda pixels, prompts: seen.append(pixels) or network(pixels, prompts)

    monkeypatch.setattr("boneage.review.desk.load_hand_sam", load_spied)
    desk = Desk(make(sources, tmp_path / "records"), source=sources)
    shown = desk.process(0, Review()).hand.segmentation
    assert shown.input_rotation_degrees == 180
    # Beside the hand, so that the model is asked.
    row, column = np.argwhere(cv2.dilate(shown.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > shown.mask)[0]
    clicked = desk.correct(0, Review(), clicks=[Click(float(column), float(row), True)], box=None)
    assert np.corrcoef(seen[-1].ravel(), upright.ravel())[0, 1] > 0.99
    assert clicked[row, column]
    assert not (shown.mask & ~clicked).any()


def test_a_mask_without_a_hand_is_not_taken(client, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "boneage.review.desk.correct_mask", lambda predict, pixels, **_: np.zeros(pixels.shape, np.bool_)
    )
    empty = decide(client, 1, "mask", box=[0, 0, 90, 90])
    assert (empty.status_code, "the mask is empty" in empty.json()["detail"]) == (422, True)
    assert not (tmp_path / "decisions.csv").exists()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/hands/99/decision", {"decision": "keep"}, 404),
        ("/hands/-1/decision", {"decision": "keep"}, 404),
        ("/hands/1/decision", {"decision": "burn"}, 422),
        ("/hands/1/decision", {"decision": "rotate", "degrees": 1e9}, 422),
        ("/hands/1/decision", [], 422),
        ("/hands/1/outline", {"clicks": [[1.0, "a", True]]}, 422),
        ("/hands/1/outline", {"box": [0, 0, 9999, 100]}, 422),
        ("/hands/1/outline", {"box": [0, 0, 3, 3]}, 422),
        ("/hands/1/outline", {"clicks": [[1.0, 1.0, True]] * 9000}, 413),
        ("/hands/..%2F..%2Fetc/decision", {"decision": "keep"}, 404),
        ("/joint", {}, 409),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(client, tmp_path, path, body, status):
    refused = client.post(path, json=body, headers=ORIGIN)
    assert refused.status_code == status, refused.text
    assert "\n" not in refused.text
    assert not (tmp_path / "decisions.csv").exists()


def test_nothing_but_radiographs_of_the_desk_is_shown(client):
    for path in ("/hands/99", "/hands/-1/tile.jpg", "/hands/..%2Flabels.csv/tile.jpg", "/static/..%2freview.py"):
        assert client.get(path, headers=PAGE).status_code in (404, 422), path


def test_is_shielded_as_the_other_page_is(client, start):
    for answer in (client.get("/"), client.get("/hands/1"), client.get("/static/review.js"), client.get("/nowhere")):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
    for path in ("/", "/hands/1"):
        page = client.get(path).text
        assert not [inline for inline in ("<style", "style=", "onclick", "<script>") if inline in page]
        assert "http" not in page
    assert client.post("/undo").status_code == 403
    assert client.post("/undo", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    closed = start(token=TOKEN)
    assert closed.get("/hands/1/tile.jpg").status_code == 401
    assert closed.get("/", headers=PAGE).headers["Location"] == "/login"
    assert closed.post("/login", data={"token": TOKEN}, headers=ORIGIN).headers["Location"] == "/"
    assert closed.get("/", headers=PAGE).status_code == 200


def test_two_reviewers_agree_or_not_and_write_the_joint_file(start, tmp_path, desk):
    anna, ben = start("anna"), start("ben")
    assert "No other reviewer" in anna.get("/").text
    for number, hers, his in ((0, "reject", "reject"), (1, "keep", "keep"), (2, "keep", "reject"), (3, "keep", "keep")):
        decide(anna, number, hers)
        decide(ben, number, his)
    page = ben.get("/").text
    assert "With anna, 4 decided by both: 75% agree, Cohen&#39;s kappa 0.50" in page.replace("Cohen's", "Cohen&#39;s")
    assert "anna: " not in page
    assert shown(ben, "?state=disputed") == [2]
    assert "anna: kept" in ben.get("/?state=disputed").text
    told = ben.post("/joint", headers=ORIGIN).json()["message"]
    assert told.startswith("3 decisions are in ") and "1 disputed ones are left out" in told
    assert set(read_reviews(tmp_path / "decisions.joint.csv")) == {desk.tiles[number].id for number in (0, 1, 3)}


def test_a_disk_that_is_full_is_told_and_nothing_is_shown_as_decided(client, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "decisions.csv")

    monkeypatch.setattr("boneage.review.decisions.write_reviews", fail)
    refused = decide(client, 1, "keep")
    assert (refused.status_code, refused.json()["detail"][:40]) == (507, "decisions.csv: No space left on device; ")
    assert shown(client, "?state=kept") == []


def test_prepare_follows_the_decisions(client, source, desk, tmp_path):
    decide(client, 0, "mask", box=[0, 0, 205, 256])
    decide(client, 1, "reject")
    decide(client, 2, "rotate", degrees=90)
    decide(client, 3, "keep")
    client.post("/hands/3/comment", json={"comment": "a thin wrist"}, headers=ORIGIN)
    seen = {desk.tiles[number].id: image(client.get(f"/hands/{number}/crop.png")) for number in (0, 2, 3)}
    folder = make(source, tmp_path / "reviewed", decisions=tmp_path / "decisions.csv")
    kept = {record.id: record for path in folder.glob("*.tfrecord") for record in map(decode, read_frames(path))}
    assert desk.tiles[1].id not in kept
    assert len(kept) == NUM_HANDS - 1
    for id, crop in seen.items():
        assert np.array_equal(cv2.imdecode(np.frombuffer(kept[id].image, np.uint8), cv2.IMREAD_GRAYSCALE), crop)
    assert json.loads(kept[desk.tiles[3].id].decisions)["review"] == ["keep", "comment a thin wrist"]
    again = Desk(folder, source=source)
    assert [tile.id for tile in again.tiles if tile.reasons] == [desk.tiles[1].id]


def test_records_that_cannot_be_reviewed_are_named(records, source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.png").write_bytes((source / "hand-1.png").read_bytes())
    with pytest.raises(DeskError, match="give the source of the records"):
        Desk(records, source=tmp_path / "empty")
    frames = prepare(
        source,
        out=tmp_path / "frames",
        table=source / "labels.csv",
        split="random",
        config=PreprocessingConfig(segmenter="none", image_size_px=16),
        workers=1,
    ).folder
    with pytest.raises(ContactSheetError, match="no contact sheets"):
        Desk(frames, source=source)
    info = json.loads((frames / "dataset_info.json").read_text())
    (frames / "dataset_info.json").write_text(json.dumps({**info, "fingerprint": "0" * 16}))
    with pytest.raises(DeskError, match="different preprocessing"):
        Desk(frames, source=source)


@pytest.mark.slow
def test_a_killed_server_leaves_every_decision(records, source, tmp_path, desk):
    words = ["review", records, "--source", source, "--decisions", tmp_path / "decisions.csv", "--port", "0"]
    code = "import sys; from boneage.cli.main import main; sys.argv = ['boneage', *sys.argv[1:]]; main()"
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True) as server:
        assert f"{NUM_HANDS} radiographs, 0 decided" in server.stdout.readline()
        (address,) = re.findall(r"http://\S+", server.stdout.readline())

        def post(path, body):
            request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), {"Origin": address})
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        for number in range(NUM_HANDS):
            post(f"/hands/{number}/decision", {"decision": "reject" if number % 2 else "keep"})
        post("/hands/4/decision", {"decision": "flip"})
        post("/undo", {})
        post("/hands/3/decision", {"decision": "flip"})
        server.send_signal(signal.SIGKILL)
    left = {id: review.rows for id, review in read_reviews(tmp_path / "decisions.csv").items()}
    expected = [("keep",), ("reject",), ("keep",), ("flip",), ("keep",)]
    assert left == {desk.tiles[number].id: rows for number, rows in enumerate(expected)}
