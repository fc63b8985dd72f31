"""Patient numbers that name no patient."""

from pathlib import Path

import pytest

from boneage.preprocessing.sources.patients import MAX_STUDIES_OF_A_CHILD, resolve_patients
from boneage.preprocessing.sources.sources import Case


def make_cases(patients, *, studies=None):
    studies = studies or [f"study {number}" for number in range(len(patients))]
    return [
        Case(f"{number}", Path(f"{number}"), f"{number}", patient=patient, study=study)
        for number, (patient, study) in enumerate(zip(patients, studies, strict=True))
    ]


def test_resolve_patients_keeps_numbers_that_name_patients():
    cases = make_cases(["P", "P", "Q", "R"])
    assert resolve_patients(cases) == (cases, [])


@pytest.mark.parametrize("num_others", [0, 3])
def test_resolve_patients_takes_the_study_for_one_number_for_all(num_others):
    patients = ["P"] * MAX_STUDIES_OF_A_CHILD + [f"Q{number}" for number in range(num_others)]
    studies = [f"study {number}" for number in range(len(patients))]
    cases, [notice] = resolve_patients(make_cases(patients, studies=studies))
    assert [case.patient for case in cases] == [*studies[:MAX_STUDIES_OF_A_CHILD], *patients[MAX_STUDIES_OF_A_CHILD:]]
    assert notice.startswith(
        f"{MAX_STUDIES_OF_A_CHILD} of {len(patients)} radiographs have one PatientID, which names no"
    )


def test_resolve_patients_keeps_a_child_with_many_radiographs_of_few_studies():
    cases = make_cases(["P"] * 30, studies=[f"{number // 10}" for number in range(30)])
    resolved, [notice] = resolve_patients(cases)
    assert resolved == cases
    assert notice.startswith("all 30 radiographs have one PatientID, so that no split divides them;")


def test_resolve_patients_takes_the_study_where_there_is_no_number():
    cases, [notice] = resolve_patients(make_cases([None, None, "P"], studies=["s", "s", "t"]))
    assert [case.patient for case in cases] == ["s", "s", "P"]
    assert notice.startswith("2 of 3 radiographs have no PatientID, or a word for all: each study counts as a patient;")


def test_resolve_patients_without_dicom_says_nothing():
    cases = make_cases([None, None], studies=[None, None])
    assert resolve_patients(cases) == (cases, [])
