import openpyxl
import pytest

from boneage.studies.adult_height import HeightTableError
from boneage.studies.height_reference import load_height_reference

# Rows of the CDC's statage.csv; some of its tables have their header twice.
CDC = """Sex,Agemos,L,M,S,P3,P50,P97
1,24,0.941523967,86.45220101,0.040321528,79.91084447,86.45220101,93.02265441
1,24.5,1.00720807,86.86160934,0.040395626,80.26037074,86.86160934,93.45923029
1,119.5,0.499652617,138.4142703,0.047491194,126.3272131,138.4142703,151.0538639
Sex,Agemos,L,M,S,P3,P50,P97
2,24,1.07244896,84.97555512,0.040791394,78.43754166,84.97555512,91.47728689
2,24.5,1.051272912,85.3973169,0.040859727,78.82133263,85.3973169,91.94741225
"""
SCORE_OF_P97 = 1.88079


@pytest.fixture
def cdc(tmp_path):
    (tmp_path / "statage.csv").write_text(CDC)
    return load_height_reference([tmp_path / "statage.csv"], name="CDC")


def write_who(path, *rows):
    book = openpyxl.Workbook()
    for cells in (("Month", "L", "M", "S", "SD"), *rows):
        book.active.append(cells)
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("age", "height", "score"),
    [
        (24, 79.91084447, -SCORE_OF_P97),
        (24, 93.02265441, SCORE_OF_P97),
        (24.5, 93.45923029, SCORE_OF_P97),
        (119.5, 126.3272131, -SCORE_OF_P97),
        (119.5, 138.4142703, 0),
    ],
)
def test_sd_score_gives_the_percentiles_of_the_cdc(cdc, age, height, score):
    assert cdc.sd_score(height, chronological_age_months=age, sex="male") == pytest.approx(score, abs=1e-4)


def test_sd_score_tells_the_sexes_apart(cdc):
    assert cdc.sd_score(91.47728689, chronological_age_months=24, sex="female") == pytest.approx(SCORE_OF_P97, abs=1e-4)
    assert cdc.sd_score(84.97555512, chronological_age_months=24, sex="male") < -0.3


def test_sd_score_interpolates_between_ages(cdc):
    middle = cdc.sd_score((86.45220101 + 86.86160934) / 2, chronological_age_months=24.25, sex="male")
    assert middle == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("age", [23.9, 119.6])
def test_sd_score_never_extrapolates(cdc, age):
    assert str(cdc.sd_score(100, chronological_age_months=age, sex="male")) == "nan"
    assert cdc.describe_limits(sex="male") == "the CDC table for boys has ages from 24 to 119.5 months"


def test_load_height_reference_takes_a_file_of_the_who_for_each_sex(tmp_path):
    boys = write_who(tmp_path / "hfa-boys-z-who-2007-exp.xlsx", (120, 1, 137.7795, 0.04626, 6.3737))
    girls = write_who(tmp_path / "hfa-girls-z-who-2007-exp.xlsx", (228, 1, 163.1548, 0.04009, 6.5409))
    who = load_height_reference([boys, girls], name="WHO")
    for height, age, sex in (
        (137.7795 * (1 - 2 * 0.04626), 120, "male"),
        (163.1548 * (1 - 2 * 0.04009), 228, "female"),
    ):
        assert who.sd_score(height, chronological_age_months=age, sex=sex) == pytest.approx(-2)


def test_load_height_reference_takes_days_and_tabs(tmp_path):
    (tmp_path / "lhfa-boys-exp.txt").write_text("Day\tL\tM\tS\n0\t1\t49.8842\t0.03795\n1826\t1\t109.9638\t0.04214\n")
    who = load_height_reference([tmp_path / "lhfa-boys-exp.txt"], name="WHO")
    assert who.sd_score(109.9638, chronological_age_months=1826 * 12 / 365.25, sex="male") == pytest.approx(0)
    assert who.describe_limits(sex="female") == "the WHO table has no girls"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "Sex,Agemos,M,S\n1,24,86,0.04\n", "needs the columns"),
        ("a.csv", "Sex,Agemos,L,M,S\n", "contains no rows"),
        ("a.csv", "Agemos,L,M,S\n24,1,86,0.04\n", "does not say boys or girls"),
        ("boys-girls.csv", "Agemos,L,M,S\n24,1,86,0.04\n", "does not say boys or girls"),
        ("a.csv", "Sex,Agemos,L,M,S\n3,24,1,86,0.04\n", "line 2: needs a sex"),
        ("a.csv", "Sex,Agemos,L,M,S\n1,24,1,86\n", "line 2: needs a sex"),
        ("a.csv", "Sex,Agemos,L,M,S\n1,24,1,86,0\n", "line 2: needs a sex"),
        ("a.csv", "sex,age,l,m,s\n1,1856,1,110,0.04\n", "not in months; name the column Day"),
        ("a.csv", "Sex,Agemos,L,M,S\n1,24,1,86,0.04\n1,24,1,86,0.04\n", "two rows for one age"),
        ("wtage.csv", "Sex,Agemos,L,M,S\n1,24,-0.2,12.7,0.11\n", "no heights in cm"),
    ],
)
def test_load_height_reference_says_what_is_wrong(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(HeightTableError, match=told):
        load_height_reference([tmp_path / name], name="CDC")
