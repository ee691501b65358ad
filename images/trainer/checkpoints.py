"""One file that a training resumes from exactly: the arrays it changes, and what it has seen so far."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from images import executor

Arrays = list[np.ndarray]


class Checkpoint:
    """The newest finished epoch of one training.

    Args:
        folder: where the file is kept; made if it is not there.
        settings: JSON values that decide the result. A checkpoint of other settings is not used.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        # `<model>/../../checkpoints` must be found before there is a model.
        # Two trainings of a run share the folder; their names keep them apart.
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._file = Path(os.path.normpath(folder)) / f"{name}.npz"
        self._settings = settings

    def save(self, arrays: dict[str, Arrays], progress: Any) -> None:
        """Replaces the file at once and whole.

        Args:
            arrays: named lists of arrays.
            progress: a JSON value.
        """
        header = json.dumps({"settings": self._settings, "progress": progress})
        flat = {f"{name}/{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
        with executor.whole(self._file) as aside, aside.open("wb") as file:
            np.savez(file, header=np.array(header), **flat)

    def load(self) -> tuple[dict[str, Arrays], Any] | None:
        """The arrays and the progress last saved with these settings, or None."""
        try:
            with np.load(self._file) as stored:
                header = json.loads(str(stored["header"]))
                if header["settings"] != self._settings:
                    return None
                arrays: dict[str, Arrays] = {}
                for key in stored.files:
                    name, _, _ = key.rpartition("/")
                    if name:
                        arrays.setdefault(name, []).append(stored[key])
                return arrays, header["progress"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
