"""The folder of `--save-readings`: crops, and one line of JSON per reading; no names, ids or birth dates."""

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from boneage.base.errors import BoneAgeError
from boneage.base.files import append_line, make_private_folder, open_private, remove_partial_line
from boneage.base.json_files import DamagedFileError, parse_json
from boneage.serve.readings import Answer

READINGS_FILE = "readings.jsonl"
_UNNAMED = ".part"


class StoreError(BoneAgeError):
    """Raised if readings cannot be saved in a folder."""


class Store:
    """A folder of anonymous readings.

    Args:
        folder: The folder; created if missing, accessible to this user only.
        model: Name and digest of the model, recorded in every line.

    Raises:
        StoreError: If the folder cannot be created or written to, or its lines are damaged.
    """

    def __init__(self, folder: str | Path, *, model: str):
        self._folder, self._model = Path(folder), model
        self._lock = threading.Lock()
        try:
            make_private_folder(self._folder)
            self._resume()
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}; choose another folder with --save-readings.") from error
        except ValueError as error:
            raise StoreError(
                f"{self._folder / READINGS_FILE}: is damaged; repair it or choose another folder with --save-readings."
            ) from error

    def keep(self, answer: Answer) -> None:
        """Save one answer under a random name, that for each hand of a film of two."""
        for hand in answer.hands:
            self._keep_hand(hand)

    def _keep_hand(self, answer: Answer) -> None:
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
            "male_probability",
            "chronological_age_months",
            "side",
            "hand",
        ):
            line[field] = getattr(answer, field)
        crop = answer.draw_crop()
        with self._lock:
            if crop is None:
                self._append(line)
                return
            line["crop"] = f"{name}.png"
            # The crop has its name once its line is written: a kill leaves no crop without a line.
            unnamed = self._folder / f"{line['crop']}{_UNNAMED}"
            try:
                with open(unnamed, "xb", opener=open_private) as file:
                    file.write(crop)
                self._append(line)
            except OSError:
                unnamed.unlink(missing_ok=True)
                raise
            os.replace(unnamed, unnamed.with_suffix(""))

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self._folder / READINGS_FILE, json.dumps(line, allow_nan=False).encode() + b"\n", private=True)

    def _resume(self) -> None:
        """Complete or remove what a killed server left, and check that the folder can be written to."""
        path = self._folder / READINGS_FILE
        append_line(path, b"", private=True)
        remove_partial_line(path)
        unnamed = list(self._folder.glob(f"*{_UNNAMED}"))
        listed = {_read_crop(line, path=path) for line in path.read_bytes().splitlines()} if unnamed else set()
        for crop in unnamed:
            if crop.stem in listed:
                os.replace(crop, crop.with_suffix(""))
            else:
                crop.unlink()


def _read_crop(line: bytes, *, path: Path) -> str | None:
    """Return the name of the crop of a stored reading, None if it has none.

    Raises:
        DamagedFileError: If the line is no reading.
    """
    try:
        reading = parse_json(line)
        crop = reading.get("crop")
        if crop is not None and not isinstance(crop, str):
            raise ValueError("`crop` is no name")
    except (AttributeError, ValueError) as error:
        raise DamagedFileError(
            f"{path}: has a damaged line ({error}); repair it, or choose another folder with --save-readings."
        ) from error
    return crop
