"""List the files of a source: radiographs, and rejections with reasons."""

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from boneage.base.errors import BoneAgeError
from boneage.preprocessing.io.dicom.dataset import is_dicom
from boneage.preprocessing.io.dicom.read import DicomHeader, read_dicom_header
from boneage.preprocessing.io.radiograph import UnreadableImageError, read_first_bytes
from boneage.preprocessing.io.read import RADIOGRAPH_SUFFIXES
from boneage.preprocessing.sources.names import choose_ids, is_safe_id, to_id
from boneage.preprocessing.sources.rejections import InvalidEntryError, Rejection, make_rejection
from boneage.preprocessing.sources.tables import TABLE_SUFFIXES

_IMAGE_SUFFIXES = RADIOGRAPH_SUFFIXES - {".dcm", ".dicom"}


class SourceNotFoundError(BoneAgeError):
    """A source that does not exist or contains no files."""


@dataclass(frozen=True)
class RadiographFile:
    """A file that is a radiograph by its name and, for DICOM, its header.

    Args:
        id: See `boneage.preprocessing.sources.names.choose_ids`.
        path: The file.
        name: The file within its source, with `/` between folders.
        header: Header of a DICOM file, None for other formats.
    """

    id: str
    path: Path
    name: str
    header: DicomHeader | None


def list_files(source: Path) -> tuple[list[tuple[Path, str]], list[Rejection]]:
    """List the files of a source in order, each with its name within the source.

    Args:
        source: A folder, searched with all its subfolders, or a single file.

    Returns:
        Paths with names, and the rejected ones: links that lead nowhere or to a folder that is listed anyway
        (`symbolic_link`), and folders that cannot be listed (`unreadable_folder`). Other links are followed.

    Raises:
        SourceNotFoundError: If there is no such source.
    """
    if source.is_file():
        return [(source, source.name)], []
    if not source.is_dir():
        raise SourceNotFoundError(f"{source}: no such file or folder; check the path.")
    listed = [Path(os.path.realpath(source))]
    paths: list[tuple[Path, str]] = []
    rejections: list[Rejection] = []

    def reject(path: Path, problem: str, *, reason: str) -> None:
        name = os.path.relpath(path, source)
        rejections.append(make_rejection("", file=name, error=InvalidEntryError(f"{name}: {problem}", reason=reason)))

    def reject_unreadable(error: OSError) -> None:
        reject(Path(error.filename), f"{error.strerror}; allow reading this folder.", reason="unreadable_folder")

    def is_new(folder: Path) -> bool:
        """Return whether a linked folder is not listed anyway, so that no link is followed in a circle."""
        target = Path(os.path.realpath(folder))
        if any(target.is_relative_to(other) or other.is_relative_to(target) for other in listed):
            return False
        listed.append(target)
        return True

    for folder, subfolders, names in os.walk(source, onerror=reject_unreadable, followlinks=True):
        subfolders.sort()
        for path in [Path(folder, name) for name in subfolders]:
            if path.is_symlink() and not is_new(path):
                subfolders.remove(path.name)
                reject(path, "symbolic link to a folder that is listed anyway.", reason="symbolic_link")
        prefix = PurePosixPath(Path(folder).relative_to(source).as_posix())
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_symlink() and not path.is_file():
                reject(path, "symbolic link to a missing file; restore the file.", reason="symbolic_link")
            else:
                paths.append((path, str(prefix / path.name)))
    return paths, rejections


