"""Comparisons of fields with the values that a filter writes, as conditions.

Whatever the store has a column or a facet for is compared by the database, the rest on the message.

Source: https://google.aip.dev/160#comparison-operators
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from localvertex import facets
from localvertex.filters.conditions import Combination, Condition, Leaf, Postings
from localvertex.filters.fields import Facet, Field, Unsupported
from localvertex.store import facets as store_facets
from localvertex.store import resources

_COMPARATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    **{"=": operator.eq, ":": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
_EQUALITIES = ("=", "!=", ":")


def compare(field: Field, comparator: str, text: str) -> Condition:
    """The condition that a field compares so with a value.

    Args:
        comparator: one of = != < > <= >= and : (has).
        text: the value, without quotes.

    Raises:
        Unsupported: what is wrong with the value or the comparator, as said of the field.
    """
    if comparator == ":" and text == "*":
        return _present(field)
    match field.type:
        case "text":
            return _compare_text(field, comparator, text)
        case "number":
            return _compare_ordered(field, comparator, _number(text))
        case "time":
            return _compare_ordered(field, comparator, _microseconds(text))
        case "bool":
            return _compare_equal(field, comparator, _boolean(text))
        case "many":
            return _has(field, comparator, text)
        case "any":
            raise Unsupported("needs the type of its value after the key, as in metadata.loss.number_value")
        case "message":
            raise Unsupported("is a message: it supports only ':*', or a comparison of one of its fields")
        case _:
            return _compare_equal(field, comparator, _enum_number(field.type, text))


def _present(field: Field) -> Condition:
    if field.facet is not None and field.type in ("text", "number", "bool"):
        return field.facet.leaf(*([store_facets.c.text != ""] if field.type == "text" else []), ordered=False)
    if field.facet is not None and field.type == "any":
        return _any_type(field.facet)
    if field.type == "time" and field.column is not None:
        return Leaf(where=field.column > 0)
    return Leaf(test=lambda message: _is_present(field.get(message)))


def _compare_text(field: Field, comparator: str, text: str) -> Leaf:
    if "*" not in text:
        return _compare_equal(field, comparator, text)
    _check(comparator, _EQUALITIES)
    matches = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL).fullmatch
    if comparator == "!=":
        return _tested(field, lambda value: not matches(value))
    return _tested(field, lambda value: matches(value) is not None, text)


def _compare_equal(field: Field, comparator: str, wanted: Any) -> Leaf:
    _check(comparator, _EQUALITIES)
    return _compare_ordered(field, comparator, wanted)


def _compare_ordered(field: Field, comparator: str, wanted: Any) -> Leaf:
    holds = _COMPARATORS[comparator]
    if field.column is not None:
        return _compare_column(field.column, comparator, wanted, is_time=field.type == "time")
    if field.facet is not None and field.type in ("number", "bool"):
        return field.facet.leaf(holds(store_facets.c.number, float(wanted)), ordered=comparator in "=:")
    if field.facet is not None and len(wanted) < facets.MAX_TEXT:
        return field.facet.leaf(holds(store_facets.c.text, wanted), ordered=comparator in "=:")
    return _tested(field, lambda value: bool(holds(value, wanted)))


def _compare_column(column: sa.Column[Any], comparator: str, wanted: Any, *, is_time: bool) -> Leaf:
    # The columns of times hold seconds, made of whole microseconds by this same division, and 0 for no time.
    where = [_COMPARATORS[comparator](column, wanted / 1_000_000 if is_time else wanted)]
    if is_time:
        where.append(column > 0)
    # What differs from a value is most of everything, and no place to begin.
    postings = None if comparator == "!=" else Postings(resources.c.id, where, ordered=not is_time)
    return Leaf(where=sa.and_(*where), postings=postings)


def _has(field: Field, comparator: str, text: str) -> Condition:
    _check(comparator, (":",))
    if field.facet is not None:
        entry = field.facet.entry(text)
        if field.facet.path == "metadata" and len(entry.path) <= facets.MAX_PATH - facets.MAX_TYPE:
            return _any_type(entry)
        if field.facet.path == "labels" and len(entry.path) <= facets.MAX_PATH:
            return entry.leaf(ordered=False)
    return _tested(field, lambda values: text in values)


def _any_type(facet: Facet) -> Condition:
    """A facet of the metadata, whichever type its value has."""
    return Combination("or", tuple(facet.entry(type).leaf(ordered=False) for type in facets.TYPES))


def _tested(field: Field, test: Callable[[Any], bool], pattern: str | None = None) -> Leaf:
    """A leaf that only the message decides; a pattern is what the texts that pass look like."""

    def passes(message: Message) -> bool:
        value = field.get(message)
        return value is not None and test(value)

    if pattern is None:
        return field.facet.narrows(passes) if field.facet is not None else Leaf(test=passes)
    head = pattern.partition("*")[0]
    if field.facet is not None:
        return field.facet.narrows(passes, *_begins(store_facets.c.text, head[: facets.MAX_TEXT]))
    if field.column is None:
        return Leaf(test=passes)
    like = field.column.like("%".join(map(_like_escaped, pattern.split("*"))), escape="\\")
    where = [*_begins(field.column, head), like]
    return Leaf(test=passes, narrows=sa.and_(*where), postings=Postings(resources.c.id, where, ordered=False))


def _begins(column: sa.Column[Any], head: str) -> list[sa.ColumnElement[bool]]:
    """What the texts that begin so have in common, in the words of an index."""
    if not head:
        return []
    last = ord(head[-1]) + 1
    after = [] if 0xD800 <= last < 0xE000 or last > 0x10FFFF else [column < head[:-1] + chr(last)]
    return [column >= head, *after]


def _like_escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _is_present(value: Any) -> bool:
    # Numbers, times and flags that are there count even when zero; texts and collections when not empty.
    return value is not None and not (hasattr(value, "__len__") and len(value) == 0)


def _check(comparator: str, supported: Sequence[str]) -> None:
    if comparator not in supported:
        raise Unsupported(f"does not support '{comparator}', only {' '.join(supported)}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Unsupported(f'is compared with a number, and "{text}" is none') from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise Unsupported(f'is compared with true or false, not with "{text}"')
    return text == "true"


def _enum_number(enum: EnumDescriptor, text: str) -> int:
    if text not in enum.values_by_name:
        raise Unsupported(f'has no value "{text}"; there is: {", ".join(enum.values_by_name)}')
    return int(enum.values_by_name[text].number)


def _microseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Unsupported(f'is compared with an RFC 3339 time such as 2020-11-19T11:30:00Z, not with "{text}"')
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
