"""Print the licence of boneage and of every package that its core needs, as the installed packages state it.

python tools/licences.py

Exits with 1 if one of them is under the GPL or the AGPL, or states no licence.
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
_CLASSIFIER = "License :: "
# A longer licence field holds the text of the licence.
_MOST_CHARACTERS = 60


def main() -> None:
    """Print the table."""
    licences = list_licences("boneage")
    width = max(map(len, licences))
    for name, licence in licences.items():
        sys.stdout.write(f"{name:{width}}  {importlib.metadata.version(name):12}  {licence or 'not stated'}\n")
    if refused := [name for name, licence in licences.items() if not is_permissive(licence)]:
        sys.exit(f"not permissive: {', '.join(refused)}")


def list_licences(distribution: str) -> dict[str, str]:
    """List the licence of a distribution and of all that it needs without extras, by name.

    Args:
        distribution: Name of an installed distribution.

    Returns:
        SPDX expressions, or what else the packages state; empty where they state nothing.
    """
    licences: dict[str, str] = {}
    waiting = [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in licences:
            licences[name] = _read_licence(importlib.metadata.metadata(name))
            waiting += _list_requirements(name)
    return dict(sorted(licences.items()))


def is_permissive(licence: str) -> bool:
    """Tell whether a licence is stated and is neither the GPL nor the AGPL."""
    return bool(licence) and not _COPYLEFT.search(licence)


def _list_requirements(name: str) -> Iterator[str]:
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def _read_licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """Read the licence from the expression (PEP 639), the classifiers or the licence field."""
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith(_CLASSIFIER)]
    if classifiers:
        return "; ".join(line.rpartition(" :: ")[2] for line in classifiers)
    licence = metadata.get("License") or ""
    return licence if len(licence) <= _MOST_CHARACTERS else licence.strip().split("\n", 1)[0]


if __name__ == "__main__":
    main()
