"""The README and the pages of docs/ say what the code does: every line on them that can be run is run or checked."""

import configparser
import functools
import inspect
import re
import runpy
import shlex
import shutil
import unittest.mock
from pathlib import Path

import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

import boneage
from boneage.cli.main import app
from boneage.cli.options import read_preprocessing
from boneage.configuration.experiment import load_experiment
from boneage.configuration.settings import COMMANDS, list_settings, read_argument_descriptions
from boneage.inference.growth_reference import BRUSH_FOUNDATION
from boneage.inference.messages import REASONS
from boneage.preprocessing.synthetic import draw_radiograph

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
START = "docs/getting-started.md"
# Other files whose command lines must be valid, as must be those in the head of each recipe.
CARDS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments" / "README.md",
    *ROOT.glob("boneage/bundles/*/README.md"),
    ROOT / "preprocessing/weights/README.md",
]
RECIPES = sorted((ROOT / "experiments").rglob("*.toml"))
COMMAND = typer.main.get_command(app)
PAGES = runpy.run_path(str(ROOT / "docs" / "pages.py"))
COMMANDS_BY_NAME = PAGES["flatten_commands"](COMMAND)
# What the shell itself, and programs of others, are asked on the pages.
OTHER_WORDS = {
    "cd",
    "cp",
    "curl",
    "docker",
    "done",
    "export",
    "for",
    "git",
    "mkdir",
    "mlflow",
    "openssl",
    "pre-commit",
    "sudo",
    "wait",
}


