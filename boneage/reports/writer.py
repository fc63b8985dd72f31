"""Writing the reports of readings into folders."""

import dataclasses
import importlib
import uuid
from pathlib import Path

from boneage.reader import Reader, Reading
from boneage.reports import ReportError
from boneage.reports.fhir import observe
from preprocessing.dicom import is_dicom, read_study
from preprocessing.radiograph import Radiograph, read_head
from tfrecords.write import write_bytes, write_json


@dataclasses.dataclass(frozen=True)
class Reports:
    """Which reports are written of each reading, and where.

    No file name tells who the patient is: objects are named by their new UIDs, observations by random ids.

    Args:
        reader: What reads.
        dicom: Folder for a structured report and a secondary capture of each DICOM file, or None.
        fhir: Folder for a FHIR observation of each file, or None.

    Raises:
        ReportError: If a folder cannot be made.
        ModuleNotFoundError: If `dicom` is given and highdicom is not installed.
    """

    reader: Reader
    dicom: Path | None = None
    fhir: Path | None = None

    def __post_init__(self):
        """Find out what is missing before the first file is read."""
        if self.dicom is not None:
            importlib.import_module("highdicom")
        for folder, option in ((self.dicom, "--dicom"), (self.fhir, "--fhir")):
            if folder is not None:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise ReportError(f"{folder}: {error.strerror}; name another folder by {option}.") from error

    def write(self, radiograph: Radiograph, reading: Reading, *, path: Path) -> tuple[list[str], str]:
        """Write the reports of one reading.

        Args:
            radiograph: The radiograph.
            reading: What was read in it.
            path: Its file.

        Returns:
            Names of the files that were written; and one line if the header of a DICOM file does not allow the objects,
            else an empty one. A source that is no DICOM file has none in `dicom`.

        Raises:
            UnreadableImage: If the source has gone or changed since it was read.
            OSError: If a file cannot be written.
        """
        if self.dicom is None and self.fhir is None:
            return [], ""
        study = read_study(path) if is_dicom(read_head(path)) else None
        written, detail = [], ""
        if self.dicom is not None and study is not None:
            from boneage.reports.dicom import make_objects

            objects: dict[str, bytes] = {}
            try:
                objects = make_objects(study, radiograph, reading, reader=self.reader, path=path)
            except ReportError as error:
                detail = str(error)
            for name, data in objects.items():
                write_bytes(self.dicom / name, data)
                written.append(name)
        if self.fhir is not None:
            id = str(uuid.uuid4())
            write_json(self.fhir / f"{id}.json", observe(reading, reader=self.reader, id=id, study=study))
            written.append(f"{id}.json")
        return written, detail
