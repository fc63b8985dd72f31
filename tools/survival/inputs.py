"""Bad inputs: the tests of files, tables and requests that are not as they should be, counted by kind."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from survival.process import SurvivalError

ROOT = Path(__file__).parents[2]
ABOUT = (
    "Inputs that are damaged, hostile or merely unusual, one test each; files and texts changed at random count as one "
    "test for each kind. Survived means what the test demands: the right pixels or values where people can read them, "
    "else one line or one row that says what is wrong, within bounds of memory and time."
)
KINDS = {
    "DICOM files: encodings, headers, pixels, judged by DCMTK": ("preprocessing/io/dicom",),
    "image files: PNG, JPEG, JPEG 2000, TIFF, BMP": (
        "preprocessing/io/test_image_files.py",
        "preprocessing/io/test_grey.py",
        "preprocessing/io/test_read.py",
    ),
    "files that would exhaust memory or time": (
        "preprocessing/io/test_guards.py",
        "preprocessing/io/test_isolated.py",
    ),
    "files and texts changed at random": (
        "preprocessing/io/test_fuzz.py",
        "boneage/cli/test_hostile_files.py",
    ),
    "folders and tables": ("preprocessing/sources", "boneage/base/test_spreadsheets.py"),
    "one folder of bad files, through every command": ("boneage/cli/test_bad_input.py",),
    "requests to the servers": ("boneage/web", "boneage/serve/test_fuzz.py", "boneage/serve/test_api.py"),
}


def count_inputs() -> list[dict[str, str]]:
    """Run the tests and return one row for each kind.

    Raises:
        SurvivalError: If a test fails.
    """
    rows = []
    for kind, names in KINDS.items():
        num_tried, num_survived = _run_tests(names)
        rows.append({"input": kind, "survived": f"{num_survived} of {num_tried}"})
        if num_survived < num_tried:
            raise SurvivalError(f"{kind}: {num_tried - num_survived} tests fail; run pytest on {', '.join(names)}")
    return rows


def _run_tests(names: tuple[str, ...]) -> tuple[int, int]:
    """Return the number of tests that ran and of those that passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        paths = [str(ROOT / "tests" / name) for name in names]
        words = [sys.executable, "-m", "pytest", "--quiet", f"--junitxml={report}", *paths]
        subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL)
        suite = ElementTree.parse(report).getroot()[0]  # noqa: S314 - written by pytest
        num_tried = int(suite.get("tests", 0)) - int(suite.get("skipped", 0))
        return num_tried, num_tried - int(suite.get("failures", 0)) - int(suite.get("errors", 0))
