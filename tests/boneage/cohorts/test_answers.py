import pytest

from boneage.base.errors import BoneAgeError
from boneage.cohorts.answers import NO_ANSWER, predict_answers, read_answers
from boneage.cohorts.labelled import find_labelled
from boneage.inference.predict import predict


def test_read_answers_joins_by_id_never_by_position(tmp_path, make_cohort):
    labelled, _ = make_cohort([50, 60, 70, 80], [0, 0, 0, 0])
    # The label of a table of `boneage evaluate` is no answer, and other rows do not matter.
    (tmp_path / "other.csv").write_text(
        "id,bone_age_months,predicted_months,reasons\n3,80,81,\n99,1,1,\n0.png,50,51,\n1,60,,cut_off\n"
    )
    frame = read_answers(tmp_path / "other.csv", labelled).frame.set_index("id")
    assert frame["predicted_months"].tolist()[::3] == [51.0, 81.0]
    assert frame["predicted_months"].isna().tolist() == [False, True, True, False]
    assert frame["reasons"].tolist() == ["", "cut_off", NO_ANSWER, ""]


def test_read_answers_takes_years(tmp_path, make_cohort):
    labelled, _ = make_cohort([50, 60], [0, 0])
    (tmp_path / "other.csv").write_text("Image ID;Bone age (years)\n0;4,5\n1;5\n")
    assert read_answers(tmp_path / "other.csv", labelled).frame["predicted_months"].tolist() == [54.0, 60.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,answer\n0,50\n", "needs the columns id and predicted_months"),
        ("id,predicted_months\n0,50\n0.png,51\n", "rows 2 and 3 are both of '0'"),
        ("id,predicted_months\n17,50\n", "no row is of a radiograph of cohort, such as '0'"),
        ("id,predicted_months\n0,old\n", "'old'"),
        ("id,predicted_months\n../0,50\n", "row 2: '../0' is not a valid id"),
        ("id,bone_age\n0,5\n", "may be years"),
        ("id,bone_age_months,ai_months\n0,50,51\n1,60,58\n", "are the labels themselves; name the column"),
    ],
)
def test_read_answers_says_what_is_wrong(tmp_path, make_cohort, text, told):
    labelled, _ = make_cohort([50, 60], [0, 0])
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(BoneAgeError, match=told):
        read_answers(tmp_path / "other.csv", labelled)


def test_predict_answers_gives_what_predict_gives(hospital):
    labelled = find_labelled(hospital / "radiographs", table=hospital / "labels.csv")
    answers = predict_answers(hospital / "bundle", labelled)
    frame = answers.frame.set_index("id")
    table = predict(hospital / "radiographs", bundle=hospital / "bundle", table=hospital / "labels.csv")
    same = table[table["file"].isin([case.name for case in labelled.cases])].set_index("id").loc[frame.index]
    assert frame["predicted_months"].equals(same["bone_age_months"].rename("predicted_months"))
    assert frame["low_months"].equals(same["low_months"])
    assert frame["reasons"].tolist() == ["", "", "", "", "damaged_image"] == same["reasons"].tolist()


def test_predict_answers_resumes(hospital, monkeypatch):
    labelled = find_labelled(hospital / "radiographs", table=hospital / "labels.csv")
    progress_file, seen = hospital / "part.jsonl", []

    def stop(finished, _):
        if finished == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_answers(hospital / "bundle", labelled, progress_file=progress_file, workers=1, progress=stop)
    answers = predict_answers(
        hospital / "bundle",
        labelled,
        progress_file=progress_file,
        workers=1,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen[0] == (2, 5)
    assert answers.frame["id"].tolist() == ["1", "2", "3", "4", "5"]
