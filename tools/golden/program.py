"""The command line under test."""

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golden.describe import keep_comparable


class GoldenRunError(Exception):
    """A command that failed, or a document of no complete run."""


@dataclasses.dataclass
class Program:
    """The command line under test.

    Args:
        path: The console script.
        folder: Where its commands run and write.
        data: Folder of real radiographs, or None.
    """

    path: Path
    folder: Path
    data: Path | None = None

    def run(self, *arguments: str | Path) -> str:
        """Run a command.

        Returns:
            What it printed on standard output.

        Raises:
            GoldenRunError: If it fails.
        """
        return self._finish([self.path, *arguments])

    def run_json(self, *arguments: str | Path) -> Any:
        """Run a command with `--json` and return its document, without what may differ."""
        return keep_comparable(json.loads(self.run(*arguments, "--json")))

    def run_python(self, code: str, *arguments: str) -> str:
        """Run Python code in the environment of the console script."""
        return self._finish([self.path.with_name("python"), "-c", code, *arguments])

    def start(self, *arguments: str | Path) -> subprocess.Popen:
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [self.path, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _finish(self, command: Sequence[str | Path]) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise GoldenRunError(f"{' '.join(map(str, command[1:4]))}: exit status {done.returncode}: {lines[-1]}")
        return done.stdout
