import re

import nbformat
import pytest
from nbclient import NotebookClient

from boneage.base.progress import report_progress, show_progress


@pytest.fixture(scope="module")
def run_notebook():
    """A function that runs cells in a kernel of their own and gives the outputs of the last."""

    def run(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        return NotebookClient(notebook, kernel_name="python3").execute().cells[-1].outputs

    return run


def test_report_progress_calls_the_function_of_the_caller(capsys):
    told = []
    with report_progress(lambda *counts: told.append(counts), "Reading") as report:
        report(1, 2)
    assert told == [(1, 2)]
    assert capsys.readouterr() == ("", "")


def test_report_progress_shows_nothing_outside_a_notebook(capsys):
    with report_progress(None, "Reading") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


def test_show_progress_is_on_standard_error(capsys):
    with show_progress("Reading", quiet=False) as report:
        report(1, 2)
        report(2, 2)
    told = capsys.readouterr()
    assert re.search(r"Reading .* 2/2", told.err)
    assert told.out == ""


def test_show_progress_shows_nothing_without_a_report(capsys):
    with show_progress("Reading", quiet=False):
        pass
    assert capsys.readouterr() == ("", "")


def test_report_progress_shows_one_bar_in_a_notebook(run_notebook):
    outputs = run_notebook(
        "from boneage.base.progress import report_progress\n"
        "with report_progress(None, 'Reading') as report:\n"
        "    for finished in range(41):\n"
        "        report(finished, 40)"
    )
    assert [output.output_type for output in outputs] == ["display_data"]
    assert re.search("Reading .*40/40", outputs[0].data["text/plain"])
    assert "40/40" in outputs[0].data["text/html"]


def test_prepare_shows_its_progress_in_a_notebook(run_notebook, drawn, tmp_path):
    """With worker processes, which have no notebook of their own."""
    outputs = run_notebook(
        "import boneage\nfrom boneage.preprocessing.config import PreprocessingConfig",
        f"made = boneage.prepare({str(drawn)!r}, out={str(tmp_path / 'records')!r}, split='random', workers=2, "
        "config=PreprocessingConfig(segmenter='none', image_size_px=32))",
    )
    assert [output.output_type for output in outputs] == ["display_data"]
    assert re.search("Preparing .*40/40", outputs[0].data["text/plain"])
