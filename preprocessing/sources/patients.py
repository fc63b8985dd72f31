"""Which radiographs are of one patient, where PatientID does not say so."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from boneage.preprocessing.sources.sources import Case

# A child with so many studies is rare; a source that consists mostly of its radiographs is not plausible.
MAX_STUDIES_OF_A_CHILD = 10


def resolve_patients(cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Give cases without a patient number, or with one that names no patient, their study as patient.

    A number names no patient if more than half of the cases, from at least `MAX_STUDIES_OF_A_CHILD` studies, have it,
    as after an anonymiser that writes one number into all files.

    Args:
        cases: The cases of a source.

    Returns:
        The cases, and a line for the user on what was found.
    """
    studies: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for case in cases:
        if case.patient is not None:
            studies[case.patient].add(case.study or case.id)
            counts[case.patient] += 1
    notices = []
    shared = {
        patient
        for patient, count in counts.items()
        if 2 * count > len(cases) and len(studies[patient]) >= MAX_STUDIES_OF_A_CHILD
    }
    advice = "each study counts as a patient; name the patients in a column `patient` of the table if they have several"
    if shared:
        count = sum(counts[patient] for patient in shared)
        notices.append(f"{count:,} of {len(cases):,} radiographs have one PatientID, which names no patient: {advice}.")
    elif len(counts) == 1 and len(cases) > 1 and sum(counts.values()) == len(cases):
        notices.append(
            f"all {len(cases):,} radiographs have one PatientID, so that no split divides them; if they are of several "
            "patients, name these in a column `patient` of the table."
        )
    if unnamed := sum(case.patient is None and case.study is not None for case in cases):
        notices.append(f"{unnamed:,} of {len(cases):,} radiographs have no PatientID, or a word for all: {advice}.")
    resolved = [
        replace(case, patient=case.study) if case.patient is None or case.patient in shared else case for case in cases
    ]
    return resolved, notices
