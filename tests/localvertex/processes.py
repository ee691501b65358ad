"""Which processes a state folder's services have under way, whatever else the test process has started."""

from __future__ import annotations

import psutil

from localvertex.home import Home
from localvertex.workloads.process import MARK


def workloads(home: Home) -> list[psutil.Process]:
    """The processes that carry the folder's mark, the oldest first."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{home.path}:"):
                found.append((process.create_time(), process.pid, process))
        except psutil.Error:
            continue
    return [process for _, _, process in sorted(found, key=lambda each: each[:2])]
