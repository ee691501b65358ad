"""How much of the disk the state folder takes, measured beside the requests: there may be many files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from localvertex.home import Home

_GOOD_FOR = 60.0


class DiskUse:
    """Knows the sizes of the parts of a state folder, and measures them again now and then.

    Args:
        home: the folder.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._measured = 0.0
        self._measuring = False
        self._sizes: dict[str, int] = {}

    def sizes(self) -> dict[str, int]:
        """Bytes by what they are; empty until they have been measured for the first time."""
        with self._lock:
            old = not self._measured or time.monotonic() - self._measured > _GOOD_FOR
            if old and not self._measuring:
                self._measuring = True
                threading.Thread(target=self._measure, name="disk use", daemon=True).start()
            return dict(self._sizes)

    def _measure(self) -> None:
        home = self._home
        found = {
            "Buckets": sum(_files(home.gcs)),
            "Logs": sum(_files(home.logs)),
            "Store": sum(file.stat().st_size for file in home.path.glob("store.db*")),
        }
        with self._lock:
            self._sizes, self._measured, self._measuring = found, time.monotonic(), False


def _files(folder: Path) -> Iterator[int]:
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(here, name)).st_size
            except OSError:  # gone meanwhile
                continue
