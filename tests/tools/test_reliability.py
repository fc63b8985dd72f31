"""The tool that disturbs commands: it finds what does not survive, and the page says what it found."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ["prepare", "segment", "predict", "train", "tune", "review", "watch"]
# Writes one line a step. The careless one loses a line at each start, and says a traceback of Ctrl-C.
PROGRAM = """
import pathlib, sys, time
place, is_careful = pathlib.Path(sys.argv[1]), sys.argv[2] == "careful"
path = place / "lines.txt"
lines = path.read_text().splitlines() if path.exists() else []
if lines and not is_careful:
    lines.pop(0)
try:
    for number in range(len(lines), 20):
        lines.append(str(number))
        part = place / "lines.part"
        part.write_text("".join(f"{line}\\n" for line in lines))
        part.replace(path)
        time.sleep(0.03)
except KeyboardInterrupt:
    if not is_careful:
        raise
    print("boneage: interrupted", file=sys.stderr)
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def tools():
    """The modules of the tool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        names = ("reliability", "survival.commands", "survival.faults", "survival.process")
        yield dict(
            zip(("reliability", "commands", "faults", "process"), map(importlib.import_module, names), strict=True)
        )


@pytest.fixture
def disturb(tools, tmp_path):
    """A function that prepares a small program to be disturbed."""

    def make(kind):
        command = tools["commands"].Command(
            kind,
            tmp_path,
            lambda source, place: (sys.executable, "-c", PROGRAM, str(place), kind),
            lambda place: (place / "lines.txt").read_text(),
        )
        return tools["faults"].Disturbed(command, tmp_path / "disturbed", seed=1)

    return make


def test_careful_program_survives(disturb):
    careful = disturb("careful")
    careful.kill(6)
    careful.interrupt()


@pytest.mark.parametrize(("fault", "message"), [("kill", "result: "), ("interrupt", "KeyboardInterrupt")])
def test_careless_program_is_found_out(tools, disturb, fault, message):
    careless = disturb("careless")
    with pytest.raises(tools["process"].SurvivalError, match=message):
        careless.kill(6) if fault == "kill" else careless.interrupt()


def test_find_difference_names_the_place(tools):
    find = tools["faults"].find_difference
    assert find({"a": [1.0, "x"]}, {"a": [1.0000001, "x"]}) == ""
    assert find({"a": [1.1]}, {"a": [1.0]}) == "result a 0: 1.1, expected 1.0"
    assert find({"a": 1}, {"b": 1}) == "result: ['a', 'b'] only in one"


def test_render_has_a_table_for_each_file_of_figures(tools, tmp_path):
    for name, rows in (
        ("b", [{"file": "cut.png", "said": "damaged_image"}]),
        ("a", [{"command": "predict"}, {"x": 1}]),
    ):
        section = {"title": f"Part {name}", "about": "What it is.", "rows": rows}
        (tmp_path / f"reliability-{name}.json").write_text(json.dumps(section))
    page = tools["reliability"].render(tmp_path)
    assert page.index("## Part a") < page.index("## Part b")
    assert "| file | said |\n|---|---|\n| cut.png | damaged_image |\n" in page
    assert "| predict | – |\n| – | 1 |\n" in page


def test_page_is_what_the_figures_say(tools):
    reliability = tools["reliability"]
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.render()
    rows = json.loads((reliability.FIGURES / reliability.COMMANDS_FILE).read_text(encoding="utf-8"))["rows"]
    assert [row["command"] for row in rows] == NAMES
    for row in rows:
        for survived in row.values():
            if " of " in survived:
                first, last = survived.split(" of ")
                assert first == last, row


@pytest.fixture(scope="module")
def commands(tools, tmp_path_factory):
    """The commands that the tool disturbs, by their names."""
    made = tools["commands"].make_commands(tmp_path_factory.mktemp("inputs"))
    return {command.name: command for command in made}


@pytest.mark.release
@pytest.mark.parametrize("name", NAMES)
def test_command_survives(tools, commands, tmp_path, name):
    _, lines = tools["reliability"].disturb(commands[name], tmp_path, num_kills=2, seed=7)
    assert [line for line in lines if "not tried" not in line] == []
