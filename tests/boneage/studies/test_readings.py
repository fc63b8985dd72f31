import pytest

from boneage.base.errors import BoneAgeError
from boneage.studies.readings import ReadingsError, join_model, read_readings

TABLE = "id,reader,months,session,Sex\n7,Ada,120,1,F\n7,Ben,126.5,1,F\n8,Ada,60,,M\n8,Ada,62,2,M\n9,Ben,,1,F\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="readings.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_read_readings_keeps_sessions_factors_and_gaps(write):
    frame = read_readings(write(TABLE))
    assert list(frame.columns) == ["id", "reader", "session", "months", "sex"]
    assert frame.values.tolist() == [
        ["7", "Ada", "1", 120.0, "F"],
        ["7", "Ben", "1", 126.5, "F"],
        ["8", "Ada", "1", 60.0, "M"],
        ["8", "Ada", "2", 62.0, "M"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Image ID;Observer;Years\n7;Ada;10,5\n",
        "sep=;\nfile;rater;bone age (years)\n7;Ada;10,5\n",
        "id\treader\tbone_age_months\n7\tAda\t126\n",
    ],
)
def test_read_readings_knows_usual_names_and_units(write, text):
    assert read_readings(write(text))["months"].tolist() == [126.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("id,months\n7,120\n", "needs the columns id, reader, and months or years"),
        ("id,reader,age\n7,Ada,120\n", "Received: id, reader, age"),
        ("id,reader,months\n", "contains no readings"),
        ("id,reader,months\n7,Ada,12O\n", r"readings\.csv row 2: '12O' is no bone age in months"),
        ("id,reader,months\n7,Ada,301\n", "row 2: '301' is no bone age"),
        ("id,reader,months\n7,,120\n", "row 2: reader is blank"),
        ("id,reader,bone_age\n7,Ada,10.5\n8,Ada,12\n", "which may be years; name the column"),
        ("id,reader,months\n7,Ada,10.5\n8,Ada,12\n", "'months' contains at most 12, which may be years"),
        ("id,reader,months\n7,Ada,120\n7,Ada,121\n", "Ada has two readings of 7 in one session"),
    ],
)
def test_read_readings_says_what_is_wrong(write, text, told):
    with pytest.raises(BoneAgeError, match=told):
        read_readings(write(text))


def test_join_model_takes_predictions_and_counts_refusals(write):
    readings = read_readings(write(TABLE))
    predictions = write("id,bone_age_months,accepted\n7,118.2,True\n8,,False\n99,50,True\n", "predictions.csv")
    joined, num_refused = join_model(readings, predictions)
    assert num_refused == 1
    assert joined[joined["reader"] == "model"].values.tolist() == [["7", "model", "1", 118.2, "F"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,age\n7,118\n", "needs the columns id and predicted_months"),
        ("id,months\n99,118\n", "no answer has the id of a reading"),
        ("id,months\n7,nan\n", "row 2: 'nan' is no bone age"),
    ],
)
def test_join_model_says_what_is_wrong(write, text, told):
    with pytest.raises(ReadingsError, match=told):
        join_model(read_readings(write(TABLE)), write(text, "predictions.csv"))


def test_join_model_refuses_a_reader_of_its_name(write):
    readings = read_readings(write("id,reader,months\n7,model,120\n"))
    with pytest.raises(ReadingsError, match="called 'model' already"):
        join_model(readings, write("id,months\n7,118\n", "predictions.csv"))
