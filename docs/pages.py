"""What the pages do not say themselves: commands, settings and rooms, read from the code; and where links lead."""

import ast
import configparser
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/boneage/boneage/"
# Files outside docs/ that are pages of the site.
_PAGES = {
    "CHANGELOG.md": "/changelog.md",
    "CONTRIBUTING.md": "/contributing.md",
    "tfrecords/README.md": "/records.md",
    "boneage/bundles/default/README.md": "/model-cards.md",
    "boneage/bundles/default_sex/README.md": "/model-cards.md",
    "preprocessing/weights/README.md": "/model-cards.md",
    "boneage/models/weights/README.md": "/model-cards.md",
}
_LINK = re.compile(r"\]\((?![a-z]+:)([^()#\s]*)(#[^()\s]*)?\)")
_GENERATED = re.compile(r"^```\{(commands|settings|rooms)\} ?(.*)\n```$", re.MULTILINE)


def resolve_links(text: str, *, folder: Path, complain: Callable[[str], object]) -> str:
    """Let links to files of the repository lead to their page, or else to the repository.

    Args:
        text: Markdown.
        folder: Folder of the file that it comes from.
        complain: Told one line for each link that leads nowhere.
    """

    def resolve(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if not path:
            return match[0]
        target = (folder / path).resolve()
        if target.is_relative_to(DOCS):
            return f"](/{target.relative_to(DOCS).as_posix()}{anchor})"
        name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else path
        if not target.exists():
            complain(f"link to a file that does not exist: {name}")
        elif anchor and anchor[1:] not in find_anchors(target.read_text(encoding="utf-8")):
            complain(f"link to a heading that does not exist: {name}{anchor}")
        if name in _PAGES:
            return f"]({_PAGES[name]})"
        return f"]({REPOSITORY}{'tree' if target.is_dir() else 'blob'}/main/{name}{anchor})"

    return _LINK.sub(resolve, text)


def find_anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fill_in(text: str) -> str:
    """Put the tables that are generated in the place of the blocks that ask for them."""
    return _GENERATED.sub(lambda match: _GENERATORS[match[1]](*match[2].split()), text)


def list_commands() -> str:
    """List the commands with their arguments and options, as Markdown."""
    import typer.main

    from boneage.cli.main import app

    group = typer.main.get_command(app)
    parts = [_tabulate(("Option", "Meaning"), [_describe_parameter(option) for option in group.params])]
    for name, command in flatten_commands(group).items():
        rows = [_describe_parameter(parameter) for parameter in command.params]
        parts += [f"## {name}", command.help, _tabulate(("Argument or option", "Meaning"), rows)]
    return "\n\n".join(parts)


def flatten_commands(group: Any) -> dict[str, Any]:
    """Return the commands of a group by name; those of a group within it by both names, such as `reference fit`."""
    commands = {}
    for name, command in group.commands.items():
        inner = flatten_commands(command) if hasattr(command, "commands") else {"": command}
        commands |= {f"{name} {own}".strip(): found for own, found in inner.items()}
    return commands


def _describe_parameter(parameter: Any) -> tuple[str, str]:
    """Name an argument or option of a command, and say what it means, with its default."""
    meaning = re.sub(r"(?<![\w`-])(--[a-z][\w-]*)", r"`\1`", parameter.help)
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`", meaning
    hidden = parameter.required or parameter.default is None or parameter.default is False or parameter.default == ""
    default = "" if hidden else f" Default: `{parameter.default}`."
    return " ".join(f"`{name}`" for name in parameter.opts), meaning + default


def list_settings(command: str, table: str = "") -> str:
    """List the keys that `--set` takes in a command, as Markdown.

    Args:
        command: Name of the command.
        table: Table of the keys that are listed, such as `"train."`; all without one.
    """
    from boneage.configuration import settings

    rows = [
        (f"`{setting.key}`", setting.type, f"`{json.dumps(setting.default)}`", setting.description)
        for setting in settings.list_settings(command)
        if setting.key.startswith(table)
    ]
    return _tabulate(("Key", "Type", "Default", "Meaning"), rows)


def list_rooms(contract: str) -> str:
    """List the rooms that an import contract puts in layers, from the top, as Markdown.

    Args:
        contract: Name of the contract in `setup.cfg`.
    """
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = settings[f"importlinter:contract:{contract}"]
    package = layers["containers"].strip()
    folders = dict(line.split(" = ") for line in settings["options"]["package_dir"].strip().splitlines())
    rows = []
    for name in re.findall(r"(?<!_)\b[a-z]\w*", layers["layers"]):
        path = _find_source(f"{package}.{name}", folders=folders)
        modules = [module.stem for module in sorted(path.glob("*.py")) if module.stem != "__init__"]
        modules += [f"{folder.parent.name}/" for folder in sorted(path.glob("*/__init__.py"))]
        summary = _read_summary(path / "__init__.py" if path.is_dir() else path)
        rows.append((f"`{path.relative_to(ROOT).as_posix()}`", summary, ", ".join(modules)))
    return _tabulate(("Room", "What it does", "Modules"), rows)


def _find_source(name: str, *, folders: Mapping[str, str]) -> Path:
    """Return the folder of a package, or the file of a module.

    Args:
        name: Its dotted name.
        folders: Where packages lie in the repository, as setuptools reads it.
    """
    package = max((candidate for candidate in folders if f"{name}.".startswith(f"{candidate}.")), key=len)
    path = ROOT.joinpath(folders[package], *name.removeprefix(package).strip(".").split("."))
    return path if path.is_dir() else path.with_suffix(".py")


def _read_summary(path: Path) -> str:
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if text is None:
        raise ValueError(f"{path}: no docstring; write a line of what the room does.")
    return text.partition("\n")[0]


def _tabulate(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


_GENERATORS: dict[str, Callable[..., str]] = {
    "commands": list_commands,
    "settings": list_settings,
    "rooms": list_rooms,
}
