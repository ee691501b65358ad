"""Which processes a state folder's services have under way, whatever else runs, and whether one has ended."""

from __future__ import annotations

import psutil

from localvertex.home import Home
from localvertex.workloads.process import MARK


def is_alive(pid: int) -> bool:
    """Whether there is such a process and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
