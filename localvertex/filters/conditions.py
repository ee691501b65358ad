"""Conditions on resources: each part is decided by the database where it can be, else on the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sqlalchemy as sa
from google.protobuf.message import Message

from localvertex.store import resources


@dataclass(frozen=True)
class Postings:
    """Where an index can say for which resources a comparison holds.

    Args:
        column: of ids, of `resources` or of a table that refers to it.
        where: conditions on that table.
        ordered: the index gives the ids newest first, without having to sort them.
    """

    column: sa.ColumnElement[int]
    where: Sequence[sa.ColumnElement[bool]]
    ordered: bool = True

    def below(self, id: int | None) -> sa.Select[int]:
        """A query of the ids, or of those below one."""
        query = sa.select(self.column).where(*self.where)
        return query if id is None else query.where(self.column < id)


@dataclass(frozen=True, eq=False)
class Leaf:
    """One comparison, decided either by the database (`where`) or on the message (`test`).

    Args:
        narrows: beside `test`, a condition that whatever passes it fulfils.
        postings: where an index says for which resources `where` or `narrows` holds.
    """

    where: sa.ColumnElement[bool] | None = None
    test: Callable[[Message], bool] | None = None
    narrows: sa.ColumnElement[bool] | None = None
    postings: Postings | None = None


@dataclass(frozen=True, eq=False)
class Combination:
    """Conditions joined by AND, OR or NOT."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Condition, ...]


Condition = Leaf | Combination


def decide(condition: Condition, message: Message, verdicts: Mapping[int, bool]) -> bool:
    """Whether a message passes.

    Args:
        verdicts: by the `id()` of each leaf that has no test, what the database said.
    """
    if isinstance(condition, Leaf):
        return verdicts[id(condition)] if condition.test is None else condition.test(message)
    parts = (decide(part, message, verdicts) for part in condition.parts)
    if condition.operator == "not":
        return not next(parts)
    return all(parts) if condition.operator == "and" else any(parts)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """All comparisons of a condition."""
    if isinstance(condition, Leaf):
        yield condition
    else:
        for part in condition.parts:
            yield from leaves(part)


def is_exact(condition: Condition) -> bool:
    """Whether the database alone decides."""
    return all(leaf.where is not None for leaf in leaves(condition))


def narrowed(condition: Condition) -> sa.ColumnElement[bool]:
    """What the database can tell: whatever passes the condition fulfils this."""
    if isinstance(condition, Leaf):
        known = condition.where if condition.where is not None else condition.narrows
        return sa.true() if known is None else known
    if condition.operator == "not":
        return sa.not_(narrowed(condition.parts[0])) if is_exact(condition) else sa.true()
    parts = [narrowed(part) for part in condition.parts]
    return sa.and_(sa.true(), *parts) if condition.operator == "and" else sa.or_(sa.false(), *parts)


def indexed_parts(condition: Condition, within: Sequence[sa.ColumnElement[bool]]) -> list[list[Postings]]:
    """For each part that must hold and that indexes know of, the indexes that together say where it holds.

    Args:
        within: conditions on `resources` under which the ids of that table are looked for.
    """
    return [_postings(part, within) for part in _conjuncts(condition) if _is_indexed(part)]


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    """What whatever passes the condition must pass."""
    if isinstance(condition, Combination) and condition.operator == "and":
        for part in condition.parts:
            yield from _conjuncts(part)
    else:
        yield condition


def _is_indexed(condition: Condition) -> bool:
    if isinstance(condition, Leaf):
        return condition.postings is not None
    return condition.operator == "or" and all(map(_is_indexed, condition.parts))


def _postings(condition: Condition, within: Sequence[sa.ColumnElement[bool]]) -> list[Postings]:
    if isinstance(condition, Combination):
        return [each for part in condition.parts for each in _postings(part, within)]
    found = condition.postings
    assert found is not None
    if found.column is resources.c.id:
        found = replace(found, where=[*within, *found.where])
    return [found]
