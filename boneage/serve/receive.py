"""A local DICOM storage node (C-STORE): received radiographs are read like those of the watched folder."""

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

from boneage.base.errors import BoneAgeError
from boneage.base.files import write_bytes

AE_TITLE = "BONEAGE"
# Loopback only: DICOM has no authentication.
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
# A connection that asks for nothing takes the place of an association.
_REQUEST_SECONDS = 5
# PS3.4 table B.2-1.
_STORED, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_log = logging.getLogger("boneage.web")


class ReceiveError(BoneAgeError):
    """Raised if the storage node cannot listen on its port."""


@contextlib.contextmanager
def receive(folder: Path, *, port: int, max_bytes: int) -> Iterator[int]:
    """Receive radiographs by C-STORE and answer C-ECHO until the context ends.

    Args:
        folder: Output folder; files are named by SOPInstanceUID and hash of the content, so that an object sent again
            has the same name.
        port: Local port (0: any free port).
        max_bytes: Maximum size of an object, in bytes.

    Yields:
        The port.

    Raises:
        ReceiveError: If the port cannot be opened.
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
                write_bytes(path, data, private=True)
        except OSError as error:
            _log.error("an object could not be stored: %s", error.strerror)
            return _OUT_OF_RESOURCES
        return _STORED

    node = AE(AE_TITLE)
    node.maximum_associations = _MAX_ASSOCIATIONS
    node.acse_timeout, node.dimse_timeout, node.network_timeout = _REQUEST_SECONDS, _TIMEOUT_SECONDS, _TIMEOUT_SECONDS
    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]
    for kind in _RADIOGRAPHS:
        node.add_supported_context(kind, syntaxes)
    node.add_supported_context(_VERIFICATION)
    try:
        started = node.start_server((_HOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    except OSError as error:
        raise ReceiveError(f"{_HOST}:{port}: {error.strerror}; choose another port with --store-scp.") from error
    server = cast(ThreadedAssociationServer, started)  # None only if `block` is true
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
