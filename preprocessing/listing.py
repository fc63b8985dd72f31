"""The files of a source: which are radiographs, and what stands in the way of the others."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from preprocessing.dicom import DicomHeader, is_dicom, read_dicom_header
from preprocessing.radiograph import UnreadableImage, read_head
from preprocessing.read import RADIOGRAPH_SUFFIXES
from preprocessing.rejections import Rejection, Unfit, reject
from preprocessing.tables import TABLE_SUFFIXES
from tfrecords.errors import BoneAgeError

MAX_ID_BYTES = 200
_IMAGE_SUFFIXES = RADIOGRAPH_SUFFIXES - {".dcm", ".dicom"}
_NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|')


class SourceNotFound(BoneAgeError):
    """A source that does not exist or holds no file at all."""


@dataclass(frozen=True)
class RadiographFile:
    """A file that is a radiograph, as far as its name and, for DICOM, its header tell.

    Args:
        id: File name without ending.
        path: The file.
        name: The file within its source, with `/` between folders.
        header: What a DICOM file says of itself, `None` for any other.
    """

    id: str
    path: Path
    name: str
    header: DicomHeader | None


def to_id(name: str) -> str:
    """Take the ending of a radiograph off a file name; `1.2.840.10008.7` has none and stays whole.

    The id comes in Unicode's composed form, for some systems write the decomposed one into file names.
    """
    stem, _, ending = name.rpartition(".")
    return unicodedata.normalize("NFC", stem if stem and f".{ending.lower()}" in RADIOGRAPH_SUFFIXES else name)


def is_safe_id(id: str) -> bool:
    """Tell whether an id can name a file in any folder of any system without leaving it."""
    return (
        id == id.strip(" .")
        and 0 < len(id.encode(errors="replace")) <= MAX_ID_BYTES
        and id.isprintable()
        and not _NOT_IN_FILE_NAMES & set(id)
    )


def list_files(source: Path) -> tuple[list[tuple[Path, str]], list[Rejection]]:
    """List the files of a source in order, each with its name within the source.

    Args:
        source: A folder, searched with all its subfolders, or a single file.

    Returns:
        Paths with names, and what cannot be looked into: links out of the source (`symbolic_link`) and folders that
        refuse it (`unreadable_folder`).

    Raises:
        SourceNotFound: If there is no such source.
    """
    if source.is_file():
        return [(source, source.name)], []
    if not source.is_dir():
        raise SourceNotFound(f"{source}: no such file or folder; check the path of the source.")
    home = os.path.realpath(source)
    paths: list[tuple[Path, str]] = []
    rejections: list[Rejection] = []

    def note_unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename, source)
        unfit = Unfit(f"{name}: {error.strerror}; allow this folder to be read.", reason="unreadable_folder")
        rejections.append(reject("", file=name, error=unfit))

    for folder, subfolders, names in os.walk(source, onerror=note_unreadable):
        subfolders.sort()
        prefix = PurePosixPath(Path(folder).relative_to(source).as_posix())
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in sorted(names + links)):
            name = str(prefix / path.name)
            if path.is_symlink() and not (path.is_file() and Path(os.path.realpath(path)).is_relative_to(home)):
                unfit = Unfit(
                    f"{name}: a link to a folder, to nothing or out of the source; put a copy in its place.",
                    reason="symbolic_link",
                )
                rejections.append(reject(to_id(path.name), file=name, error=unfit))
            else:
                paths.append((path, name))
    return paths, rejections


def find_radiographs(paths: Sequence[tuple[Path, str]]) -> tuple[list[RadiographFile], list[Rejection]]:
    """Find the radiographs among files, and reject the others and those that cannot be told apart.

    Args:
        paths: Paths with names, from `list_files`.

    Returns:
        Radiographs with unique ids in the order of the files, and the rejections.
    """
    files: list[RadiographFile] = []
    rejections: list[Rejection] = []
    for path, name in paths:
        try:
            files.append(_examine(path, name))
        except (Unfit, UnreadableImage) as error:
            rejections.append(reject(to_id(path.name), file=name, error=error))
    files, same_id = _without_twins(files, what="id", key=lambda file: file.id)
    files, same_uid = _without_twins(files, what="SOPInstanceUID", key=_sop_instance_uid)
    return files, [*rejections, *same_id, *same_uid]


def _examine(path: Path, name: str) -> RadiographFile:
    id, ending = to_id(path.name), path.suffix.lower()
    if any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts):
        raise Unfit(f"{name}: hidden, so not taken as a radiograph; rename it if it is one.", reason="hidden_file")
    if ending in TABLE_SUFFIXES:
        raise Unfit(
            f"{name}: a table that is not in use; give it as the table of labels if it is.", reason="unused_table"
        )
    if not path.is_file():
        raise Unfit(f"{name}: no regular file; remove it.", reason="not_an_image")
    header = None
    # Endings of images are believed, for looking into every one of ten thousand files can take minutes.
    if ending not in _IMAGE_SUFFIXES:
        if is_dicom(read_head(path)):
            header = read_dicom_header(path)
        elif ending not in RADIOGRAPH_SUFFIXES:
            raise Unfit(f"{name}: not a radiograph; unpack it or convert it to PNG or DICOM.", reason="not_an_image")
    if not is_safe_id(id):
        raise Unfit(f"{name}: its name cannot be used as an id; rename it.", reason="unsafe_id")
    return RadiographFile(id, path, name, header)


def _sop_instance_uid(file: RadiographFile) -> str | None:
    return file.header.sop_instance_uid if file.header else None


def _without_twins(
    files: Sequence[RadiographFile], *, what: str, key: Callable[[RadiographFile], str | None]
) -> tuple[list[RadiographFile], list[Rejection]]:
    """Keep the files whose key no other file has; which of several is meant, nobody can tell."""
    same: dict[str, list[RadiographFile]] = defaultdict(list)
    for file in files:
        if name := key(file):
            same[name].append(file)
    unique, rejections = [], []
    for file in files:
        twin = next((other for other in same.get(key(file) or "", ()) if other is not file), None)
        if twin is None:
            unique.append(file)
        else:
            message = f"{file.path}: same {what} as {twin.path}; rename or remove all but one."
            rejections.append(reject(file.id, file=file.name, error=Unfit(message, reason="ambiguous_file")))
    return unique, rejections
