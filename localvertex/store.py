"""The one durable store: API resources as serialized protocol buffers beside the columns they are found by.

Every write is committed before it returns, so what was acknowledged survives a kill.
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

from localvertex import database
from localvertex.facets import facets_of

tables = sa.MetaData()
"""Modules that keep rows of their own (engine journal, lineage edges) register their tables here."""

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
"""Texts in the order of their characters' numbers on every database, as SQLite and Python have it."""

resources = sa.Table(
    "resources",
    tables,
    # Grows with each resource: the order of ids is the order of creation.
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", TEXT, nullable=False),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("parent", TEXT, nullable=False),
    sa.Column("display_name", TEXT, nullable=False),
    sa.Column("schema_title", TEXT, nullable=False),
    sa.Column("uri", TEXT, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    # Times in seconds since 1970; 0 where there is none.
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("name", "kind"),
    sa.Index("resources_by_parent", "kind", "parent", "id"),
    *(
        sa.Index(f"resources_by_{column}", "kind", "parent", column, "id")
        for column in (
            *("created", "updated", "started", "ended"),
            *("display_name", "schema_title", "uri", "state"),
        )
    ),
)

facets = sa.Table(
    "facets",
    tables,
    sa.Column("resource", sa.ForeignKey(resources.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("path", TEXT, primary_key=True),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("text", TEXT),
    sa.Column("number", sa.Float),
    sa.Index("facets_by_text", "kind", "path", "text", "resource"),
    sa.Index(
        "facets_by_number",
        *("kind", "path", "number", "resource"),
        sqlite_where=sa.text("number IS NOT NULL"),
        postgresql_where=sa.text("number IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

# Built once: building a statement takes longer than executing it.
_IT = sa.and_(resources.c.kind == sa.bindparam("its_kind"), resources.c.name == sa.bindparam("its_name"))
_INSERT = resources.insert()
_INSERT_ALL = resources.insert().returning(resources.c.id, sort_by_parameter_order=True)
_UPDATE = resources.update().where(_IT).returning(resources.c.id)
_FIND = sa.select(resources.c.body).where(_IT)
_DELETE = resources.delete().where(_IT)
_INSERT_FACETS = facets.insert()
_FIND_FACETS = sa.select(facets.c.path, facets.c.text, facets.c.number).where(
    facets.c.resource == sa.bindparam("its_id")
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


class StoreError(Exception):
    """A database that cannot be used; the message says why and what to do."""


class Store:
    """API resources in one SQL database, read by any thread, written by one at a time.

    Args:
        url: an SQLAlchemy URL; `sqlite:///path` gets WAL mode, `postgresql://…` a schema named `localvertex`.

    Raises:
        StoreError: the database cannot be reached, is used by another localvertex, or holds what another version
            has written.
    """

    def __init__(self, url: str) -> None:
        self._writing = threading.RLock()
        self._open = threading.local()
        self._claim: sa.Connection | None = None
        try:
            self.engine = database.engine(url)
            self._claim = database.claim(self.engine)
            _check_columns(self.engine)
            tables.create_all(self.engine)
        except database.DatabaseError as error:
            raise StoreError(str(error)) from error
        self._writer = self.engine.execution_options(writes=True)

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
                done = connection.execute(_INSERT, {"created": now, **_row(resource, now)})
                if rows := _facet_rows(_key(done), resource):
                    connection.execute(_INSERT_FACETS, rows)
        except sa.exc.IntegrityError as error:
            raise exceptions.AlreadyExists(f"{kind_of(resource)} {_name(resource)} already exists.") from error
        return resource

    def create_all(self, made: Sequence[proto.Message]) -> list[int]:
        """Insert resources, of whatever kinds, all or none; faster than one by one.

        Returns:
            Their ids, in the same order.

        Raises:
            google.api_core.exceptions.AlreadyExists: one of the names is taken.
        """
        now = _now()
        for resource in made:
            _stamp(resource, now, "create_time", "update_time")
        resource_rows = [{"created": now, **_row(each, now)} for each in made]
        try:
            with self.write() as connection:
                ids = connection.execute(_INSERT_ALL, resource_rows).scalars().all()
                rows = [row for id, each in zip(ids, made, strict=True) for row in _facet_rows(id, each)]
                if rows:
                    connection.execute(_INSERT_FACETS, rows)
        except sa.exc.IntegrityError as error:
            raise exceptions.AlreadyExists("One of the resources already exists.") from error
        return list(ids)

    def save(self, resource: Resource) -> Resource:
        """Overwrite an existing resource, stamping its update time and its etag.

        Raises:
            google.api_core.exceptions.NotFound: there is none of that name.
        """
        with self.write() as connection:
            _overwrite(connection, resource)
        return resource

    def update(self, kind: type[Resource], name: str, change: Callable[[Resource], None]) -> Resource:
        """Read, change and save one resource as one transaction."""
        with self.write() as connection:
            resource = self.get(kind, name)
            change(resource)
            _overwrite(connection, resource)
        return resource

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
        with self.read() as connection:
            body = connection.execute(_FIND, _its(kind, name)).scalar_one_or_none()
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
            done = connection.execute(_DELETE, _its(kind, name))
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
        query = query.order_by(*(order_by or (resources.c.id.desc(),)))
        with self.read() as connection:
            bodies = connection.execute(query.limit(limit).offset(offset)).scalars().all()
        return [parse(kind, body) for body in bodies]

    def close(self) -> None:
        """Release the database's connections."""
        if self._claim is not None:
            self._claim.close()
        self.engine.dispose()


def _check_columns(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    there = set(inspector.get_table_names())
    for name, table in tables.tables.items():
        if name not in there:
            continue
        columns = {str(column["name"]) for column in inspector.get_columns(name)}
        if missing := sorted(set(table.columns.keys()) - columns):
            raise StoreError(
                f"the table {name} has no {', '.join(missing)}: another version of localvertex has written this "
                "state. Begin anew with `localvertex reset`, or use that version"
            )


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
        "started": _seconds(resource, "start_time"),
        "ended": _seconds(resource, "end_time"),
        "body": type(resource).serialize(resource),
    }


def _state(resource: proto.Message) -> int:
    state = getattr(resource, "state", 0)
    return int(state) if isinstance(state, int) else 0


def _seconds(resource: proto.Message, field: str) -> float:
    # By the same division as `created`, so that a column compares exactly as the message's field does.
    message: Any = type(resource).pb(resource)
    known = message.DESCRIPTOR.fields_by_name.get(field)
    if known is None or not message.HasField(field):
        return 0.0
    return float(getattr(message, field).ToMicroseconds() / 1_000_000)


def _key(done: sa.CursorResult[Any]) -> int:
    key = done.inserted_primary_key
    assert key is not None
    return int(key[0])


def _facet_rows(id: int, resource: proto.Message) -> list[dict[str, Any]]:
    return [
        {"resource": id, "path": path, "kind": kind_of(resource), "text": text, "number": number}
        for path, (text, number) in facets_of(resource).items()
    ]


def _overwrite(connection: sa.Connection, resource: proto.Message) -> None:
    now = _now()
    _stamp(resource, now, "update_time")
    kind, name = type(resource), _name(resource)
    id = connection.execute(_UPDATE, {**_its(kind, name), **_row(resource, now)}).scalar_one_or_none()
    if id is None:
        raise _not_found(kind, name)
    _change_facets(connection, id, resource)


def _change_facets(connection: sa.Connection, id: int, resource: proto.Message) -> None:
    wanted = facets_of(resource)
    found = connection.execute(_FIND_FACETS, {"its_id": id})
    there = {path: (text, number) for path, text, number in found}
    if wanted == there:
        return
    gone = [path for path in there if wanted.get(path) != there[path]]
    for start in range(0, len(gone), CHUNK):
        some = facets.c.path.in_(gone[start : start + CHUNK])
        connection.execute(facets.delete().where(facets.c.resource == id, some))
    if rows := [row for row in _facet_rows(id, resource) if there.get(row["path"]) != wanted[row["path"]]]:
        connection.execute(_INSERT_FACETS, rows)


def _its(kind: type[proto.Message], name: str) -> dict[str, str]:
    return {"its_kind": kind_of(kind), "its_name": name}


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
