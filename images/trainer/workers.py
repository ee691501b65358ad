"""All cores at work on a stream of jobs: results in order of the jobs, a bounded number of them in flight."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 3  # Jobs in flight for each process: enough that none waits, few enough that memory stays bounded.
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h

_state: Any = None


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A pool of processes that share what was read before they started.

    Args:
        state: given to every call as its first argument; inherited by a fork, else pickled once a process.
        processes: how many; 1 does the work in this process. None: one a core.
    """

    def __init__(self, state: Any, processes: int | None = None) -> None:
        self._state = state
        self._processes = processes or cores()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._processes > 1:
            # Forking is quicker than importing everything anew; elsewhere than on Linux it is not safe.
            context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
            self._pool = ProcessPoolExecutor(self._processes, context, _start, (self._state,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Any, Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yields `function(state, job)` for each job, in order. Jobs are taken only as room becomes free."""
        if self._pool is None:
            for job in jobs:
                yield function(self._state, job)
            return
        waiting: deque[Future[Result]] = deque()
        for job in jobs:
            waiting.append(self._pool.submit(_call, function, job))
            if len(waiting) >= _AHEAD * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start(state: Any) -> None:
    global _state
    _state = state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent answers Ctrl-C, and ends its workers.
    if sys.platform == "linux":  # A parent killed outright leaves no orphans.
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _call(function: Callable[[Any, Job], Result], job: Job) -> Result:
    return function(_state, job)
