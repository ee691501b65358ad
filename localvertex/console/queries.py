"""What pages ask of the store, each a query that an index answers: however much there is, a page is as fast."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import proto
import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import PipelineJob

from localvertex.services.moments import seconds
from localvertex.store import Resource, Store, facets, kind_of, resources

PAGE = 50
"""How many entries a page of a list shows."""

_COLUMNS = [resources.c[name] for name in ("id", "name", "display_name", "state", "created", "started", "ended")]


@dataclass(frozen=True)
class Summary:
    """What lists say of a resource, without reading all of it.

    Args:
        id: grows with each resource; what a page of a list ends with.
        name: resource name.
        display_name: as its maker called it.
        state: number of its state, of the enum of its kind.
        created: this and the others in seconds since 1970; 0 for none.
        started: when it began.
        ended: when it ended.
    """

    id: int
    name: str
    display_name: str
    state: int
    created: float
    started: float
    ended: float


def summary_of(resource: Any) -> Summary:
    """The same of a resource that has been read."""
    return Summary(
        0,
        str(resource.name),
        str(resource.display_name),
        int(resource.state),
        *(seconds(resource, f"{moment}_time") for moment in ("create", "start", "end")),
    )


def newest(
    store: Store, kind: type[proto.Message], limit: int = PAGE, before: int = 0, *where: sa.ColumnElement[bool]
) -> list[Summary]:
    """The newest resources of a kind.

    Args:
        limit: how many.
        before: only those with a lower id; 0 for all.
        where: conditions on the columns `parent`, `state` and others that an index has.
    """
    query = sa.select(resources.c.id).where(resources.c.kind == kind_of(kind), *where)
    if before:
        query = query.where(resources.c.id < before)
    return _summaries(store, query.order_by(resources.c.id.desc()).limit(limit))


def read_page(
    store: Store, kind: type[Resource], before: str, *where: sa.ColumnElement[bool]
) -> tuple[list[Resource], str]:
    """One page of the newest resources of a kind, read whole, and what the next page is `before`; empty for none.

    Args:
        before: as the page before this one has told; empty for the first.
    """
    last = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else 0
    found, older = page_of(newest(store, kind, PAGE + 1, last, *where))
    return store.find_all(kind, [each.name for each in found]), older


def newest_of(store: Store, path: str, text: str, limit: int = PAGE, before: int = 0) -> list[Summary]:
    """The newest runs of one pipeline or schedule.

    Args:
        path: of the facet, `pipeline_name` or `schedule_name`.
        text: which.
    """
    return _summaries(store, _ids_of(path, text, limit, before))


def newest_of_each(store: Store, path: str, texts: Sequence[str], limit: int) -> dict[str, list[Summary]]:
    """The newest runs of each of several pipelines or schedules, by which; the arguments are as above."""
    found: dict[str, list[Summary]] = {text: [] for text in texts}
    if texts:
        parts = [sa.select(_ids_of(path, text, limit).subquery()) for text in texts]
        with store.read() as connection:
            owners: dict[int, str] = dict(connection.execute(sa.union_all(*parts)).tuples().all())
        for each in _read(store, owners):
            found[owners[each.id]].append(each)
    return found


def _ids_of(path: str, text: str, limit: int, before: int = 0) -> sa.Select[Any]:
    query = sa.select(facets.c.resource, facets.c.text).where(
        facets.c.kind == kind_of(PipelineJob), facets.c.path == path, facets.c.text == text
    )
    if before:
        query = query.where(facets.c.resource < before)
    return query.order_by(facets.c.resource.desc()).limit(limit)


def _summaries(store: Store, ids: sa.Select[Any]) -> list[Summary]:
    # In two steps: the ids are found in an index, and only then are rows read, which are large.
    with store.read() as connection:
        found = connection.execute(ids).scalars().all()
    return _read(store, found)


def _read(store: Store, ids: Collection[int]) -> list[Summary]:
    with store.read() as connection:
        rows = connection.execute(sa.select(*_COLUMNS).where(resources.c.id.in_(ids))).all()
    return sorted((Summary(*row) for row in rows), key=lambda each: -each.id)


@dataclass(frozen=True)
class PipelineRuns:
    """A pipeline and how often it has run."""

    name: str
    runs: int


def pipelines(store: Store, limit: int = 12) -> list[PipelineRuns]:
    """The pipelines that ran last."""
    query = (
        sa.select(facets.c.text, sa.func.count(), sa.func.max(facets.c.resource).label("last"))
        .where(facets.c.kind == kind_of(PipelineJob), facets.c.path == "pipeline_name")
        .group_by(facets.c.text)
        .order_by(sa.desc("last"))
    )
    with store.read() as connection:
        return [PipelineRuns(str(name), int(count)) for name, count, _ in connection.execute(query.limit(limit))]


def count(store: Store, kind: type[proto.Message], *where: sa.ColumnElement[bool]) -> int:
    """How many resources of a kind there are."""
    query = sa.select(sa.func.count()).select_from(resources).where(resources.c.kind == kind_of(kind), *where)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def state_name(kind: Any, state: int) -> str:
    """The name of a state without the prefix of its enum, such as `SUCCEEDED`."""
    name = str(kind(state).name)
    return name.removeprefix("PIPELINE_STATE_").removeprefix("JOB_STATE_").removeprefix("STATE_")


def page_of(found: Sequence[Summary], limit: int = PAGE) -> tuple[Sequence[Summary], str]:
    """What to show of `limit + 1` entries that were asked for, and the id before which the rest is; empty for none."""
    return found[:limit], str(found[limit - 1].id) if len(found) > limit else ""
