"""The scan that answers a list: what passes a condition, read from the store in an order.

Without statistics a database cannot tell which of several conditions holds for few, and where to begin. So the
indexes are asked first: the search begins with the condition whose newest thousand go back furthest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, Generic

import sqlalchemy as sa

from localvertex.filters.conditions import Condition, Postings, decide, indexed_parts, is_exact, leaves, narrowed
from localvertex.filters.ordering import NEWEST_FIRST, Order
from localvertex.store import Resource, Store, kind_of, parse, resources

_SCAN, _READ = 200, 50
"""How many messages are read at a time when some of them will not pass, and when all will."""

_FEW, _MANY = 1000, 10_000
"""How many resources are looked up at a time by what an index says of them, and of how many it may be sorted."""

_AnyPostings = Sequence[Postings]


@dataclass(frozen=True)
class _Found:
    """Ids that an index gave, newest first; and whether these are all."""

    postings: _AnyPostings
    ids: Sequence[int]
    whole: bool


class Scan(Generic[Resource]):
    """The resources of a kind that pass a condition.

    Args:
        where: more conditions, on the columns of `resources`.
    """

    def __init__(
        self,
        store: Store,
        kind: type[Resource],
        condition: Condition,
        where: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        self._store = store
        self._kind = kind
        self._condition = condition
        self._within = [resources.c.kind == kind_of(kind), *where]
        self._exact = is_exact(condition)
        self._leaves = [] if self._exact else [leaf for leaf in leaves(condition) if leaf.where is not None]

    def walk(
        self, order: Order = NEWEST_FIRST, after: Sequence[Any] | None = None, batch: int = _SCAN
    ) -> Iterator[tuple[list[Any], Resource]]:
        """The resources in an order, each with its position.

        Args:
            after: the position to begin after; None for the beginning.
            batch: how many are wanted at a time; as many are read, at most, when all that are read pass.
        """
        if order.is_of_columns:
            yield from self._by_columns(order, after, batch)
        else:
            yield from self._by_messages(order, after, batch)

    def _by_messages(
        self, order: Order, after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """In an order that only the messages tell."""
        # Only positions are held, not messages: a run's message can be large.
        positions = [order.position(type(resource).pb(resource)) for _, resource in self.walk()]
        positions.sort(key=cmp_to_key(order.compare))
        if after is not None:
            positions = [position for position in positions if order.compare(position, after) > 0]
        for start in range(0, len(positions), batch):
            some = positions[start : start + batch]
            found = self._store.find_all(self._kind, [position[-1] for position in some])
            there = {str(resource.name): resource for resource in found}
            yield from ((position, there[position[-1]]) for position in some if position[-1] in there)

    def _by_columns(
        self, order: Order, after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """In an order of columns, by the ids of an index or along the order's own."""
        newest_first = order is NEWEST_FIRST
        start = self._start(after[0] if newest_first and after is not None else None)
        if start is not None and newest_first:
            return self._from(start, batch)
        if start is not None and start.whole and len(start.ids) <= _FEW:
            return self._along(order, after, batch, among=start.ids)
        return self._along(order, after, batch)

    def _along(
        self, order: Order, after: Sequence[Any] | None, batch: int, among: Sequence[int] | None = None
    ) -> Iterator[tuple[list[Any], Resource]]:
        """Along an order of columns, as many at a time as are wanted; only among some ids if they are given."""
        batch = self._batch(batch)
        # Along the index of the order, whatever others there are; or by the ids.
        where = [*self._within, _unplanned([narrowed(self._condition)])]
        if among is not None:
            where = [resources.c.id.in_(among), _unplanned([*self._within, narrowed(self._condition)])]
        query = sa.select(resources.c.id).where(*where).order_by(*order.clauses).limit(batch)
        while True:
            # Ids first: what is sorted on the way should not be whole messages.
            page = query if after is None else query.where(order.beyond(after))
            rows = self._read(order, resources.c.id.in_(page.scalar_subquery()))
            for after, resource, decided in rows:
                if self._passes(resource, decided):
                    yield after, resource
            if len(rows) < batch:
                return

    def _from(self, found: _Found, batch: int) -> Iterator[tuple[list[Any], Resource]]:
        """Newest first, by the ids that an index gives."""
        batch = self._batch(batch)
        unplanned = _unplanned([*self._within, narrowed(self._condition)])
        while True:
            for begin in range(0, len(found.ids), batch):
                where = sa.and_(resources.c.id.in_(found.ids[begin : begin + batch]), unplanned)
                for position, resource, decided in self._read(NEWEST_FIRST, where):
                    if self._passes(resource, decided):
                        yield position, resource
            if found.whole:
                return
            found = self._next(found.postings, found.ids[-1])

    def _read(self, order: Order, where: sa.ColumnElement[bool]) -> list[tuple[list[Any], Resource, list[Any]]]:
        """Positions, resources, and what the database says of the leaves that it decides."""
        columns = order.columns
        verdicts = [leaf.where.label(f"leaf_{i}") for i, leaf in enumerate(self._leaves) if leaf.where is not None]
        query = sa.select(resources.c.body, *columns, *verdicts).where(where).order_by(*order.clauses)
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        count = len(columns)
        return [(values[:count], parse(self._kind, body), values[count:]) for body, *values in rows]

    def _batch(self, wanted: int) -> int:
        return min(wanted, _READ) if self._exact else _SCAN

    def _start(self, below: int | None) -> _Found | None:
        """The condition to begin with and its first ids; None when no index can say."""
        best: _Found | None = None
        # Those whose index needs no sorting come first: with one of them, only fewer is worth sorting.
        parts = indexed_parts(self._condition, self._within)
        for postings in sorted(parts, key=_needs_sorting):
            found = (
                self._all(postings, below, best is None) if _needs_sorting(postings) else self._next(postings, below)
            )
            if found is not None and found.whole and len(found.ids) <= _FEW:
                return found
            if found is not None and (best is None or found.ids[-1] < best.ids[-1]):
                best = found
        return best

    def _next(self, postings: _AnyPostings, below: int | None) -> _Found:
        ids = self._ids(postings, below, _FEW + 1, newest_first=True)
        return _Found(postings, ids[:_FEW], whole=len(ids) <= _FEW)

    def _all(self, postings: _AnyPostings, below: int | None, even_many: bool) -> _Found | None:
        ids = self._ids(postings, below, _FEW + 1, newest_first=False)
        if len(ids) > _FEW:
            if not even_many or self._count(postings, below) > _MANY:
                return None
            ids = self._ids(postings, below, _MANY, newest_first=False)
        return _Found(postings, sorted(ids, reverse=True), whole=True)

    def _count(self, postings: _AnyPostings, below: int | None) -> int:
        """How many there are, counted no further than it matters."""
        some = _united(postings, below).limit(_MANY + 1).subquery()
        with self._store.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()

    def _ids(self, postings: _AnyPostings, below: int | None, most: int, *, newest_first: bool) -> list[int]:
        query = _united(postings, below)
        if newest_first:
            query = query.order_by(sa.text("1 DESC"))
        with self._store.read() as connection:
            return list(connection.execute(query.limit(most)).scalars())

    def _passes(self, resource: Resource, decided: Sequence[Any]) -> bool:
        if self._exact:
            return True
        verdicts = {id(leaf): bool(verdict) for leaf, verdict in zip(self._leaves, decided, strict=True)}
        return decide(self._condition, type(resource).pb(resource), verdicts)


def _needs_sorting(postings: _AnyPostings) -> bool:
    return not all(each.ordered for each in postings)


def _united(postings: _AnyPostings, below: int | None) -> Any:
    queries = [each.below(below) for each in postings]
    return queries[0] if len(queries) == 1 else sa.union(*queries)


def _unplanned(where: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """All these conditions, in words that no index answers to: the one by id is to be used."""
    return sa.case((sa.and_(*where), 1), else_=0) == 1
