"""What the commands survive: kills, Ctrl-C, full disks, second processes, and files that are not what they seem.

    python tools/reliability.py run --kills 10
    python tools/reliability.py inputs
    python tools/reliability.py render

`run` starts the commands on drawings, disturbs them, and compares what they leave with what they leave undisturbed. It
writes `experiments/figures/reliability-commands.json` and takes about 15 minutes of processor time; a full disk needs
root. `inputs` runs the tests of bad inputs and writes `reliability-inputs.json`. `render` writes `docs/reliability.md`
from all files `experiments/figures/reliability-*.json`, sorted by name. Each holds a `title`, a text `about` its table,
and `rows`, dictionaries with the same keys.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from survival import inputs
from survival.commands import Command, make_commands
from survival.faults import Disturbed
from survival.process import SurvivalError

ROOT = Path(__file__).parents[1]
FIGURES, PAGE = ROOT / "experiments" / "figures", ROOT / "docs" / "reliability.md"
PREFIX, COMMANDS_FILE, INPUTS_FILE = "reliability-", "reliability-commands.json", "reliability-inputs.json"
NUM_INTERRUPTS = 2
NOT_TRIED = "–"
HEAD = """# Reliability

What the commands were put through, and what they survived. This page is written by a command that does it all again:

```sh
python tools/reliability.py run --kills 10
python tools/reliability.py inputs
python tools/reliability.py render
```
"""
ABOUT = (
    "Each command works on drawings. Survived means: it ends with one line that says what is wrong, or goes on; the "
    "same command then leaves what it leaves undisturbed, nothing is lost or there twice, and no temporary file is "
    "left. Kills are `kill -9` at random moments of its work, up to five in a row. The numbers are survived of tried."
)

Row = dict[str, Any]


def list_faults(command: Command, *, num_kills: int) -> dict[str, tuple[int, Callable[[Disturbed], None]]]:
    """Return the faults of a command by their headings: how often each is tried, and how."""
    faults: dict[str, tuple[int, Callable[[Disturbed], None]]] = {
        "kill -9": (num_kills, lambda disturbed: disturbed.kill(num_kills)),
        "Ctrl-C": (NUM_INTERRUPTS, Disturbed.interrupt),
        "disk full": (1, Disturbed.fill_disk),
        "two at once": (1, Disturbed.run_twice_at_once),
    }
    if command.rows is not None:
        faults |= {
            "file vanishes": (1, Disturbed.remove_a_file),
            "folder not UTF-8": (1, Disturbed.rename_to_no_utf8),
            "named pipe": (1, Disturbed.add_a_pipe),
        }
    return faults


def disturb(
    command: Command, folder: Path, *, num_kills: int, seed: int, headings: Sequence[str] = ()
) -> tuple[Row, list[str]]:
    """Disturb a command.

    Args:
        command: The command.
        folder: Folder for its outputs.
        num_kills: Number of kills.
        seed: Seed of the moments.
        headings: The faults to try, as in `list_faults` (default: all).

    Returns:
        Its row of the table, and one line for each fault that it did not survive or that was not tried.
    """
    disturbed, row, lines = Disturbed(command, folder, seed=seed), {"command": command.name}, []
    for heading, (num_tried, attempt) in list_faults(command, num_kills=num_kills).items():
        if headings and heading not in headings:
            continue
        began, survived = time.monotonic(), 0
        repeats = 1 if heading == "kill -9" else num_tried
        try:
            for _ in range(repeats):
                attempt(disturbed)
                survived += num_tried // repeats
            row[heading] = f"{survived} of {num_tried}"
        except PermissionError as error:
            row[heading] = NOT_TRIED
            lines.append(f"{command.name}, {heading}: not tried, {error}")
        except (SurvivalError, OSError, KeyError, ValueError) as error:
            row[heading] = f"{survived} of {num_tried}"
            lines.append(f"{command.name}, {heading}: {type(error).__name__}: {error}")
        sys.stderr.write(f"{command.name}, {heading}: {row[heading]} in {time.monotonic() - began:.0f} s\n")
    return row, lines


def write_row(row: Row, *, seed: int) -> None:
    """Write the row of a command into the figures; columns that it lacks stay as they were."""
    path = FIGURES / COMMANDS_FILE
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    places = {known["command"]: number for number, known in enumerate(rows)}
    number = places.get(row["command"], len(rows))
    known = rows[number] if number < len(rows) else {}
    rows = [*rows[:number], {**known, **row}, *rows[number + 1 :]]
    write_figures(COMMANDS_FILE, title="Kills and faults", about=ABOUT, rows=rows, more=f", seed {seed}")


def write_figures(name: str, *, title: str, about: str, rows: Sequence[Row], more: str = "") -> None:
    """Write a file of figures, with the machine that they were measured on and what `more` says."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    version = importlib.metadata.version("boneage")
    figures = {"title": title, "about": about, "rows": rows, "machine": f"{machine}, boneage {version}{more}"}
    (FIGURES / name).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def render(figures: Path = FIGURES) -> str:
    """Return the page with one table for each file of figures."""
    sections = [HEAD]
    for path in sorted(figures.glob(f"{PREFIX}*.json")):
        section = json.loads(path.read_text(encoding="utf-8"))
        headings = list(dict.fromkeys(key for row in section["rows"] for key in row))
        lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
        lines += [f"| {' | '.join(str(row.get(key, NOT_TRIED)) for key in headings)} |" for row in section["rows"]]
        sections.append(f"## {section['title']}\n\n{section['about']}\n\n" + "\n".join(lines) + "\n")
        if "machine" in section:
            sections.append(f"Measured on: {section['machine']}.\n")
    return "\n".join(sections)


def main() -> int:
    """Read the arguments; run or render."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="task", required=True)
    running = commands.add_parser("run", help="disturb the commands and write the figures")
    running.add_argument("--kills", type=int, default=10, help="kills of each command (default: 10)")
    running.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    running.add_argument(
        "--only", action="append", default=[], metavar="COMMAND", help="only this command; may be repeated"
    )
    running.add_argument("--fault", action="append", default=[], help="only this column; may be repeated")
    commands.add_parser("inputs", help="run the tests of bad inputs and write the figures")
    commands.add_parser("render", help="write the page from the figures")
    options = parser.parse_args()
    if options.task == "render":
        PAGE.write_text(render(), encoding="utf-8")
        return 0
    if options.task == "inputs":
        write_figures(INPUTS_FILE, title="Bad inputs", about=inputs.ABOUT, rows=inputs.count_inputs())
        return 0
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for command in make_commands(folder):
            if not options.only or command.name in options.only:
                row, more = disturb(
                    command,
                    folder / "disturbed",
                    num_kills=options.kills,
                    seed=options.seed,
                    headings=options.fault,
                )
                write_row(row, seed=options.seed)
                lines += more
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return 1 if any("not tried" not in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
