"""The pages of the experiments and the model cards: their links resolve, and the cards state the terms of use."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CARDS = sorted([*ROOT.glob("boneage/bundles/*/README.md"), ROOT / "preprocessing/weights/README.md"])
PAGES = [*sorted(ROOT.glob("experiments/**/*.md")), *CARDS, ROOT / "boneage/models/weights/README.md"]


def find_broken_links(page: Path) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in links if "://" not in link and not link_resolves(page, link)]


def link_resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in list_anchors(target))


def list_anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    assert find_broken_links(page) == []


def test_finds_links_that_do_not_resolve(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page, here\n[a](page.md#a-page-here) [b](#elsewhere) [c](missing.md) [d](https://example.org/e)"
    )
    assert find_broken_links(page) == ["#elsewhere", "missing.md"]


def test_history_lists_its_pages():
    folder = ROOT / "experiments" / "history"
    listed = set(re.findall(r"\]\((\w+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_the_page_of_the_experiments_is_short():
    assert len((ROOT / "experiments" / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.relative_to(ROOT)))
def test_cards_state_the_terms_of_use(card):
    text = card.read_text(encoding="utf-8")
    assert "- Code: Apache-2.0." in text
    assert "**for research only, not for commercial use**" in text
    assert "**Not a medical device**" in text
