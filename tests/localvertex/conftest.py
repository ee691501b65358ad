"""Fixtures that the tests of localvertex share: the databases that a store can be in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.localvertex.databases import fresh_database, postgresql


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A PostgreSQL cluster of this session; skips where there is none."""
    with postgresql() as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes empty databases, of either kind in turn; gives their URLs."""
    if request.param == "postgresql":
        cluster: str = request.getfixturevalue("cluster")
        return lambda: fresh_database(cluster)
    return lambda: f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"


@pytest.fixture
def new_postgresql(cluster: str) -> str:
    """The URL of an empty PostgreSQL database."""
    return fresh_database(cluster)
