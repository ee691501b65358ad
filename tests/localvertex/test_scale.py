"""Protects large stores: the work that a list or a lineage query takes does not grow with what is in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from localvertex.api.methods import MethodTable
from localvertex.api.rest_frontend import RestFrontend
from localvertex.filters import scan
from localvertex.home import Home
from localvertex.server import Services
from localvertex.workloads.table import ImageTable
from tests.bench import scale
from tests.localvertex.runners import new_runner

SMALL, LARGE = 100, 400
STEPS = 10
# Text in the middle of a field is looked for in every one; what is common is looked for from the newest on.
GROWS = {"jobs by part of a name", "artifacts by part of a URI", "artifacts by a wide range"}


class Store:
    """A filled store behind the API, and a count of the steps that SQLite takes to answer."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.home, self.runs, self.steps = Home(folder).create(), runs, 0
        scale.fill(self.home, runs)
        self.services = Services(self.home, new_runner(self.home, ImageTable((), folder), {}))
        self.frontend = RestFrontend(MethodTable(self.services.api, self.services.projects.number_of))
        sa.event.listen(self.services.store.engine, "checkout", self._count)

    def _count(self, connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(self._step, STEPS)

    def _step(self) -> int:
        self.steps += 1
        return 0

    def ask(self, name: str) -> float:
        """The steps, in tens, that a question of the benchmark takes for each part of its answer."""
        path, query, field, count = scale.questions(self.home, self.runs)[name]
        before = self.steps
        body, _ = self.frontend.answer("GET", f"/v1/{quote(path, safe='/:')}", query.items(), b"", "")
        answer = json.loads(body)
        scale.check(name, answer, field, count)
        return (self.steps - before) / (len(answer[field]) if count else 1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    stores = [Store(tmp_path_factory.mktemp("scale") / "state", runs) for runs in (SMALL, LARGE)]
    yield stores[0], stores[1]
    for store in stores:
        store.services.close()


@pytest.mark.parametrize("name", sorted(scale.questions(Home(Path()), LARGE).keys() - GROWS))
def test_no_question_takes_longer_in_a_larger_store(
    stores: tuple[Store, Store], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in (("_FEW", 10), ("_READ", 10), ("_MANY", 150)):
        monkeypatch.setattr(scan, limit, value)
    small, large = (store.ask(name) for store in stores)
    assert large <= 1.5 * small + 20, f"{small} and {large} times ten steps"
