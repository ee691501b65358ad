"""The journal: what of each task of a run is committed before anything acts on it; what a run resumes from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from localvertex.engine.values import State
from localvertex.store import Store, tables

_tasks = sa.Table(
    "engine_tasks",
    tables,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("parent", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sa.Column("error", sa.String, nullable=False),
    sa.Column("inputs", sa.String, nullable=False),
    sa.Column("outputs", sa.String, nullable=False),
    sa.Column("execution", sa.String, nullable=False),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Index("engine_tasks_by_path", "path", "created"),
)

_attempts = sa.Table(
    "engine_attempts",
    tables,
    # Grows with each attempt: the order of ids is the order in which they began.
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job", sa.String, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sa.Column("error", sa.String, nullable=False),
    sa.Column("log_start", sa.BigInteger, nullable=False),
    sa.Index("engine_attempts_by_task", "job", "path", "id"),
)

_INTERRUPTED = "localvertex ended meanwhile, and began the task anew when it was back."

_replaced = _tasks.delete().where(_tasks.c.job == sa.bindparam("of_job"), _tasks.c.path == sa.bindparam("of_path"))


@dataclass(frozen=True)
class Record:
    """What the journal knows of one task.

    Args:
        job: resource name of the run.
        path: the task's place in the run, such as `for-loop-1/0/train`.
        parent: path of the task that it is part of; empty at the top.
        name: what the API calls the task.
        task_id: 64-bit id, part of its folder's name.
        state: where the task stands.
        attempt: 0, and one more with each retry.
        created: when the run first met the task; this and the times below in seconds since 1970, 0 for not yet.
        started: when the task began.
        ended: when the task reached its final state.
        error: why it failed, or how the last attempt did.
        inputs: JSON of its input artifacts.
        outputs: JSON of its outputs.
        execution: resource name of its execution in the metadata store.
        fingerprint: JSON of what its cache key is made of; empty when not asked for.
    """

    job: str
    path: str
    parent: str
    name: str
    task_id: int
    state: State
    attempt: int = 0
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    error: str = ""
    inputs: str = ""
    outputs: str = ""
    execution: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class AttemptRecord:
    """What the journal knows of one attempt at a task.

    Args:
        number: of the attempt, as in `Record`; what a killed server had begun has the number of what followed it.
        state: how it ended; that of the task for the last one.
        started: this and `ended` in seconds since 1970, 0 for not yet.
        ended: see above.
        error: why it failed.
        log_start: where in the task's log file it begins, in bytes.
    """

    number: int
    state: State
    started: float
    ended: float
    error: str
    log_start: int


class Journal:
    """The rows of all runs.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, records: Iterable[Record]) -> None:
        """Insert tasks' rows, or overwrite them, as one commit."""
        rows = [_row(record) for record in records]
        if not rows:
            return
        with self._store.write() as connection:
            connection.execute(_replaced, [{"of_job": row["job"], "of_path": row["path"]} for row in rows])
            connection.execute(_tasks.insert(), rows)

    def change(self, record: Record, **fields: Any) -> Record:
        """Write some fields of a task's row; returns the record as it now is."""
        with self._store.write() as connection:
            connection.execute(
                _tasks.update()
                .where(_tasks.c.job == record.job, _tasks.c.path == record.path)
                .values(**{name: _plain(value) for name, value in fields.items()})
            )
        return replace(record, **fields)

    def begin_attempt(self, record: Record, log_start: int) -> None:
        """Note that a container is started for a task.

        Args:
            log_start: size of the task's log file, in bytes.
        """
        now = time.time()
        row = {"job": record.job, "path": record.path, "number": record.attempt, "started": now, "ended": 0.0}
        with self._store.write() as connection:
            if record.started:  # the only one that may be under way is that of a server that is gone
                connection.execute(_attempts.update().where(*_under_way(record)).values(ended=now, error=_INTERRUPTED))
            connection.execute(_attempts.insert(), {**row, "error": "", "log_start": log_start})

    def end_attempt(self, record: Record, error: str) -> None:
        """Note why the attempt at a task that is under way has failed; of the last one, the task's row tells it."""
        with self._store.write() as connection:
            connection.execute(_attempts.update().where(*_under_way(record)).values(ended=time.time(), error=error))

    def attempts(self, record: Record) -> list[AttemptRecord]:
        """The attempts at a task in their order; none where no container was started for it."""
        query = sa.select(_attempts).where(_attempts.c.job == record.job, _attempts.c.path == record.path)
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(_attempts.c.id)).mappings().all()
        return [_attempt(row, record) for row in rows]

    def find(self, task_id: int) -> Record | None:
        """The task with this id, of any run."""
        with self._store.read() as connection:
            row = connection.execute(sa.select(_tasks).where(_tasks.c.task_id == task_id)).mappings().first()
        return _record(row) if row else None

    def of(self, job: str) -> dict[str, Record]:
        """A run's rows by path, in the order in which the run met the tasks."""
        query = sa.select(_tasks).where(_tasks.c.job == job).order_by(_tasks.c.created, _tasks.c.path)
        with self._store.read() as connection:
            rows = connection.execute(query).mappings().all()
        return {row["path"]: _record(row) for row in rows}

    def alike(self, pattern: str, limit: int = 100) -> list[Record]:
        """The newest rows, of any run, whose path is like an SQL pattern."""
        query = sa.select(_tasks).where(_tasks.c.path.like(pattern) if "%" in pattern else _tasks.c.path == pattern)
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(_tasks.c.created.desc()).limit(limit)).mappings().all()
        return [_record(row) for row in rows]

    def delete(self, job: str) -> None:
        """Forget a run."""
        with self._store.write() as connection:
            connection.execute(_tasks.delete().where(_tasks.c.job == job))
            connection.execute(_attempts.delete().where(_attempts.c.job == job))


def _under_way(record: Record) -> tuple[sa.ColumnElement[bool], ...]:
    return _attempts.c.job == record.job, _attempts.c.path == record.path, _attempts.c.ended == 0


def _attempt(row: Mapping[Any, Any], record: Record) -> AttemptRecord:
    told = {name: row[name] for name in ("number", "started", "ended", "error", "log_start")}
    if row["ended"]:
        return AttemptRecord(**told, state=State.FAILED)
    error = record.error if record.state.final else ""
    return AttemptRecord(**{**told, "ended": record.ended, "error": error}, state=record.state)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, State) else value


def _row(record: Record) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(record).items()}


def _record(row: Mapping[Any, Any]) -> Record:
    return Record(**{**row, "state": State(row["state"])})
