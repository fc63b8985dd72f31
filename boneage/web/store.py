"""What `--store` keeps: crops, and a line of JSON for each reading; no names, no ids, no birth dates."""

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from boneage.web.readings import Answer
from tfrecords.errors import BoneAgeError

READINGS_FILE = "readings.jsonl"


class StoreError(BoneAgeError):
    """A folder that readings cannot be stored in."""


class Store:
    """A folder of readings.

    Args:
        folder: The folder; made if it is not there, for this user alone.
        model: Name and digest of the model, told in each line.

    Raises:
        StoreError: If it cannot be made or written to.
    """

    def __init__(self, folder: str | Path, *, model: str):
        self._folder, self._model = Path(folder), model
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._append(b"")
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}; name another folder by --store.") from error

    def keep(self, answer: Answer) -> None:
        """Keep one answer under a random name."""
        name = secrets.token_hex(12)
        line: dict[str, Any] = {"id": name, "model": self._model}
        for field in (
            "accepted",
            "reasons",
            "warnings",
            "bone_age_months",
            "low_months",
            "high_months",
            "sex",
            "male_share",
            "chronological_age_months",
            "side",
        ):
            line[field] = getattr(answer, field)
        if (crop := answer.draw_crop()) is not None:
            line["crop"] = f"{name}.png"
            with self._create(self._folder / line["crop"], os.O_EXCL) as file:
                file.write(crop)
        self._append(json.dumps(line, allow_nan=False).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        with self._lock, self._create(self._folder / READINGS_FILE, os.O_APPEND) as file:
            file.write(line)

    @staticmethod
    def _create(path: Path, flag: int) -> Any:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o600), "wb")
