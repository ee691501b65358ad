"""The one durable store: API resources as serialized protocol buffers beside the columns they are found by.

Every write is committed before it returns (SQLite in WAL mode), so what was acknowledged survives a kill.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import proto
import sqlalchemy as sa
from google.api_core import exceptions

tables = sa.MetaData()
"""Modules that keep rows of their own (engine journal, lineage edges) register their tables here."""

resources = sa.Table(
    "resources",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("parent", sa.String, nullable=False),
    sa.Column("display_name", sa.String, nullable=False),
    sa.Column("schema_title", sa.String, nullable=False),
    sa.Column("uri", sa.String, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("resources_by_parent", "kind", "parent", "created"),
    sa.Index("resources_by_update", "kind", "parent", "updated"),
    # With the parent behind what is asked for, a database without statistics prefers these to a walk by date.
    sa.Index("resources_by_state", "kind", "state", "parent", "created"),
    sa.Index("resources_by_uri", "kind", "uri", "parent", "created"),
    sa.Index("resources_by_schema", "kind", "schema_title", "parent", "created"),
    sa.Index("resources_by_display_name", "kind", "display_name", "parent", "created"),
)

CHUNK = 500
"""How many names go into one SQL IN list: databases bound the number of parameters of a statement."""

Resource = TypeVar("Resource", bound=proto.Message)


def kind_of(message: proto.Message | type[proto.Message]) -> str:
    """The message type's short name, under which its resources are stored: `PipelineJob`, `Artifact`."""
    return message.__name__ if isinstance(message, type) else type(message).__name__


def parent_of(name: str) -> str:
    """What a resource name hangs under: `projects/1/locations/x/models/7` -> `projects/1/locations/x`."""
    return name.rsplit("/", 2)[0]


class Store:
    """API resources in one SQL database, read by any thread, written by one at a time.

    Args:
        url: an SQLAlchemy URL; `sqlite:///path` gets WAL mode.
    """

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _use_write_ahead_log)
            sa.event.listen(self.engine, "begin", _begin)
        self._writing = threading.RLock()
        self._open = threading.local()
        tables.create_all(self.engine)

    @classmethod
    def at(cls, path: Path) -> Store:
        """The store in an SQLite file, created when missing."""
        return cls(f"sqlite:///{path}")

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction, one writer at a time in this process; committed on leaving, rolled back on error.

        Inside another `write` of the same thread it joins that one, so that several changes commit as one.
        """
        outer = self._transaction()
        if outer is not None:
            with outer.begin_nested():
                yield outer
            return
        with self._writing, self._writer.begin() as connection:
            self._open.transaction = connection
            try:
                yield connection
            finally:
                self._open.transaction = None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading a consistent snapshot; inside `write` it sees what was written there."""
        outer = self._transaction()
        if outer is not None:
            yield outer
            return
        with self.engine.connect() as connection:
            yield connection

    def _transaction(self) -> sa.Connection | None:
        return getattr(self._open, "transaction", None)

    def create(self, resource: Resource) -> Resource:
        """Insert a resource, stamping its create and update times and its etag where its type has them.

        Raises:
            google.api_core.exceptions.AlreadyExists: the name is taken.
        """
        now = _now()
        _stamp(resource, now, "create_time", "update_time")
        try:
            with self.write() as connection:
                connection.execute(resources.insert().values(created=now, **_row(resource, now)))
        except sa.exc.IntegrityError as error:
            raise exceptions.AlreadyExists(f"{kind_of(resource)} {_name(resource)} already exists.") from error
        return resource

    def save(self, resource: Resource) -> Resource:
        """Overwrite an existing resource, stamping its update time and its etag.

        Raises:
            google.api_core.exceptions.NotFound: there is none of that name.
        """
        now = _now()
        _stamp(resource, now, "update_time")
        with self.write() as connection:
            done = connection.execute(
                resources.update()
                .where(resources.c.kind == kind_of(resource), resources.c.name == _name(resource))
                .values(**_row(resource, now))
            )
        if not done.rowcount:
            raise _not_found(type(resource), _name(resource))
        return resource

    def update(self, kind: type[Resource], name: str, change: Callable[[Resource], None]) -> Resource:
        """Read, change and save one resource as one transaction."""
        with self.write():
            resource = self.get(kind, name)
            change(resource)
            return self.save(resource)

    def get(self, kind: type[Resource], name: str) -> Resource:
        """The resource of that name.

        Raises:
            google.api_core.exceptions.NotFound: there is none.
        """
        found = self.find(kind, name)
        if found is None:
            raise _not_found(kind, name)
        return found

    def find(self, kind: type[Resource], name: str) -> Resource | None:
        """The resource of that name, or None."""
        query = sa.select(resources.c.body).where(resources.c.kind == kind_of(kind), resources.c.name == name)
        with self.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else parse(kind, body)

    def find_all(self, kind: type[Resource], names: Sequence[str]) -> list[Resource]:
        """The resources of these names that exist, in the order of the names."""
        found: dict[str, Resource] = {}
        with self.read() as connection:
            for start in range(0, len(names), CHUNK):
                rows = connection.execute(
                    sa.select(resources.c.name, resources.c.body).where(
                        resources.c.kind == kind_of(kind), resources.c.name.in_(names[start : start + CHUNK])
                    )
                )
                found.update((name, parse(kind, body)) for name, body in rows)
        return [found[name] for name in names if name in found]

    def delete(self, kind: type[Resource], name: str) -> None:
        """Remove the resource of that name.

        Raises:
            google.api_core.exceptions.NotFound: there is none.
        """
        with self.write() as connection:
            done = connection.execute(
                resources.delete().where(resources.c.kind == kind_of(kind), resources.c.name == name)
            )
        if not done.rowcount:
            raise _not_found(kind, name)

    def select(
        self,
        kind: type[Resource],
        *where: sa.ColumnElement[bool],
        parent: str | None = None,
        order_by: Sequence[sa.ColumnElement[Any]] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Resource]:
        """Resources of one kind, newest first unless ordered otherwise.

        Args:
            where: conditions on the columns of `resources`.
            parent: only those directly under this resource name.
        """
        query = sa.select(resources.c.body).where(resources.c.kind == kind_of(kind), *where)
        if parent is not None:
            query = query.where(resources.c.parent == parent)
        query = query.order_by(*(order_by or (resources.c.created.desc(), resources.c.name)))
        with self.read() as connection:
            bodies = connection.execute(query.limit(limit).offset(offset)).scalars().all()
        return [parse(kind, body) for body in bodies]

    def close(self) -> None:
        """Release the database's connections."""
        self.engine.dispose()


