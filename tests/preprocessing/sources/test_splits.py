from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.preprocessing.sources.cells import UnreadableTableError
from boneage.preprocessing.sources.rejections import InvalidEntryError
from boneage.preprocessing.sources.sources import Case
from boneage.preprocessing.sources.splits import AGE_BAND_MONTHS, assign_splits, parse_fold, read_split_file
from boneage.tfrecords.schema import SPLITS


def make_case(id, *, split=None, patient=None, sex="female", months=100.0):
    return Case(id, Path(f"{id}.png"), sex=sex, bone_age_months=months, patient=patient, split=split)


def hashes_of(cases, **equal):
    """Give every case pixels of its own, but those named in `equal`."""
    return {case.id: equal.get(case.id, case.id) for case in cases}


@st.composite
def fields_with_hashes(draw):
    """Draw the fields of cases that share few patients and pixels, some of them without label or split.

    The cases are made in the tests, by `make_drawn`: the check of their types takes random numbers of its own, which no
    strategy may.
    """
    fields = [
        {
            "id": f"{index:02d}",
            "path": Path(f"{index:02d}.png"),
            "sex": draw(st.sampled_from(["female", "male", None])),
            "bone_age_months": draw(st.none() | st.floats(1, 228)),
            "patient": draw(st.none() | st.sampled_from("ABCDEF")),
            "split": draw(st.none() | st.sampled_from(SPLITS)),
        }
        for index in range(draw(st.integers(0, 25)))
    ]
    return fields, {case["id"]: draw(st.sampled_from([case["id"], "p", "q", "r"])) for case in fields}


def make_drawn(drawn):
    fields, hashes = drawn
    return [Case(**case) for case in fields], hashes


SPLIT_KINDS = st.sampled_from(["given", "random", "1/3"])


@settings(deadline=None, max_examples=50)
@given(fields_with_hashes(), SPLIT_KINDS, st.integers(0, 3))
def test_every_id_once_and_no_patient_or_pixels_in_two_splits(drawn, split, seed):
    cases, hashes = make_drawn(drawn)
    result = assign_splits(cases, hashes, split=split, seed=seed)
    rejected = [rejection.id for rejection in result.rejections]
    assert sorted([*result.splits, *rejected]) == [case.id for case in cases]
    splits_of = defaultdict(set)
    for case in cases:
        if case.id in result.splits:
            splits_of["pixels", hashes[case.id]].add(result.splits[case.id])
            if case.patient:
                splits_of["patient", case.patient].add(result.splits[case.id])
            splits_of["group", result.groups[case.id]].add(result.splits[case.id])
    assert all(len(splits) == 1 for splits in splits_of.values())


@settings(deadline=None, max_examples=50)
@given(fields_with_hashes(), SPLIT_KINDS, st.randoms())
def test_order_changes_nothing(drawn, split, random):
    cases, hashes = make_drawn(drawn)
    shuffled = random.sample(cases, len(cases))
    assert assign_splits(shuffled, hashes, split=split) == assign_splits(cases, hashes, split=split)


@settings(deadline=None, max_examples=50)
@given(fields_with_hashes())
def test_given_test_split_stays_untouched(drawn):
    cases, hashes = make_drawn(drawn)
    result = assign_splits(cases, hashes)
    labelled = [case for case in cases if case.bone_age_months is not None]
    assert all(result.splits[case.id] == "test" for case in labelled if case.split == "test")
    assert all(result.splits.get(case.id) in (None, case.split) for case in cases)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(1, 228), st.sampled_from(["female", "male"])), max_size=60),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
)
def test_shares_are_met_to_about_a_group(groups, validation_share, test_share):
    cases = [
        make_case(f"{index}-{copy}", patient=str(index), sex=sex, months=months)
        for index, (size, months, sex) in enumerate(groups)
        for copy in range(size)
    ]
    result = assign_splits(
        cases, hashes_of(cases), split="random", validation_share=validation_share, test_share=test_share
    )
    counts = Counter(result.splits.values())
    shares = {"train": 1 - validation_share - test_share, "validation": validation_share, "test": test_share}
    largest = max((size for size, _, _ in groups), default=0)
    for name, share in shares.items():
        # A split chosen is behind by a third of the group at least, so it overshoots by two thirds at most.
        assert counts[name] - share * len(cases) <= 2 / 3 * largest + 1e-9
        assert share * len(cases) - counts[name] <= 4 / 3 * largest + 1e-9


