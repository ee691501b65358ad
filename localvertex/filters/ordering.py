"""The order of a list, as `order_by` asks for it.

Source: https://google.aip.dev/132#ordering
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.protobuf.message import Message

from localvertex.filters.fields import Unsupported, field_at
from localvertex.store import resources


@dataclass(frozen=True)
class _Key:
    """One field to order by: a column, or what `get` finds in the message."""

    get: Callable[[Any], Any]
    column: sa.ColumnElement[Any] | None
    descends: bool = False


@dataclass(frozen=True)
class Order:
    """The order of a list; the last key is the id or the name, so that no two resources are equal.

    A position in it is the values of the keys of one resource.
    """

    keys: Sequence[_Key]

    @property
    def is_of_columns(self) -> bool:
        """Whether the database can put resources in this order; else only their messages tell."""
        return all(key.column is not None for key in self.keys)

    @property
    def columns(self) -> list[sa.ColumnElement[Any]]:
        """What a query reads to know positions, in an order of columns."""
        return [key.column for key in self.keys if key.column is not None]

    @property
    def clauses(self) -> list[sa.ColumnElement[Any]]:
        """What a query is ordered by, in an order of columns."""
        return [key.column.desc() if key.descends else key.column for key in self.keys if key.column is not None]

    def beyond(self, position: Sequence[Any]) -> sa.ColumnElement[bool]:
        """A condition on `resources`: to come after a position, in an order of columns."""
        beyond: sa.ColumnElement[bool] = sa.false()
        for key, value in reversed(list(zip(self.keys, position, strict=True))):
            assert key.column is not None
            further = key.column < value if key.descends else key.column > value
            beyond = sa.or_(further, sa.and_(key.column == value, beyond))
        first, value = self.keys[0], position[0]
        assert first.column is not None
        # Says nothing new, but lets the database begin reading an index at the position.
        return sa.and_(first.column <= value if first.descends else first.column >= value, beyond)

    def position(self, message: Message) -> list[Any]:
        """Where a message is."""
        return [key.get(message) for key in self.keys]

    def compare(self, one: Sequence[Any], other: Sequence[Any]) -> int:
        """Below 0 when the first of two positions comes first, above 0 when it comes after, else 0."""
        for key, mine, theirs in zip(self.keys, one, other, strict=True):
            if mine != theirs:
                # A message without the field comes before all that have it.
                less = mine is None or (theirs is not None and mine < theirs)
                return -1 if less != key.descends else 1
        return 0


_BY_NAME = _Key(operator.attrgetter("name"), resources.c.name)
_OLDEST = _Key(operator.attrgetter("create_time"), resources.c.id)
_NEWEST = _Key(operator.attrgetter("create_time"), resources.c.id, descends=True)
NEWEST_FIRST = Order((_NEWEST,))


def parse_order(kind: type[proto.Message], order_by: str) -> Order:
    """The order that an `order_by` asks for, newest first when it is empty.

    Raises:
        google.api_core.exceptions.InvalidArgument: naming the part that cannot be ordered by.
    """
    if not order_by.strip():
        return NEWEST_FIRST
    keys = [_key(kind, part.strip()) for part in order_by.split(",")]
    if any(key.column is None for key in keys):
        return Order((*keys, _BY_NAME))
    # In the direction of the last key, so that an index gives the whole order.
    return Order((*keys, _NEWEST if keys[-1].descends else _OLDEST))


def _key(kind: type[proto.Message], part: str) -> _Key:
    path, _, direction = part.partition(" ")
    if direction.strip() not in ("", "asc", "desc"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": after a field comes "desc", "asc" or nothing.')
    try:
        found = field_at(kind, path.split("."))
    except Unsupported as problem:
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {problem}.') from None
    if found.type in ("many", "message", "any"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {path} has no order.')
    column = found.facet.order(found.type) if found.facet is not None else found.column
    return _Key(found.get, column, descends=direction.strip() == "desc")
