"""Protects the choice of a database: the server keeps all it knows in it, and finds it again without being told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from kfp import compiler, dsl

from localvertex import database
from localvertex.home import Home
from localvertex.store import Store, StoreError, resources
from tests.localvertex.engine.pieces import copy, say, write


@dsl.pipeline(name="databases")
def pipeline(text: str = "hello"):
    made = write(text=text)
    copy(source=made.outputs["file"])
    say(text=text)


class Command:
    """`localvertex …` for one state folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "state"

    def __call__(self, *arguments: str, code: int = 0, **variables: str) -> Any:
        """What the command printed as JSON; what it complained of when it is to fail."""
        done = subprocess.run(
            [sys.executable, "-m", "localvertex", *arguments, "--json"],
            env={**os.environ, "LOCALVERTEX_HOME": str(self.home), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def localvertex(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command("stop")


def test_a_server_keeps_its_runs_in_the_database(
    localvertex: Command, tmp_path: Path, new_database: Callable[[], str]
) -> None:
    compiled, url = str(tmp_path / "pipeline.json"), new_database()
    compiler.Compiler().compile(pipeline, compiled)
    started = localvertex("start", LOCALVERTEX_DATABASE_URL=url)
    assert localvertex("run", compiled)["state"] == "SUCCEEDED"
    os.kill(started["pid"], signal.SIGKILL)
    localvertex("start")
    assert [run["state"] for run in localvertex("runs")] == ["SUCCEEDED"]
    again = localvertex("run", compiled)
    assert {task["state"] for task in again["tasks"]} == {"cached"}
    assert localvertex("status")["database"] == url
    localvertex("stop")
    store = Store(url)
    with store.read() as connection:
        kinds = dict(
            connection.execute(
                sa.select(resources.c.kind, sa.func.count())
                .where(resources.c.kind.in_(["PipelineJob", "Artifact", "Context"]))
                .group_by(resources.c.kind)
            ).all()
        )
    store.close()
    assert kinds == {"PipelineJob": 2, "Artifact": 2, "Context": 3}


def test_reset_empties_the_database_too(localvertex: Command, new_postgresql: str) -> None:
    localvertex("start", LOCALVERTEX_DATABASE_URL=new_postgresql)
    localvertex("reset", "--yes")
    assert not localvertex.home.exists()
    engine = sa.create_engine(new_postgresql.replace("postgresql:", "postgresql+psycopg:"))
    assert database.SCHEMA not in sa.inspect(engine).get_schema_names()
    engine.dispose()


def test_two_servers_do_not_share_a_database(localvertex: Command, tmp_path: Path, new_postgresql: str) -> None:
    localvertex("start", LOCALVERTEX_DATABASE_URL=new_postgresql)
    other = Command(tmp_path / "other")
    assert "another localvertex uses the database" in other("start", code=2, LOCALVERTEX_DATABASE_URL=new_postgresql)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nonsense", "the database URL is none"),
        ("mysql://me:secret@localhost/x", "databases of the kind mysql are not supported"),
        ("postgresql://me:secret@127.0.0.1:1/x", "cannot be used: connection failed"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(url: str, problem: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as refused:
        Store(url)
    assert problem in str(refused.value) and "secret" not in str(refused.value)


def test_state_of_another_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text("CREATE TABLE resources (name TEXT, kind TEXT)"))
    with pytest.raises(StoreError, match=r"the table resources has no body, .* another version"):
        Store(url)


def test_a_password_is_kept_private_and_never_shown(tmp_path: Path) -> None:
    url = "postgresql://me:se@cret@db.example/localvertex"
    home = Home(tmp_path / "state", database_url=url).create()
    again = Home(home.path)
    assert again.store_url == url and again.shown_store_url == "postgresql://me:***@db.example/localvertex"
    assert (home.path / "database.url").stat().st_mode & 0o777 == 0o600
    assert not again.foreign()
    assert Home(tmp_path / "other").shown_store_url == f"sqlite:///{tmp_path / 'other' / 'store.db'}"
