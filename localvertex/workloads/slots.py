"""How many workloads run at once: as many as the cores can take, those aside that only wait for something."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import psutil

_HURRIED = 4
_LOOK_SECONDS = 0.1
_IDLE_SHARE = 0.05
_ACTIVE = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)


@dataclass(eq=False)
class Slot:
    """The room that one piece of work takes."""

    pid: int = 0
    """Of its workload's main process, which leads a session; 0 until there is one."""
    idle: bool = False
    """Whether its processes did nothing when last looked at."""
    looked: float = 0.0
    """When that was."""
    seconds: float = 0.0
    """That they had been on a core by then."""

    def occupy(self, pid: int) -> None:
        """Say which process has just been started in it."""
        self.looked = time.monotonic()
        self.pid = pid


Work = Callable[[Slot], None]


class Slots:
    """Threads for work that runs workloads. Owners take turns, so that one with much to do does not hold up the rest.

    While work waits, the processes of the work under way are looked at: one that launched a job elsewhere and waits
    for its end computes nothing, and must not keep out what would.

    Args:
        busy: how many may compute at the same time.
        most: how many there may be in all; each is a process, and takes memory even when it waits.
    """

    def __init__(self, busy: int, most: int) -> None:
        self._busy = busy
        self._most = most
        self._threads = ThreadPoolExecutor(most + _HURRIED, thread_name_prefix="slot")
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Work]] = {}
        self._taken: set[Slot] = set()
        self._closed = False
        self._watch = threading.Thread(target=self._look_around, name="slots", daemon=True)
        self._watch.start()

    def submit(self, owner: str, work: Work) -> None:
        """Do work as soon as there is room for it."""
        with self._changed:
            self._waiting.setdefault(owner, deque()).append(work)
            self._fill()
            self._changed.notify()

    def hurry(self, owner: str) -> None:
        """Begin all of an owner's work at once: there is a reason to end it that it only has to see."""
        with self._changed:
            for work in self._waiting.pop(owner, ()):
                self._begin(work)

    def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        self._threads.shutdown(cancel_futures=True)
        self._watch.join()

    def _fill(self) -> None:
        while self._waiting and self._has_room():
            owner, queue = next(iter(self._waiting.items()))
            work = queue.popleft()
            del self._waiting[owner]
            if queue:
                self._waiting[owner] = queue  # last in the row
            self._begin(work)

    def _has_room(self) -> bool:
        return len(self._taken) < self._most and sum(not slot.idle for slot in self._taken) < self._busy

    def _begin(self, work: Work) -> None:
        if not self._closed:
            slot = Slot()
            self._taken.add(slot)
            self._threads.submit(self._do, work, slot)

    def _do(self, work: Work, slot: Slot) -> None:
        try:
            work(slot)
        finally:
            with self._changed:
                self._taken.discard(slot)
                self._fill()

    def _look_around(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                slots = {slot.pid: slot for slot in self._taken if slot.pid}
            _look(slots)
            with self._changed:
                self._fill()
                self._changed.wait_for(lambda: self._closed, _LOOK_SECONDS)


def _look(slots: dict[int, Slot]) -> None:
    """Find out who has computed since the last time, and who is about to."""
    seconds, active = _sessions(slots)
    now = time.monotonic()
    for pid, slot in slots.items():
        passed, computed = now - slot.looked, seconds.get(pid, 0.0) - slot.seconds
        if passed < _LOOK_SECONDS / 2:
            continue
        slot.idle = pid not in active and computed < _IDLE_SHARE * passed
        slot.looked, slot.seconds = now, seconds.get(pid, 0.0)


def _sessions(leaders: Collection[int]) -> tuple[dict[int, float], set[int]]:
    """Of sessions by their leaders: the seconds that their processes were on a core, and those that have work for one.

    Whether a process has work counts too: on a crowded machine, one that computes may get few seconds.
    """
    seconds: dict[int, float] = {}
    active = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            leader = os.getsid(process.pid)
            if leader not in leaders:
                continue
            times = process.cpu_times()
            seconds[leader] = seconds.get(leader, 0.0) + sum(times[:4])
            if process.status() in _ACTIVE:
                active.add(leader)
    return seconds, active
