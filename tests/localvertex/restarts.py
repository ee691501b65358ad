"""Fixtures of services that can be ended and built anew on the same state, as a restarted server would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from localvertex.home import Home


class Closable(Protocol):
    """What a stop of localvertex ends."""

    def close(self) -> None: ...


Service = TypeVar("Service", bound=Closable)


def fixtures(kind: Callable[[Home], Service]) -> tuple[Any, Any]:
    """The fixtures `restarts`, which builds the service again and again on one state folder, and `service`, once.

    The one before must have been closed when the next is built, as only one server has a folder.
    """

    @pytest.fixture
    def restarts(tmp_path: Path) -> Iterator[Callable[[], Service]]:
        home = Home(tmp_path / "home").create()
        built: list[Service] = []

        def build() -> Service:
            built.append(kind(home))
            return built[-1]

        yield build
        for service in built:
            service.close()

    @pytest.fixture
    def service(restarts: Callable[[], Service]) -> Service:
        return restarts()

    return restarts, service