def find_radiographs(paths: Sequence[tuple[Path, str]]) -> tuple[list[RadiographFile], list[Rejection]]:
    """Find the radiographs among files; reject the others, and copies.

    Args:
        paths: Paths with names, from `list_files`.

    Returns:
        Radiographs with unique ids in the order of the files, and the rejections.
    """
    found: list[tuple[Path, str, DicomHeader | None]] = []
    rejections: list[Rejection] = []
    for path, name in paths:
        try:
            found.append((path, name, _examine(path, name)))
        except (InvalidEntryError, UnreadableImageError) as error:
            rejections.append(make_rejection(to_id(path.name), file=name, error=error))
    copies = _find_copies(found)
    kept = [entry for index, entry in enumerate(found) if index not in copies]
    uids = [_uid(header) for _, _, header in kept]
    counts = Counter(uids)
    # A UID that several files share, against the standard, names none of them.
    ids = choose_ids([(uid if counts[uid] == 1 else None, name) for uid, (_, name, _) in zip(uids, kept, strict=True)])
    files: dict[str, RadiographFile] = {}
    for id, (path, name, header) in zip(ids, kept, strict=True):
        if not is_safe_id(id):
            message, reason = f"{name}: file name is not a valid id; rename it.", "unsafe_id"
        elif id in files:
            message, reason = f"{path}: same id as {files[id].path}; rename one of them.", "ambiguous_file"
        else:
            files[id] = RadiographFile(id, path, name, header)
            continue
        rejections.append(make_rejection(id, file=name, error=InvalidEntryError(message, reason=reason)))
    id_of = {file.path: file.id for file in files.values()}
    for copy, original in copies.items():
        (path, name, _), (first, _, _) = found[copy], found[original]
        invalid = InvalidEntryError(f"{path}: the same file as {first}, which is used.", reason="identical_copy")
        rejections.append(make_rejection(id_of.get(first, ""), file=name, error=invalid))
    return list(files.values()), rejections


def _examine(path: Path, name: str) -> DicomHeader | None:
    """Return the header of a DICOM file, None for another radiograph.

    Raises:
        InvalidEntryError: If it is no radiograph.
        UnreadableImageError: If its header cannot be read.
    """
    extension = path.suffix.lower()
    if any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts):
        raise InvalidEntryError(f"{name}: hidden file, skipped; rename it if it is a radiograph.", reason="hidden_file")
    if extension in TABLE_SUFFIXES:
        raise InvalidEntryError(
            f"{name}: table is not used; pass it with --table if it contains the labels.", reason="unused_table"
        )
    if not path.is_file():
        raise InvalidEntryError(f"{name}: not a regular file; remove it.", reason="not_an_image")
    if path.name == "DICOMDIR":  # PS3.10 8.6: the directory of a CD, whose images lie beside it
        raise InvalidEntryError(f"{name}: directory of a CD, skipped; its images are read.", reason="not_an_image")
    # Extensions of images are trusted: opening ten thousand files can take minutes.
    if extension not in _IMAGE_SUFFIXES:
        if is_dicom(read_first_bytes(path)):
            return read_dicom_header(path)
        if extension not in RADIOGRAPH_SUFFIXES:
            raise InvalidEntryError(
                f"{name}: not a radiograph; unpack it or convert it to PNG or DICOM.", reason="not_an_image"
            )
    return None


def _uid(header: DicomHeader | None) -> str | None:
    return header.sop_instance_uid if header else None


def _find_copies(found: Sequence[tuple[Path, str, DicomHeader | None]]) -> dict[int, int]:
    """Index of each file with the same bytes as another one that is kept, with the index of that one.

    Only files with one UID or one base name are compared: reading ten thousand files takes long. The shortest name is
    kept: `a.dcm` of `a - Copy.dcm`.
    """
    alike = _group(range(len(found)), lambda index: _uid(found[index][2]) or f"/{to_id(found[index][0].name)}")
    same_size = [group for indices in alike for group in _group(indices, lambda index: found[index][0].stat().st_size)]
    copies: dict[int, int] = {}
    for indices in same_size:
        for same in _group(indices, lambda index: _sha256(found[index][0])):
            first, *others = sorted(same, key=lambda index: (len(found[index][1]), index))
            copies |= dict.fromkeys(others, first)
    return copies


def _group(indices: Iterable[int], key: Callable[[int], object]) -> list[list[int]]:
    """Group indices by a key, only groups of several; a file that cannot be read is alone."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index in indices:
        with contextlib.suppress(OSError):  # The step that decodes it reports it.
            groups[key(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
