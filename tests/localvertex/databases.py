"""The databases that a store can be in, for tests: an SQLite file, and a PostgreSQL cluster that is thrown away."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgresql() -> Iterator[str]:
    """A running cluster; yields the URL of a database in it, whose name may be changed to that of another.

    Skips the test where PostgreSQL or its driver is not installed.
    """
    pytest.importorskip("psycopg")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: there is no initdb")
    # Not pytest's folder: as root, the server runs as somebody else, who may not look in there.
    folder = Path(tempfile.mkdtemp(prefix="localvertex-postgresql-"))
    user = "postgres" if os.getuid() == 0 else None
    try:
        if user:
            shutil.chown(folder, user)
        # Words sorted as in English: what our tables need is that they do not depend on it.
        locale = ("--locale-provider=icu", "--icu-locale=en", "--encoding=UTF8", "--locale=C.UTF-8")
        command = [str(binaries / "initdb"), f"--pgdata={folder / 'data'}", "--username=postgres", "--auth=trust"]
        _run([*command, "--no-sync", *locale], user)
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        control = [str(binaries / "pg_ctl"), f"--pgdata={folder / 'data'}", "--wait", "--silent"]
        _run([*control, "start", f"--options={settings}", f"--log={folder / 'log'}"], user)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            _run([*control, "stop", "--mode=immediate"], user)
    finally:
        shutil.rmtree(folder)


def fresh_database(url: str) -> str:
    """Create an empty database in a cluster; returns its URL."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres?", f"/{name}?")


def _binaries() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return debian[-1] if debian else None


def _run(command: list[str], user: str | None) -> None:
    # Without pipes: the server would keep them open.
    done = subprocess.run(command, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 0, command
