"""Names of radiographs: ids that are unique in a source, and the files that the text of a table names."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from boneage.preprocessing.io.read import RADIOGRAPH_SUFFIXES
from boneage.preprocessing.sources.rejections import InvalidEntryError

MAX_ID_BYTES = 200
_NOT_IN_FILE_NAMES = frozenset('\\:*?"<>|')
# Names that Windows keeps for devices, with any extension
# (https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions).
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
)


def to_id(name: str) -> str:
    """Remove the extension of a radiograph from a file name; `1.2.840.10008.7` has none and stays the same.

    The id is in Unicode's composed form, since some systems write the decomposed one into file names.
    """
    stem, _, extension = name.rpartition(".")
    return unicodedata.normalize("NFC", stem if stem and f".{extension.lower()}" in RADIOGRAPH_SUFFIXES else name)


def is_safe_id(id: str) -> bool:
    """Return whether an id is a valid file name on any system, or a path of such names within any folder."""
    return (
        0 < len(id.encode(errors="replace")) <= MAX_ID_BYTES
        and id.isprintable()
        and not _NOT_IN_FILE_NAMES & set(id)
        and all(part and part == part.strip(" .") for part in id.split("/"))
        and not any(part.partition(".")[0].rstrip().lower() in _DEVICES for part in id.split("/"))
    )


def choose_ids(files: Sequence[tuple[str | None, str]]) -> list[str]:
    """Choose an id for each file: the shortest of its names that no other file has.

    Args:
        files: SOPInstanceUID, None where there is none, and name within its source, with `/` between folders.

    Returns:
        For each file its SOPInstanceUID; else its base name, its path without extension, or its path, whichever is
        unique first. Only ids of files with the same path, from several sources, are equal.

    Example:
        >>> choose_ids([(None, "a/1.png"), (None, "b/1.png"), (None, "b/2.png"), ("1.2.3", "c/IM0001")])
        ['a/1', 'b/1', '2', '1.2.3']
    """
    names = [
        [
            *([uid] if uid else []),
            to_id(PurePosixPath(name).name),
            to_id(name),
            unicodedata.normalize("NFC", name),
        ]
        for uid, name in files
    ]
    levels = [0] * len(files)
    while True:
        ids = [choices[level] for choices, level in zip(names, levels, strict=True)]
        counts = Counter(ids)
        shared = [index for index, id in enumerate(ids) if counts[id] > 1 and levels[index] < len(names[index]) - 1]
        if not shared:
            return ids
        for index in shared:
            levels[index] += 1


class FileIndex:
    """Finds listed files by the text of a table: an id, or a path of which the last part may suffice.

    No text of a table is opened as a path.

    Args:
        files: Id and path of each file.
    """

    def __init__(self, files: Iterable[tuple[str, Path]]):
        self._ids: set[str] = set()
        self._by_name: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for id, path in files:
            self._ids.add(id)
            self._by_name[to_id(path.name)].append((id, path))

    def find(self, text: str) -> str | None:
        """Return the id of the file that a text names; None if there is none.

        Args:
            text: Id, base name, or path, with or without extension, with either separator. `1377.0`, as pandas writes a
                number, is `1377`.

        Raises:
            InvalidEntryError: If several files have that name (`ambiguous_file`), or it is absolute, contains `..` or
                is no valid name (`unsafe_id`).
        """
        path = PureWindowsPath(text)  # It accepts both separators, and drives.
        if path.anchor or ".." in path.parts or not is_safe_id(to_id(path.as_posix())):
            raise InvalidEntryError(f"{text!r} is not a valid id; use a plain file name.", reason="unsafe_id")
        for name in dict.fromkeys((text, re.sub(r"(?<=\d)\.0$", "", text))):
            path = PureWindowsPath(name)
            for id in (unicodedata.normalize("NFC", path.as_posix()), to_id(path.as_posix())):
                if id in self._ids:
                    return id
            folders = _parts(path)[:-1]
            found = [
                (id, other)
                for id, other in self._by_name.get(to_id(path.name), ())
                if not folders or _parts(other)[:-1][-len(folders) :] == folders
            ]
            if len(found) > 1:
                raise InvalidEntryError(
                    f"{len(found)} files are named {text!r}, such as {found[0][1]} and {found[1][1]}; give the path or "
                    "the SOPInstanceUID.",
                    reason="ambiguous_file",
                )
            if found:
                return found[0][0]
        return None


def _parts(path: PurePath) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)
