"""Fixtures of the job services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localvertex.home import Home
from tests.localvertex.jobs.support import Service


@pytest.fixture
def restarts(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    """Builds the service on the same state again and again; the one before must have been closed."""
    home = Home(tmp_path / "home").create()
    built: list[Service] = []

    def build() -> Service:
        built.append(Service(home))
        return built[-1]

    yield build
    for service in built:
        service.jobs.close()
        service.store.close()


@pytest.fixture
def service(restarts: Callable[[], Service]) -> Service:
    """The service, once."""
    return restarts()
