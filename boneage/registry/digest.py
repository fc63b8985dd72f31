"""The digest of a bundle's metadata, by which a changed file is found."""

import hashlib
import json
from typing import Any


def metadata_digest(metadata: dict[str, Any]) -> str:
    """Return the SHA-256 digest of the metadata, which detects changes."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
