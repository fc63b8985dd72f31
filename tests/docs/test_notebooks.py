"""The notebooks run from the first cell to the last, on drawn hands, and show nothing that libraries say."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import boneage

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
# What makes a run of minutes out of one of hours: added below the cell that a reader changes.
SHORT = {
    "first_answer": "",
    "own_hospital": "num_drawn = 50",
    "train_on_rsna": 'num_drawn, settings = 50, ["epochs=2", "input_size=96", "head_epochs=0", "batch_size=8"]',
}
BADGE = "https://colab.research.google.com/github/boneage/boneage/blob/main/docs/notebooks"


def read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def has_tag(cell, tag):
    return tag in cell.metadata.get("tags", [])


def run(name, folder):
    """Run a notebook in a folder, without its installation, and give its cells of code."""
    notebook = read(name)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and not has_tag(cell, "install")]
    place = next(number for number, cell in enumerate(notebook.cells, start=1) if has_tag(cell, "parameters"))
    notebook.cells.insert(place, nbformat.v4.new_code_cell(SHORT[name]))
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells


def test_every_notebook_is_run():
    assert set(NOTEBOOKS) == set(SHORT)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_in_colab(name):
    first, second = read(name).cells[:2]
    assert f"({BADGE}/{name}.ipynb)" in first.source
    assert "not a medical device" in first.source
    assert has_tag(second, "install")
    assert re.search(r"^%pip install --quiet .*github\.com/boneage/boneage", second.source)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_links_of_a_notebook_lead_somewhere(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path = link.partition("#")[0].removeprefix("https://github.com/boneage/boneage/blob/main/")
        if "://" not in path:
            assert (ROOT / path).is_file() or (FOLDER / path).is_file(), link


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_calls_what_there_is(name):
    code = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "code")
    called = set(re.findall(r"\bboneage\.(\w+)\(", code))
    assert called
    assert called <= set(boneage.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_without_noise_of_libraries(name, tmp_path):
    cells = run(name, tmp_path)
    outputs = [output for cell in cells for output in cell.outputs]
    texts = "".join(output.text for output in outputs if output.output_type == "stream")
    lines = re.split(r"[\r\n]+", re.sub(r"\x08+|\x1b\[\d+m", "", texts))
    # Keras shows the progress of the training.
    assert [line for line in lines if line and not re.fullmatch(r"(Epoch )?\d+/\d+( ━.*)?", line)] == []
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert any("image/png" in data for data in shown)
    assert all(len(data["text/plain"]) < 2000 for data in shown if not {"text/html", "image/png"} & data.keys())
