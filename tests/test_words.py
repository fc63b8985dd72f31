"""Names, help, errors and pages use the words of the field."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A private word, and what to write in its place.
WORDS = {
    r"--views|\bnum_looks\b|\blooks\b(?! (up|for|at|wrong|their|its)\b)": "test-time augmentation, or augmentation",
    r"\bthin_frame|\bthinn(ed|ing)\b": "subsample",
    r"\brims?\b": "film edge",
    r"\bjournals?\b|\bdelivery\b|\brelays?\b": "outbox, sync, chief",
    r"\bseal(s|ed)?\b": "metadata digest",
    r"\bsettle_\w+": "resolve_*",
    r"\b(Untrusted|Unfit|Diverged|PoolFull)\b": "a name that ends in Error",
    r"\bmale_share\b": "male_probability",
    r"\bwithout it[.;\"]": "(default: ...)",
    r"\bof no use\b": "what was done: discarded, ignored",
    r"\bholds a run\b|\bgo on with it\b": "already contains a run; continue it with --resume",
    r"\bwants? other\b": "was trained with different",
    r"\bblurred away\b": "a patch is blurred",
    r"\b[Oo]f his own\b|\bthat he sees\b": "their own",
    r"\bfor each in\b|\blambda \*?each\b": "the name of the item",
}
# Where a word is a name from outside, or the old name that a comparison begins from.
ALLOWED = {Path("tests/test_words.py"), Path("tests/tools/test_golden_run.py")}


@pytest.fixture(scope="module")
def lines():
    """Every line of the code and the pages, by file and number."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    paths = [Path(name) for name in listed.stdout.splitlines()]
    paths = [
        path
        for path in paths
        if path.suffix in (".cfg", ".html", ".js", ".md", ".py", ".toml", ".yaml")
        and not path.is_relative_to("experiments/history")
        and path not in ALLOWED
    ]
    return [
        (f"{path}:{number}", line)
        for path in paths
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1)
    ]


@pytest.mark.parametrize(("word", "instead"), WORDS.items())
def test_no_private_word_is_used(lines, word, instead):
    found = [f"{place}: {line.strip()}" for place, line in lines if re.search(word, line)]
    assert not found, f"write {instead} in place of: {found}"