def find_blocks(language):
    texts = {**TEXTS, **{path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in CARDS}}
    return [
        (name, block)
        for name, text in texts.items()
        for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def split_lines(blocks):
    """Return page and words of every command, without comments and what the shell does; 1 stands for each variable."""
    for name, block in blocks:
        for line in block.splitlines():
            words = [
                word for word in shlex.split(re.sub(r"\$\w+", "1", line), comments=True) if word not in ("&", "&&")
            ]
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield name, tuple(words)


def find_heads():
    """Return each recipe with the command lines in its head."""
    for path in RECIPES:
        head = re.findall(r"^# +((?:boneage|python) .+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        yield path.relative_to(ROOT).as_posix(), "\n".join(head)


LINES = sorted({*split_lines(find_blocks("sh")), *split_lines(find_heads())})
COMMAND_LINES = [(name, words[1:]) for name, words in LINES if words[0] == "boneage"]
OTHER_LINES = [(name, words) for name, words in LINES if words[0] != "boneage"]


def name_line(value):
    return value if isinstance(value, str) and "\n" not in value else "-"


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 130


@pytest.mark.parametrize(("page", "words"), COMMAND_LINES, ids=name_line)
def test_every_command_line_is_valid(page, words):
    if words[0].startswith("-"):
        assert any(words[0] in option.opts for option in COMMAND.params)
        return
    command = COMMAND.commands[words[0]]
    while hasattr(command, "commands"):
        words = words[1:]
        command = command.commands[words[0]]
    given = command.make_context(words[0], list(words[1:])).params
    if "experiment" in given:
        load_experiment(given["experiment"], overrides=given["settings"] or ())
    elif "segmenter" in given:
        read_preprocessing(
            *(given[key] for key in ("segmenter", "sam_model", "sam_checkpoint", "settings")), where=page
        )


@pytest.mark.parametrize(("page", "words"), OTHER_LINES, ids=name_line)
def test_every_other_line_names_what_is_there(page, words):
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[:2] == ("pip", "install"):
        extras = re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
        assert {extra for word in words for extra in re.findall(r"\.\[(\w+)\]", word)} <= set(extras)
        assert all((ROOT / word).is_dir() for word in words if word.startswith("./"))
    else:
        assert Path(words[0]).name in OTHER_WORDS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with drawn radiographs in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-radiographs").mkdir()
    for name in ("hand.png", "my-radiographs/1.png"):
        Image.fromarray(draw_radiograph(120, sex="female", seed=7).pixels).save(tmp_path / name)
    (tmp_path / "sex.csv").write_text("id,sex\n1,female\n", encoding="utf-8")
    shutil.copy(BRUSH_FOUNDATION, tmp_path / "our-children.csv")
    return tmp_path


@pytest.mark.parametrize("words", [words for page, words in COMMAND_LINES if page == START and words[0] == "predict"])
def test_the_first_predictions_run(words, folder):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert re.search(r"^(hand|1): \d+\.\d months", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(("page", "block"), find_blocks("python"), ids=name_line)
def test_every_python_block_runs(page, block, folder, monkeypatch):
    """Predictions by the included model are real; where records or runs are asked for, the arguments are checked."""
    called = set(re.findall(r"boneage\.(\w+)\(", block))
    assert called <= set(boneage.__all__)
    is_run = called <= {"load", "predict"}
    if not is_run:
        for name in called:
            monkeypatch.setattr(boneage, name, unittest.mock.create_autospec(getattr(boneage, name)))
    names = {}
    exec(block, names)
    if "answers" in names and is_run:
        assert names["answers"]["accepted"].all()
        assert names["answers"]["bone_age_months"].between(0, 240).all()


@pytest.mark.parametrize("name", sorted(COMMANDS_BY_NAME))
def test_every_command_and_option_is_documented(name):
    guide = "\n".join(text for page, text in TEXTS.items() if page not in ("README.md", "docs/commands.md"))
    assert re.search(rf"(boneage|make) {name}\b", guide), f"no page shows `boneage {name}`"
    for option in COMMANDS_BY_NAME[name].params:
        if option.param_type_name == "option":
            assert any(re.search(rf"{word}\b", guide) for word in option.opts), f"no page tells of {name} {option.opts}"


def test_the_page_of_commands_lists_all_of_them():
    filled = PAGES["fill_in"](TEXTS["docs/commands.md"])
    for name, command in COMMANDS_BY_NAME.items():
        section = filled.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert command.help in section
        for parameter in command.params:
            assert parameter.help.replace("`", "") in section.replace("`", "")


def test_the_page_of_settings_lists_every_key():
    filled = PAGES["fill_in"](TEXTS["docs/settings.md"])
    for command in COMMANDS:
        for setting in list_settings(command):
            assert f"| `{setting.key}` | {setting.type} |" in filled


def test_every_extra_is_explained():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    table = TEXTS[START].partition("| Extra |")[2].partition("\n\n")[0]
    explained = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert explained == set(settings["options.extras_require"])


def test_every_reason_is_explained():
    sources = [*(ROOT / "boneage").rglob("*.py"), *(ROOT / "preprocessing").rglob("*.py")]
    reasons = {code for path in sources for code in re.findall(r'reason="(\w+)"', path.read_text(encoding="utf-8"))}
    assert len(reasons) > 20
    assert (reasons | set(REASONS)) - set(re.findall(r"`(\w+)`", TEXTS["docs/hand.md"])) == set()


@pytest.mark.parametrize("name", boneage.__all__)
def test_the_python_api_is_documented(name):
    assert re.search(rf"^\.\. auto\w+:: boneage\.{name}$", TEXTS["docs/api.md"], re.MULTILINE)
    thing = getattr(boneage, name)
    described = read_argument_descriptions(inspect.getdoc(thing))
    assert set(inspect.signature(thing).parameters) == set(described)
    assert all(described.values())


def test_addresses_in_the_repository_exist():
    found = 0
    for text in TEXTS.values():
        raw = r"https://raw\.githubusercontent\.com/boneage/boneage/main/([^)\s]+)"
        for path in re.findall(rf"{re.escape(PAGES['REPOSITORY'])}(?:blob|tree)/main/([^)#\s]+)|{raw}", text):
            assert (ROOT / "".join(path)).exists(), path
            found += 1
    assert found > 10


def test_a_link_to_nothing_is_told(tmp_path):
    told = []
    resolve = functools.partial(PAGES["resolve_links"], folder=ROOT / "docs", complain=told.append)
    assert (
        resolve("[a](rsna.md#train) [b](../LICENSE)")
        == "[a](/rsna.md#train) [b](https://github.com/boneage/boneage/blob/main/LICENSE)"
    )
    assert resolve("[c](../tfrecords/README.md#fields)") == "[c](/records.md)"
    assert told == []
    resolve("[d](../LICENCE) [e](../tfrecords/README.md#felds)")
    assert told == [
        "link to a file that does not exist: LICENCE",
        "link to a heading that does not exist: tfrecords/README.md#felds",
    ]


def test_the_figure_is_that_of_its_script():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["draw"]()
    assert (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8") == drawn


def test_the_rooms_of_the_text_exist():
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*)/?`", TEXTS["docs/architecture.md"].partition("## The rooms")[0]))
    assert len(named) > 20
    for name in named - {"recipes"}:  # which lie in experiments/
        places = (ROOT / name, ROOT / "boneage" / name, ROOT / "boneage" / f"{name}.py", ROOT / f"{name}.py")
        assert any(place.exists() for place in places), name
