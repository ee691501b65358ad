"""Protects fair use of the cores: who only waits keeps nobody out, and no owner holds up the rest."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localvertex.workloads.slots import Slot, Slots

PATIENCE = 60.0
"""Seconds after which something that should have happened has not."""


@contextmanager
def slots(busy: int, most: int) -> Iterator[Slots]:
    made = Slots(busy, most)
    yield made
    made.close()


@contextmanager
def process(slot: Slot, script: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    slot.occupy(started.pid)
    yield started
    started.kill()
    started.wait()


def noted(steps: list[str], name: str, last: threading.Event) -> Callable[[Slot], None]:
    def work(_slot: Slot) -> None:
        steps.append(name)
        if name.endswith("last"):
            last.set()

    return work


def until(released: threading.Event) -> Callable[[Slot], None]:
    def work(_slot: Slot) -> None:
        released.wait(PATIENCE)

    return work


def test_what_only_waits_makes_room() -> None:
    together = threading.Barrier(4)

    def work(slot: Slot) -> None:
        with process(slot, "sleep 100"):
            together.wait(PATIENCE)

    with slots(busy=1, most=3) as some:
        for _ in range(3):
            some.submit("run", work)
        together.wait(PATIENCE)


def test_what_computes_keeps_its_room() -> None:
    steps: list[str] = []
    last = threading.Event()

    def work(slot: Slot) -> None:
        with process(slot, "timeout 1 sh -c 'while :; do :; done'") as computing:
            computing.wait()
        steps.append("computed")

    with slots(busy=1, most=3) as some:
        some.submit("run", work)
        some.submit("run", noted(steps, "last", last))
        assert last.wait(PATIENCE)
    assert steps == ["computed", "last"]


def test_there_are_never_more_than_the_most() -> None:
    begun, release = threading.Semaphore(0), threading.Event()
    most_begun: list[int] = []
    under_way = 0
    lock = threading.Lock()

    def work(slot: Slot) -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            most_begun.append(under_way)
        with process(slot, "sleep 100"):
            begun.release()
            release.wait(PATIENCE)
        with lock:
            under_way -= 1

    with slots(busy=2, most=2) as some:
        for _ in range(6):
            some.submit("run", work)
        for _ in range(2):
            assert begun.acquire(timeout=PATIENCE)
        release.set()
        for _ in range(4):
            assert begun.acquire(timeout=PATIENCE)
    assert max(most_begun) == 2


def test_owners_take_turns() -> None:
    steps: list[str] = []
    last, release = threading.Event(), threading.Event()
    with slots(busy=1, most=1) as some:
        some.submit("wide", until(release))
        for name in ("wide 1", "wide 2", "wide 3 last"):
            some.submit("wide", noted(steps, name, last))
        some.submit("narrow", noted(steps, "narrow", last))
        release.set()
        assert last.wait(PATIENCE)
    assert steps == ["wide 1", "narrow", "wide 2", "wide 3 last"]


def test_an_owner_that_hurries_waits_for_nobody() -> None:
    steps: list[str] = []
    last, release = threading.Event(), threading.Event()
    with slots(busy=1, most=1) as some:
        some.submit("other", until(release))
        some.submit("cancelled", noted(steps, "last", last))
        assert not steps
        some.hurry("cancelled")
        assert last.wait(PATIENCE)
        release.set()


def test_closing_waits_for_what_has_begun_and_begins_nothing_more() -> None:
    steps: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def work(_slot: Slot) -> None:
        begun.set()
        release.wait(PATIENCE)
        steps.append("ended")

    some = Slots(1, 1)
    some.submit("run", work)
    assert begun.wait(PATIENCE)
    closer = threading.Thread(target=some.close)
    closer.start()
    release.set()
    closer.join()
    some.submit("run", lambda _: steps.append("began"))
    assert steps == ["ended"]
