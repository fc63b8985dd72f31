import pytest

from boneage.base.errors import BoneAgeError
from boneage.studies.adult_height import (
    classify_maturation,
    find_target_height,
    load_bayley_pinneau,
)

# The rows of the tables that the examples of the paper need.
ROWS = [
    ("male", "average", 156, 87.6),
    ("male", "average", 159, 89.0),
    ("male", "average", 162, 90.2),
    ("male", "accelerated", 186, 97.1),
    ("male", "retarded", 153, 87.3),
    ("male", "retarded", 156, 88.0),
    ("female", "average", 120, 86.2),
    ("female", "accelerated", 120, 82.8),
    ("female", "retarded", 120, 87.4),
    ("female", "retarded", 123, 88.4),
]
HEADER = "sex,maturation,bone_age_months,percent_of_adult_height\n"
CM_PER_INCH = 2.54


@pytest.fixture
def tables(tmp_path):
    path = tmp_path / "bayley_pinneau.csv"
    path.write_text(HEADER + "".join(f"{','.join(map(str, row))}\n" for row in ROWS))
    return load_bayley_pinneau(path)


@pytest.mark.parametrize(
    ("sex", "maturation", "height_inches", "years", "months", "adult_inches"),
    [
        ("male", "average", 60, 13, 3, 67.4),
        ("male", "average", 51.5, 13, 3, 57.9),
        ("male", "accelerated", 67.5, 15, 6, 69.5),
        ("female", "retarded", 55, 10, 3, 62.2),
    ],
)
def test_find_percent_gives_the_heights_of_the_paper(
    tables, sex, maturation, height_inches, years, months, adult_inches
):
    percent = tables.find_percent(12 * years + months, sex=sex, maturation=maturation)
    assert round(height_inches / percent * 100, 1) == adult_inches


@pytest.mark.parametrize(("maturation", "percent"), [("average", 86.2), ("accelerated", 82.8), ("retarded", 87.4)])
def test_find_percent_gives_girls_of_ten_years(tables, maturation, percent):
    assert tables.find_percent(120, sex="female", maturation=maturation) == percent


def test_find_percent_interpolates(tables):
    assert tables.find_percent(157, sex="male", maturation="average") == pytest.approx(87.6 + 1.4 / 3)


@pytest.mark.parametrize("bone_age", [152.9, 156.1, 162])
def test_find_percent_never_extrapolates(tables, bone_age):
    assert str(tables.find_percent(bone_age, sex="male", maturation="retarded")) == "nan"
    assert tables.describe_limits(sex="male", maturation="retarded").endswith("from 12-9 to 13-0")


def test_find_percent_without_table_is_unknown(tmp_path):
    path = tmp_path / "tables.csv"
    path.write_text(HEADER + "female,average,120,86.2\n")
    tables = load_bayley_pinneau(path)
    assert str(tables.find_percent(120, sex="male", maturation="average")) == "nan"
    assert tables.describe_limits(sex="male", maturation="average") == "there is no table for average boys"


@pytest.mark.parametrize(("arguments", "told"), [(("boy", "average"), "sex"), (("male", "delayed"), "maturation")])
def test_find_percent_refuses_unknown_words(tables, arguments, told):
    with pytest.raises(ValueError, match=told):
        tables.find_percent(120, sex=arguments[0], maturation=arguments[1])


@pytest.mark.parametrize(
    ("bone_age", "maturation"),
    [(108, "average"), (107.9, "retarded"), (132, "average"), (132.1, "accelerated"), (120, "average")],
)
def test_classify_maturation_is_average_within_a_year(bone_age, maturation):
    assert classify_maturation(bone_age, chronological_age_months=120) == maturation


def test_find_target_height_moves_one_parent_to_the_sex_of_the_child():
    assert find_target_height(mother_cm=165, father_cm=180, sex="male") == (179, 170.5, 187.5)
    assert find_target_height(mother_cm=165, father_cm=180, sex="female") == (166, 157.5, 174.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sex,maturation,bone_age_months\nmale,average,120\n", "percent_of_adult_height is missing"),
        (HEADER, "contains no rows"),
        (HEADER + "male,delayed,120,80\n", "row 2: needs a sex, a maturation"),
        (HEADER + "male,average,120,\n", "row 2: needs a sex, a maturation"),
        (HEADER + "male,average,120,101\n", "row 2: percent_of_adult_height is '101'; write a number from 0 to 100"),
        (HEADER + "male,average,120,80\nmale,average,120,81\n", "row 3: a bone age comes twice"),
        # A row that was typed one place too high.
        (HEADER + "male,average,123,79.1\nmale,average,120,79.5\n", "row 2: .* falls while the bone age rises"),
    ],
)
def test_load_bayley_pinneau_says_what_is_wrong(tmp_path, text, told):
    path = tmp_path / "tables.csv"
    path.write_text(text)
    with pytest.raises(BoneAgeError, match=told):
        load_bayley_pinneau(path)
