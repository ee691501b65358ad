"""Jobs in the background: a thread each, that can be told to stop, and that is not lost without a word."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Order:
    """What a job's thread is told: to go on, to cancel the job, or to leave it because the server ends."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.cancelled = False

    @property
    def stopped(self) -> bool:
        """Whether to stop working: the job is cancelled, or the server ends."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past an order to stop; returns whether there is one."""
        return self._stop.wait(seconds)

    def stop(self, *, cancel: bool) -> None:
        """Give the order to stop."""
        self.cancelled = self.cancelled or cancel
        self._stop.set()


class Supervisor:
    """Runs each job in a thread of its own.

    Args:
        work: does a job, given its resource name, until it is done or ordered to stop.
        fail: records that `work` broke down, given the resource name and a message.
    """

    def __init__(self, work: Callable[[str, Order], None], fail: Callable[[str, str], None]) -> None:
        self._work = work
        self._fail = fail
        self._lock = threading.Lock()
        self._orders: dict[str, Order] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def start(self, name: str) -> None:
        """Begin a job; does nothing when it is under way already, or the server ends."""
        with self._lock:
            if self._closed or name in self._threads:
                return
            order = Order()
            thread = threading.Thread(target=self._run, args=(name, order), name=name, daemon=True)
            self._orders[name], self._threads[name] = order, thread
            thread.start()

    def cancel(self, name: str) -> None:
        """Order a job to be cancelled, if it is under way."""
        with self._lock:
            order = self._orders.get(name)
        if order:
            order.stop(cancel=True)

    def join(self, name: str) -> None:
        """Wait until a job's thread has ended."""
        with self._lock:
            thread = self._threads.get(name)
        if thread:
            thread.join()

    def close(self) -> None:
        """Order all jobs to stop and leave them resumable; wait until their processes have ended."""
        with self._lock:
            self._closed = True
            orders, threads = list(self._orders.values()), list(self._threads.values())
        for order in orders:
            order.stop(cancel=False)
        for thread in threads:
            thread.join()

    def _run(self, name: str, order: Order) -> None:
        try:
            self._work(name, order)
        except Exception as error:
            log.exception("%s broke down", name)
            self._fail(name, f"Internal error: {error!r}.")
        finally:
            with self._lock:
                del self._orders[name], self._threads[name]