def _use_write_ahead_log(connection: Any, _record: Any) -> None:
    # The driver's own transactions would begin at the first write only: reads would see no one snapshot.
    connection.isolation_level = None
    # NORMAL loses nothing when a process is killed; only a power cut can take the last commits.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A write that begins as a read could not wait for another process's write: it would fail at once.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _now() -> float:
    # Whole microseconds, as the API's times are: then a column compares exactly as the message's field does.
    return time.time_ns() // 1000 / 1_000_000


def _name(resource: proto.Message) -> str:
    return str(resource.name)


def _row(resource: proto.Message, now: float) -> dict[str, Any]:
    name = _name(resource)
    return {
        "kind": kind_of(resource),
        "name": name,
        "parent": parent_of(name),
        "display_name": getattr(resource, "display_name", ""),
        "schema_title": getattr(resource, "schema_title", ""),
        "uri": getattr(resource, "uri", ""),
        "state": _state(resource),
        "updated": now,
        "body": type(resource).serialize(resource),
    }


def _state(resource: proto.Message) -> int:
    state = getattr(resource, "state", 0)
    return int(state) if isinstance(state, int) else 0


def _stamp(resource: proto.Message, now: float, *fields: str) -> None:
    known, message = type(resource).meta.fields, type(resource).pb(resource)
    for field in fields:
        if field in known:
            getattr(message, field).FromMicroseconds(round(now * 1e6))
    if "etag" in known:
        message.etag = str(round(now * 1e6))


def parse(kind: type[Resource], body: bytes) -> Resource:
    """A resource from its `body` column."""
    message: Resource = kind.deserialize(body)
    return message


def _not_found(kind: type[proto.Message], name: str) -> exceptions.NotFound:
    return exceptions.NotFound(f"{kind_of(kind)} {name} is not found.")
