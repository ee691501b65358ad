"""Protects the store: what was acknowledged is there, what failed left nothing, readers see one moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact, Context, PipelineJob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localvertex.store import Store, parent_of, resources

PARENT = "projects/1/locations/x/metadataStores/default"


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


def artifact(id: str, **fields: object) -> Artifact:
    return Artifact(name=f"{PARENT}/artifacts/{id}", **fields)


def test_a_resource_comes_back_as_it_went_in(store: Store) -> None:
    made = store.create(artifact("a", uri="gs://b/x", metadata={"n": 1, "deep": {"list": [1, "two", None]}}))
    assert store.get(Artifact, made.name) == made
    assert made.create_time == made.update_time and made.etag


def test_a_name_is_taken_once_per_kind(store: Store) -> None:
    store.create(artifact("a"))
    with pytest.raises(exceptions.AlreadyExists, match="artifacts/a already exists"):
        store.create(artifact("a"))
    store.create(Context(name=f"{PARENT}/artifacts/a"))
    assert store.find(PipelineJob, f"{PARENT}/artifacts/a") is None


def test_many_are_created_at_once_or_none(store: Store) -> None:
    made: list[Artifact] = [artifact(str(i), labels={"i": str(i)}) for i in range(300)]
    ids = store.create_all([*made, Context(name=f"{PARENT}/contexts/c")])
    assert sorted(ids) == ids and store.select(Artifact) == made[::-1]
    assert store.select(Artifact, resources.c.id == ids[7]) == [made[7]]
    with pytest.raises(exceptions.AlreadyExists):
        store.create_all([artifact("new"), artifact("5")])
    assert store.find(Artifact, f"{PARENT}/artifacts/new") is None


def test_what_is_missing_is_named(store: Store) -> None:
    for act in (
        lambda: store.get(Artifact, "x"),
        lambda: store.save(Artifact(name="x")),
        lambda: store.delete(Artifact, "x"),
        lambda: store.update(Artifact, "x", lambda found: None),
    ):
        with pytest.raises(exceptions.NotFound, match="Artifact x is not found"):
            act()


def test_saving_moves_update_time_and_etag_but_not_create_time(store: Store) -> None:
    made = Artifact(store.create(artifact("a")))
    saved = store.update(Artifact, made.name, lambda found: setattr(found, "display_name", "new"))
    assert (saved.create_time, saved.display_name) == (made.create_time, "new")
    assert saved.update_time > made.update_time and saved.etag > made.etag
    assert store.select(Artifact, resources.c.display_name == "new") == [saved]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write():
        store.create(artifact("a"))
        with store.write():
            store.create(artifact("b"))
        assert store.find(Artifact, f"{PARENT}/artifacts/b") is not None
        raise RuntimeError
    assert store.select(Artifact) == []


def test_a_failure_inside_a_transaction_costs_only_itself(store: Store) -> None:
    with store.write():
        store.create(artifact("a"))
        with pytest.raises(exceptions.AlreadyExists):
            store.create(artifact("a"))
        store.create(artifact("b"))
    assert {parent_of(found.name) for found in store.select(Artifact)} == {PARENT}
    assert len(store.select(Artifact)) == 2


def test_a_reader_sees_one_moment(store: Store) -> None:
    store.create(artifact("a"))
    count = sa.select(sa.func.count()).select_from(resources)
    with store.read() as connection:
        before = connection.execute(count).scalar_one()
        thread = threading.Thread(target=lambda: store.create(artifact("b")))
        thread.start()
        thread.join()
        assert connection.execute(count).scalar_one() == before == 1
    assert len(store.select(Artifact)) == 2


def test_updates_from_many_threads_all_count(store: Store) -> None:
    name = store.create(artifact("a", metadata={"n": 0})).name

    def add_ten() -> None:
        for _ in range(10):
            store.update(Artifact, name, lambda found: found.metadata.update(n=found.metadata["n"] + 1))

    threads = [threading.Thread(target=add_ten) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(Artifact, name).metadata["n"] == 80


def test_what_was_acknowledged_survives_a_kill(url: str) -> None:
    script = f"""
import os, signal
from google.cloud.aiplatform_v1.types import Artifact
from localvertex.store import Store
store = Store({url!r})
for i in range(20):
    store.create(Artifact(name=f"{PARENT}/artifacts/{{i}}"))
    print(i, flush=True)
with store.write():
    store.create(Artifact(name="{PARENT}/artifacts/half"))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    acknowledged = done.stdout.split()
    assert done.returncode == -9 and len(acknowledged) == 20, done.stderr
    again = Store(url)
    found = again.select(Artifact)
    again.close()
    assert sorted(int(item.name.rsplit("/")[-1]) for item in found) == list(range(20))


def test_find_all_keeps_the_order_asked_for(store: Store) -> None:
    asked = [f"{PARENT}/artifacts/{i}" for i in range(1200)]
    with store.write():
        for name in reversed(asked):
            store.create(Artifact(name=name))
    assert [found.name for found in store.find_all(Artifact, [*asked, "missing"])] == asked


def test_an_sqlite_database_is_in_wal_mode(tmp_path: Path) -> None:
    Store.at(tmp_path / "store.db").create(artifact("a"))
    assert sqlite3.connect(tmp_path / "store.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


operations = st.lists(
    st.tuples(st.sampled_from(["create", "save", "delete"]), st.integers(0, 4), st.text(max_size=5)),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_the_store_behaves_as_a_dictionary(store: Store, script: list[tuple[str, int, str]]) -> None:
    model = dict[str, str]()
    for found in store.select(Artifact):
        store.delete(Artifact, found.name)
    for action, key, text in script:
        name = f"{PARENT}/artifacts/{key}"
        wanted = exceptions.AlreadyExists if action == "create" else exceptions.NotFound
        allowed = (name in model) != (action == "create")
        try:
            if action == "delete":
                store.delete(Artifact, name)
                model.pop(name)
            else:
                getattr(store, action)(Artifact(name=name, display_name=text))
                model[name] = text
        except wanted:
            assert not allowed
        else:
            assert allowed
    assert {found.name: found.display_name for found in store.select(Artifact)} == model
