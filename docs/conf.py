"""Configuration of Sphinx: `make docs` builds the pages, and every warning is an error."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent))
import pages

project = "boneage"
author = "the boneage authors"
version = release = version_of("boneage")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["build"]
nitpick_ignore_regex = [("py:.*", ".*")]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# Types stand in the annotations, so that a colon under `Returns:` is a colon.
napoleon_custom_sections = [("Returns", "as text")]
# Docstrings write code in single backticks.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"boneage {version}"
html_show_copyright = False
html_theme_options = {
    "source_repository": pages.REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [],
}
copybutton_exclude = ".linenos, .gp, .go"

_log = logging.getLogger(__name__)


def setup(app: Sphinx) -> None:
    """Fill in what is generated, and check what Sphinx does not check itself."""
    app.connect("source-read", _read_page)
    app.connect("include-read", _read_included)
    app.connect("autodoc-process-docstring", _require_docstring)


def _read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    text = pages.fill_in(source[0])
    source[0] = pages.resolve_links(text, folder=(app.srcdir / docname).parent, complain=_log.warning)


def _read_included(app: Sphinx, path: Path, docname: str, source: list[str]) -> None:
    source[0] = pages.resolve_links(source[0], folder=(app.srcdir / path).resolve().parent, complain=_log.warning)


def _require_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if not any(lines):
        _log.warning("%s %s has no docstring", what, name)
