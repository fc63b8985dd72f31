"""Decisions of people: read strictly, replayed exactly."""

import cv2
import numpy as np
import pytest

from boneage.preprocessing.sources.review_csv import Review, ReviewError, read_reviews, write_reviews


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "decisions.csv"
        path.write_text(text)
        return path

    return write


def test_decisions_add_up(write, tmp_path):
    cv2.imwrite(str(tmp_path / "seven.png"), np.zeros((2, 2), np.uint8))
    reviews = read_reviews(
        write("id,decision,value\n5,keep,\n6,reject,\n7,rotate,90\n7,flip\n7,mask,seven.png\n 8 , rotate , -12.5 \n")
    )
    assert reviews["5"] == Review(rows=("keep",), keep=True)
    assert reviews["6"] == Review(rows=("reject",), reject=True)
    seven = reviews["7"]
    assert seven.rows == ("rotate 90", "flip", "mask seven.png")
    assert (seven.keep, seven.flip, seven.rotate_degrees) == (True, True, 90.0)
    assert seven.mask == (tmp_path / "seven.png").resolve() and len(seven.mask_sha256) == 64
    assert reviews["8"].rotate_degrees == -12.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", "needs the columns id,decision,value"),
        ("id,decision,value\n,keep,\n", "line 2: the id is missing"),
        ("id,decision,value\n1,kep,\n", "Received: 'kep'. Did you mean 'keep'?"),
        ("id,decision,value\n1,rotate,\n", "rotate needs degrees as its value"),
        ("id,decision,value\n1,rotate,nan\n", "rotate needs degrees as its value"),
        ("id,decision,value\n1,mask,../outside.png\n", "mask needs a PNG within"),
        ("id,decision,value\n1,mask,missing.png\n", "mask needs a PNG within"),
        ("id,decision,value\n1,comment,\n", "comment needs a text"),
        ("id,decision,value\n1,keep,\n1,reject,\n", "line 3: 1 is both rejected and kept"),
    ],
)
def test_mistakes_are_named(write, tmp_path, text, message):
    cv2.imwrite(str(tmp_path.parent / "outside.png"), np.zeros((2, 2), np.uint8))
    with pytest.raises(ReviewError) as caught:
        read_reviews(write(text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReviewError, match=r"none\.csv: No such file or directory; check the path of the decisions"):
        read_reviews(tmp_path / "none.csv")


def test_a_person_stands_above_the_gate():
    assert Review(keep=True).override_reasons(("bad_mask",)) == ()
    assert Review(reject=True).override_reasons(()) == ("rejected_by_reviewer",)
    assert Review().override_reasons(("bad_mask",)) == ("bad_mask",)


def test_comments_decide_nothing(write):
    review = read_reviews(write("id,decision,value\n1,comment,blurred; why?\n1,flip,\n1,comment,ask Ben\n"))["1"]
    assert (review.keep, review.decisions, review.comment) == (True, ("flip",), "blurred; why? ask Ben")
    assert review.with_comment("clear").rows == ("flip", "comment clear")
    assert review.with_comment("").rows == ("flip",)
    only = read_reviews(write("id,decision,value\n1,comment,blurred\n"))["1"]
    assert only.override_reasons(("bad_mask",)) == ("bad_mask",)


def test_what_is_written_is_read_again(write, tmp_path):
    cv2.imwrite(str(tmp_path / "seven.png"), np.zeros((2, 2), np.uint8))
    reviews = read_reviews(write('id,decision,value\n"5, or so",keep,\n7,rotate,-90\n7,mask,seven.png\n6,reject,\n'))
    write_reviews(tmp_path / "again.csv", reviews)
    again = read_reviews(tmp_path / "again.csv")
    assert again == reviews
    assert list(again) == ["5, or so", "7", "6"]
