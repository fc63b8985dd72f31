"""A DICOM storage node on this machine: the radiographs that are sent to it are read as those of a watched folder."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.transport import ThreadedAssociationServer

from tfrecords.errors import BoneAgeError
from tfrecords.write import write_bytes

AE_TITLE = "BONEAGE"
# Whoever can reach it could send: it asks for no password, as DICOM knows none.
_HOST = "127.0.0.1"
_RADIOGRAPHS = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
# C-ECHO (PS3.4 A.4).
_VERIFICATION = "1.2.840.10008.1.1"
_MAX_ASSOCIATIONS = 4
_TIMEOUT_SECONDS = 60
# PS3.4 table B.2-1.
_STORED, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_log = logging.getLogger("boneage.web")


class ReceiveError(BoneAgeError):
    """A port that cannot be listened on."""


@contextlib.contextmanager
def receive(folder: Path, *, port: int, max_bytes: int) -> Iterator[int]:
    """Receive radiographs by C-STORE, and answer C-ECHO, until the context ends.

    Args:
        folder: Where they are written, each named by its SOPInstanceUID and the hash of its content: what is sent again
            has the same name.
        port: Port on this machine; 0 takes a free one.
        max_bytes: Bytes of the largest object that is taken.

    Returns:
        The port.

    Raises:
        ReceiveError: If it cannot be listened on.
    """

    def store(event: evt.Event) -> int:
        uid = UID(str(event.file_meta.MediaStorageSOPInstanceUID or ""))
        if not uid.is_valid:
            return _CANNOT_UNDERSTAND
        data = event.encoded_dataset()
        if len(data) > max_bytes:
            return _OUT_OF_RESOURCES
        path = folder / f"{uid}-{hashlib.sha256(data).hexdigest()[:16]}.dcm"
        try:
            if not path.exists():
                write_bytes(path, data)
        except OSError as error:
            _log.error("an object could not be stored: %s", error.strerror)
            return _OUT_OF_RESOURCES
        return _STORED

    node = AE(AE_TITLE)
    node.maximum_associations = _MAX_ASSOCIATIONS
    node.acse_timeout = node.dimse_timeout = node.network_timeout = _TIMEOUT_SECONDS
    syntaxes = [each for each in ALL_TRANSFER_SYNTAXES if each != DeflatedExplicitVRLittleEndian]
    for kind in _RADIOGRAPHS:
        node.add_supported_context(kind, syntaxes)
    node.add_supported_context(_VERIFICATION)
    try:
        started = node.start_server((_HOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    except OSError as error:
        raise ReceiveError(f"{_HOST}:{port}: {error.strerror}; choose another port by --store-scp.") from error
    server = cast(ThreadedAssociationServer, started)  # it is None where `block` is true alone
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
