"""The first hour of a new user: an empty folder, the installed wheel, and the lines that the pages say to type."""

import contextlib
import os
import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class User:
    """Somebody who has installed the wheel with the extra `serve` and types into a shell.

    Attributes:
        programs: Folder of the programs of the environment.
        folder: The working folder, empty at first.
    """

    programs: Path
    folder: Path

    def types(self, line, *options, page, status=0):
        """Run a line of a page, with more options behind it, and give what it prints on both streams."""
        return self._run(*_find_line(page, line), *options, status=status)

    def runs(self, code):
        """Run Python code in a process of its own and give what it prints."""
        return self._run("python", "-c", code).stdout

    def runs_block(self, page, mark, *, then):
        """Run the Python block of a page that contains `mark`, and more code behind it."""
        blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
        (block,) = [block for block in blocks if mark in block]
        return self.runs(f"{block}\n{then}")

    @contextlib.contextmanager
    def serves(self, line, *, page):
        """Run a line of a page that starts a server, at any free port, and give its address once it is ready."""
        with subprocess.Popen(
            [*_find_line(page, line), "--port", "0"],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                address = re.search(r"http://[\w.:]+", server.stdout.readline())[0]
                until = time.monotonic() + 60
                while not _is_ready(address):
                    assert time.monotonic() < until, "the server is not ready after a minute"
                    time.sleep(0.1)
                yield address
            finally:
                server.terminate()

    def _run(self, *words, status=0):
        done = subprocess.run(words, cwd=self.folder, env=self._environment(), capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def _environment(self):
        """Return variables for a shell that knows the environment, and nothing of the Python that runs the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PATH": f"{self.programs}{os.pathsep}{kept['PATH']}", "PYTHONUNBUFFERED": "1"}


def _find_line(page, line):
    assert line in (ROOT / page).read_text(encoding="utf-8").splitlines(), f"{page} has no line `{line}`"
    return shlex.split(line)


def _is_ready(address):
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:  # not listening yet
        return False


@pytest.fixture(scope="session")
def programs(wheel, install, tmp_path_factory):
    """The folder of the programs of an environment with the wheel and the extra `serve`, without the checkout."""
    folder = install(wheel, extra="serve")
    told = User(folder, tmp_path_factory.mktemp("nowhere")).runs("import boneage; print(boneage.__file__)")
    assert Path(told).is_relative_to(folder.parent)
    return folder


@pytest.fixture
def user(programs, tmp_path):
    return User(programs, tmp_path)