class TestRandom:
    cases = tuple(
        make_case(f"{index}", sex=("female", "male")[index % 2], months=1.0 + index * 7 % 228) for index in range(2000)
    )

    def test_every_sex_and_age_band_has_its_share(self):
        result = assign_splits(self.cases, hashes_of(self.cases), split="random", validation_share=0.2, test_share=0.1)
        bands = defaultdict(Counter)
        for case in self.cases:
            bands[case.sex, case.bone_age_months // AGE_BAND_MONTHS][result.splits[case.id]] += 1
        assert len(bands) == 20
        for counts in bands.values():
            num_cases = sum(counts.values())
            assert abs(counts["validation"] - 0.2 * num_cases) <= 2
            assert abs(counts["test"] - 0.1 * num_cases) <= 2

    def test_seed_decides(self):
        def run(seed):
            return assign_splits(self.cases, hashes_of(self.cases), split="random", seed=seed).splits

        first, second = run(1), run(2)
        assert first == run(1)
        same = sum(first[case.id] == second[case.id] for case in self.cases)
        # Independent divisions of 80, 10 and 10% agree on 66%.
        assert 0.6 < same / len(self.cases) < 0.72

    def test_share_of_zero_stays_empty(self):
        result = assign_splits(self.cases, hashes_of(self.cases), split="random", test_share=0.0)
        assert Counter(result.splits.values()) == {"train": 1800, "validation": 200}

    def test_folds_share_nothing_and_leave_nothing_out(self):
        held_out = []
        for number in range(1, 6):
            splits = assign_splits(self.cases, hashes_of(self.cases), split=f"{number}/5").splits
            assert Counter(splits.values()) == {"train": 1600, "validation": 400}
            held_out += [id for id, split in splits.items() if split == "validation"]
        assert sorted(held_out) == sorted(case.id for case in self.cases)

    def test_there_is_no_sixth_of_five_folds(self):
        assert parse_fold("random") is None and parse_fold("2/5") == (2, 5)
        for split in ("6/5", "0/5", "1/1"):
            with pytest.raises(ValueError, match="must name a fold such as"):
                parse_fold(split)

    def test_given_splits_do_not_count(self):
        cases = [make_case(str(index), split="test") for index in range(10)]
        assert Counter(assign_splits(cases, hashes_of(cases), split="random").splits.values())["train"] == 8


class TestGiven:
    def test_copies_across_splits(self):
        cases = [make_case("a", split="train"), make_case("b", split="validation"), make_case("c", split="test")]
        result = assign_splits(cases, hashes_of(cases, a="p", b="p", c="p"))
        assert result.splits == {"c": "test"}
        assert [(rejection.id, rejection.file, rejection.reason) for rejection in result.rejections] == [
            ("a", "a.png", "duplicate"),
            ("b", "b.png", "duplicate"),
        ]
        assert "'c' in test" in result.rejections[0].detail
        assert result.duplicates == [["a", "b", "c"]]

    def test_copies_within_a_split_are_kept_and_reported(self):
        cases = [make_case("b", split="train"), make_case("a", split="train"), make_case("c", split="test")]
        result = assign_splits(cases, hashes_of(cases, a="p", b="p"))
        assert result.splits == {"a": "train", "b": "train", "c": "test"}
        assert result.rejections == []
        assert result.duplicates == [["a", "b"]]

    def test_patient_across_splits(self):
        cases = [make_case("a", split="train", patient="P"), make_case("b", split="validation", patient="P")]
        result = assign_splits(cases, hashes_of(cases))
        assert result.splits == {"b": "validation"}
        assert [(rejection.id, rejection.reason) for rejection in result.rejections] == [("a", "same_patient")]
        assert "'b' in validation" in result.rejections[0].detail

    def test_groups_are_patients_and_copies(self):
        cases = [
            make_case(id, patient=patient)
            for id, patient in zip("abcdef", ["P", "Q", "P", None, None, "R"], strict=True)
        ]
        hashes = hashes_of(cases, d="p", f="p")
        numbers = assign_splits(cases, hashes, split="random").groups
        assert sorted(set(numbers.values())) == [0, 1, 2, 3]
        assert numbers["a"] == numbers["c"] and numbers["d"] == numbers["f"]
        assert len({numbers[id] for id in "abde"}) == 4
        assert assign_splits(cases, hashes, split="random", seed=1).groups == numbers

    def test_without_split_or_label(self):
        cases = [make_case("a"), make_case("b", split="test", months=None), make_case("c", split="train")]
        result = assign_splits(cases, hashes_of(cases))
        assert result.splits == {"c": "train"}
        assert [(rejection.id, rejection.reason) for rejection in result.rejections] == [
            ("a", "no_split"),
            ("b", "no_label"),
        ]

    def test_copy_of_an_unlabelled_case_stays(self):
        cases = [make_case("a", split="train"), make_case("b", split="test", months=None)]
        assert assign_splits(cases, hashes_of(cases, a="p", b="p")).splits == {"a": "train"}


class TestArguments:
    def test_unknown_split(self):
        with pytest.raises(ValueError, match=r"one of given, random\. Received: 'randon'\. Did you mean 'random'"):
            assign_splits([], {}, split="randon")

    @pytest.mark.parametrize(("validation_share", "test_share"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5)])
    def test_shares(self, validation_share, test_share):
        with pytest.raises(ValueError, match="add up to less than 1"):
            assign_splits([], {}, validation_share=validation_share, test_share=test_share)

    def test_missing_hash(self):
        with pytest.raises(ValueError, match=r"is missing 1 cases.*'a'"):
            assign_splits([make_case("a")], {})


class TestSplitFile:
    def read(self, tmp_path, text):
        path = tmp_path / "split.csv"
        path.write_text(text)
        return read_split_file(path)

    def test_ids_and_file_names(self, tmp_path):
        text = "id,split\n007,train\na/8.png,validation\n9,test\n9,test\n"
        assert self.read(tmp_path, text) == {"007": "train", "8": "validation", "9": "test"}

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("1,val", "split.csv row 3: split is 'val'; .* Did you mean 'validation'"),
            ("1,training", "Did you mean 'train'"),
            ("1,Test", "Did you mean 'test'"),
            ("1,", "blank id or split"),
            (",test", "blank id or split"),
            ("0,test", "'0' is already in train"),
        ],
    )
    def test_bad_rows(self, tmp_path, row, message):
        with pytest.raises(InvalidEntryError, match=message) as caught:
            self.read(tmp_path, f"id,split\n0,train\n{row}\n")
        assert "\n" not in str(caught.value)

    def test_missing_column(self, tmp_path):
        with pytest.raises(UnreadableTableError, match=r"Received: id, fold\. Expected: split as one of split"):
            self.read(tmp_path, "id,fold\n1,train\n")

    def test_missing_file(self, tmp_path):
        with pytest.raises(UnreadableTableError, match="No such file"):
            read_split_file(tmp_path / "split.csv")
