"""Decisions of reviewers: on the disk at once, undone in order, never written over, compared and joined."""

import pytest

from boneage.preprocessing.sources.review_csv import UNREVIEWED, Review, ReviewError, read_reviews
from boneage.review.decisions import Decisions, describe_verdict, review_state

IDS = ("1", "2", "3", "4")


@pytest.fixture
def start(tmp_path):
    """A function that opens the decisions of a reviewer, as a start of the server does."""

    def open_(reviewer=""):
        return Decisions(tmp_path / "decisions.csv", reviewer=reviewer, ids=IDS)

    return open_


def rows_of(path):
    return path.read_text().splitlines()[1:]


def test_each_decision_is_on_the_disk_at_once_the_latest_last(start):
    decisions = start()
    assert not decisions.path.exists()
    decisions.decide("2", "keep")
    assert rows_of(decisions.path) == ["2,keep,"]
    decisions.decide("1", "reject")
    decisions.decide("2", "reject")
    assert rows_of(decisions.path) == ["1,reject,", "2,reject,"]
    assert len(start()) == 2
    assert start().find("2") == decisions.find("2") == read_reviews(decisions.path)["2"]
    assert start().find("3") == UNREVIEWED


def test_corrections_add_up(start):
    decisions = start()
    for degrees, rows in ((90, ["1,rotate,90"]), (90, ["1,rotate,180"]), (90, ["1,rotate,-90"]), (90, ["1,keep,"])):
        decisions.decide("1", "rotate", degrees=float(degrees))
        assert rows_of(decisions.path) == rows
    decisions.decide("1", "rotate", degrees=90.0)
    decisions.decide("1", "flip")
    # What was turned to the left and is mirrored then is turned to the right.
    assert rows_of(decisions.path) == ["1,rotate,-90", "1,flip,"]
    decisions.decide("1", "flip")
    assert rows_of(decisions.path) == ["1,rotate,90"]
    decisions.decide("1", "reject")
    decisions.decide("1", "flip")
    assert rows_of(decisions.path) == ["1,flip,"]
    assert review_state(decisions.find("1")) == "corrected"


def test_masks_are_kept_under_names_of_our_own(start, tmp_path):
    decisions = start("anna")
    decisions.decide("1", "mask", mask=b"first")
    decisions.decide("1", "mask", mask=b"second")
    (row,) = rows_of(decisions.path)
    assert row.startswith("1,mask,decisions.masks/")
    assert read_reviews(decisions.path)["1"].mask.read_bytes() == b"second"
    decisions.undo()
    assert start("anna").find("1").mask.read_bytes() == b"first"
    assert {path.read_bytes() for path in (tmp_path / "decisions.masks").iterdir()} == {b"first", b"second"}


def test_undo_goes_back_to_the_start_and_is_on_the_disk(start):
    decisions = start()
    decisions.decide("1", "keep")
    decisions = start()
    decisions.decide("1", "reject")
    decisions.decide("2", "flip")
    assert decisions.undo() == "2"
    assert rows_of(decisions.path) == ["1,reject,"]
    assert decisions.undo() == "1"
    assert rows_of(decisions.path) == ["1,keep,"]
    assert decisions.undo() is None
    assert rows_of(decisions.path) == ["1,keep,"]


def test_redo_goes_forward_until_something_else_is_decided(start):
    decisions = start()
    decisions.decide("1", "keep")
    decisions.decide("1", "reject")
    assert decisions.redo() is None
    assert decisions.undo() == decisions.undo() == "1"
    assert rows_of(decisions.path) == []
    assert decisions.redo() == "1"
    assert rows_of(decisions.path) == ["1,keep,"]
    assert decisions.redo() == "1"
    assert rows_of(decisions.path) == ["1,reject,"]
    assert decisions.undo() == "1"
    decisions.decide("2", "flip")
    assert decisions.redo() is None
    assert rows_of(decisions.path) == ["1,keep,", "2,flip,"]


def test_a_comment_stays_with_the_decisions_and_counts_as_none(start):
    decisions = start()
    decisions.comment("1", "ask again,\nthe wrist is cut")
    assert (len(decisions), review_state(decisions.find("1"))) == (0, "undecided")
    decisions.decide("1", "flip")
    decisions.decide("1", "reject")
    assert rows_of(decisions.path) == ["1,reject,", '1,comment,"ask again, the wrist is cut"']
    assert start().find("1").comment == "ask again, the wrist is cut"
    assert (len(decisions), describe_verdict(decisions.find("1"))) == (1, "rejected")
    decisions.comment("1", " ")
    assert rows_of(decisions.path) == ["1,reject,"]
    decisions.undo()
    assert decisions.find("1").comment == "ask again, the wrist is cut"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), ""),
        (("keep", "comment clear"), "kept"),
        (("rotate -45", "flip"), "rotated by 45° to the right, flipped"),
        (("rotate 90", "mask decisions.masks/1.png"), "rotated by 90° to the left, mask corrected"),
    ],
)
def test_describe_verdict(rows, words):
    assert describe_verdict(Review(rows=rows)) == words


def test_what_someone_else_wrote_is_not_written_over(start):
    one, other = start(), start()
    other.decide("1", "keep")
    with pytest.raises(ReviewError, match="was changed by another process"):
        one.decide("2", "keep")
    assert rows_of(one.path) == ["1,keep,"]
    assert one.find("2") == UNREVIEWED and one.undo() is None


def test_a_decision_that_the_disk_does_not_take_is_not_taken(start, monkeypatch):
    decisions = start()
    decisions.decide("1", "keep")

    def fail(*_):
        raise OSError(28, "No space left on device", "decisions.csv")

    monkeypatch.setattr("boneage.review.decisions.write_reviews", fail)
    with pytest.raises(OSError, match="No space left"):
        decisions.decide("1", "reject")
    assert decisions.find("1").keep
    assert rows_of(decisions.path) == ["1,keep,"]


@pytest.mark.parametrize("name", ["joint", "../up", "a b", "x" * 41])
def test_a_name_that_is_none(start, name):
    with pytest.raises(ReviewError, match="--reviewer must be"):
        start(name)


def test_decisions_on_other_radiographs_are_named(start, tmp_path):
    (tmp_path / "decisions.csv").write_text("id,decision,value\n9,keep,\n")
    with pytest.raises(ReviewError, match="contains the unknown id '9'"):
        start()


def test_reviewers_are_kept_apart_and_joined(start, tmp_path):
    (tmp_path / "decisions.csv").write_text("id,decision,value\n1,reject,\n")
    anna, ben = start("anna"), start("ben")
    anna.decide("1", "keep")
    anna.decide("2", "keep")
    anna.decide("4", "mask", mask=b"hers")
    ben.decide("2", "reject")
    ben.decide("3", "rotate", degrees=90.0)
    ben.decide("4", "mask", mask=b"his")
    assert list(ben.read_others()) == ["anna"]
    assert (tmp_path / "decisions.ben.csv").exists()
    path, num_joint, num_disputed = ben.write_joint()
    assert (path, num_joint, num_disputed) == (tmp_path / "decisions.joint.csv", 3, 1)
    joint = read_reviews(path)
    assert sorted(joint) == ["1", "3", "4"]
    assert joint["4"].mask.read_bytes() == b"hers"
    assert list(ben.read_others()) == ["anna"]
    # Who has no name is alone.
    assert start().read_others() == {}
    assert start().find("1").reject
