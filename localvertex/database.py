"""The database under the store: an SQLite file in WAL mode, or PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

SCHEMA = "localvertex"
"""Where PostgreSQL keeps our tables, so that they mix with no others and can be dropped as one."""

_CONNECTIONS = 40
_CLAIM_SECONDS = 5.0


class DatabaseError(Exception):
    """A database that cannot be used; the message says why and what to do."""


def engine(url: str) -> sa.Engine:
    """The engine of an SQLAlchemy URL, `sqlite:///path` or `postgresql://user:password@host/database`.

    Raises:
        DatabaseError: it is neither of these, or it cannot be reached.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise DatabaseError("the database URL is none: it looks like postgresql://user:password@host/name") from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql" | "postgres":
            return _postgresql(parsed)
        case other:
            raise DatabaseError(f"databases of the kind {other} are not supported: use sqlite or postgresql")


def claim(engine: sa.Engine) -> sa.Connection | None:
    """Make sure that no other server uses a shared database; the claim ends with the connection.

    Raises:
        DatabaseError: another one does.
    """
    if engine.dialect.name == "sqlite":
        return None
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + _CLAIM_SECONDS
    query = sa.text("SELECT pg_try_advisory_lock(hashtext(:name))").bindparams(name=SCHEMA)
    while not connection.execute(query).scalar_one():
        # The database may take a moment to see that a killed server is gone.
        if time.monotonic() > deadline:
            connection.close()
            raise DatabaseError(f"another localvertex uses the database {engine.url}: each needs one of its own")
        time.sleep(0.05)
    return connection


def erase(url: str) -> None:
    """Drop everything that localvertex keeps in a PostgreSQL database; an SQLite file is left to its folder.

    Raises:
        DatabaseError: it cannot be reached, or a server uses it.
    """
    used = engine(url)
    if used.dialect.name != "sqlite":
        claimed = claim(used)
        with used.begin() as connection:
            connection.execute(sa.schema.DropSchema(SCHEMA, cascade=True, if_exists=True))
        if claimed is not None:
            claimed.close()
    used.dispose()


def _sqlite(url: sa.URL) -> sa.Engine:
    made = sa.create_engine(url)
    sa.event.listen(made, "connect", _use_write_ahead_log)
    sa.event.listen(made, "begin", _begin)
    return made


def _use_write_ahead_log(connection: Any, _record: Any) -> None:
    # The driver's own transactions would begin at the first write only: reads would see no one snapshot.
    connection.isolation_level = None
    # NORMAL loses nothing when a process is killed; only a power cut can take the last commits.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A write that begins as a read could not wait for another process's write: it would fail at once.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: sa.URL) -> sa.Engine:
    options = f"{url.query.get('options', '')} -csearch_path={SCHEMA}".strip()
    try:
        made = sa.create_engine(
            url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
            # Of one moment, as SQLite's reads are.
            isolation_level="REPEATABLE READ",
            connect_args={"options": options},
            pool_size=_CONNECTIONS // 4,
            max_overflow=_CONNECTIONS - _CONNECTIONS // 4,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError as error:
        raise DatabaseError(
            "PostgreSQL needs the package psycopg: pip install 'psycopg[binary]', "
            "or install localvertex with its extra named postgresql"
        ) from error
    sa.event.listen(made, "connect", _leave_out_nul)
    try:
        with made.begin() as connection:
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    except sa.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise DatabaseError(f"the database {made.url} cannot be used: {reason}") from error
    return made


def _leave_out_nul(connection: Any, _record: Any) -> None:
    """PostgreSQL's texts cannot hold the character NUL; what a task printed before it failed may."""
    from psycopg.types.string import StrDumper

    class WithoutNul(StrDumper):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", ""))

    connection.adapters.register_dumper(str, WithoutNul)
