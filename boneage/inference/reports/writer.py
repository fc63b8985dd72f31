"""Write the reports of readings into folders."""

import dataclasses
import importlib
import uuid
from pathlib import Path

from boneage.base.files import make_private_folder, write_bytes, write_json
from boneage.inference.reader import Reader
from boneage.inference.reading import Reading
from boneage.inference.reports import ReportError
from boneage.inference.reports.fhir import make_observation
from boneage.preprocessing.io.radiograph import Radiograph


@dataclasses.dataclass(frozen=True)
class Reports:
    """The reports written of each reading, and their folders.

    Only the user may open the files, and the folders that are made for them. No file name identifies the
    patient: DICOM objects are named by their new UIDs, observations by random ids.

    Args:
        reader: The reader.
        dicom: Folder for a structured report and a secondary capture of each hand in a DICOM file, or None.
        fhir: Folder for one FHIR observation of each hand, or None.

    Raises:
        ReportError: If a folder cannot be created.
        ModuleNotFoundError: If `dicom` is given and highdicom is not installed.
    """

    reader: Reader
    dicom: Path | None = None
    fhir: Path | None = None

    def __post_init__(self) -> None:
        """Check folders and modules before the first file is read."""
        if self.dicom is not None:
            importlib.import_module("highdicom")
        for folder, option in ((self.dicom, "--dicom"), (self.fhir, "--fhir")):
            if folder is not None:
                try:
                    make_private_folder(folder)
                except OSError as error:
                    raise ReportError(f"{folder}: {error.strerror}; choose another folder with {option}.") from error

    def write(self, radiograph: Radiograph, reading: Reading, *, path: Path) -> tuple[list[str], str]:
        """Write the reports of one radiograph, those of both hands if it shows two.

        Args:
            radiograph: The radiograph.
            reading: Its reading.
            path: Its file.

        Returns:
            Names of the files written, and one line on why the header of a DICOM file does not allow DICOM objects
            (empty if it does). Other files get no DICOM objects.

        Raises:
            OSError: If a file cannot be written.
        """
        names, details = [], []
        for hand in reading.hands:
            written, detail = self._write_hand(hand.part or radiograph, hand, path=path)
            names += written
            details.append(detail)
        return names, details[0]

    def _write_hand(self, radiograph: Radiograph, reading: Reading, *, path: Path) -> tuple[list[str], str]:
        """Write the reports of one hand, as `write` does."""
        if self.dicom is None and self.fhir is None:
            return [], ""
        study = radiograph.header
        written, detail = [], ""
        if self.dicom is not None and study is not None:
            from boneage.inference.reports.dicom import make_dicom_objects

            objects: dict[str, bytes] = {}
            try:
                objects = make_dicom_objects(study, radiograph, reading, reader=self.reader, path=path)
            except ReportError as error:
                detail = str(error)
            for name, data in objects.items():
                write_bytes(self.dicom / name, data, private=True)
                written.append(name)
        if self.fhir is not None:
            id = str(uuid.uuid4())
            observation = make_observation(reading, reader=self.reader, id=id, study=study)
            write_json(self.fhir / f"{id}.json", observation, private=True)
            written.append(f"{id}.json")
        return written, detail
