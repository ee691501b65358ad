"""Fields of messages by their path, as filters and orders name them.

Source: https://cloud.google.com/vertex-ai/docs/ml-metadata/analyzing (maps, and values of metadata by their type)
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import proto
import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from localvertex import facets, names
from localvertex.filters.conditions import Leaf, Postings
from localvertex.store import facets as store_facets
from localvertex.store import kind_of, resources

_TIMES: Mapping[str, sa.Column[Any]] = {
    **{"create_time": resources.c.created, "update_time": resources.c.updated},
    **{"start_time": resources.c.started, "end_time": resources.c.ended},
}


class Unsupported(Exception):
    """What is wrong with a field or a value; the caller knows where."""


@dataclass(frozen=True)
class Facet:
    """Something that the store indexes under a path of its own (see `localvertex.facets`)."""

    kind: str
    path: str

    def leaf(self, *where: sa.ColumnElement[bool], ordered: bool = True) -> Leaf:
        """The facet is there, and its text or number fulfils this."""
        found, postings = self._found(where, ordered)
        return Leaf(where=found, postings=postings)

    def narrows(self, test: Callable[[Message], bool], *where: sa.ColumnElement[bool]) -> Leaf:
        """The test, which nothing passes for which `leaf` does not hold."""
        found, postings = self._found(where, ordered=False)
        return Leaf(test=test, narrows=found, postings=postings)

    def order(self, type: Any) -> sa.ColumnElement[Any]:
        """What to order by: the text or the number; where there is none, what comes before all others."""
        column, least = (store_facets.c.text, "") if type == "text" else (store_facets.c.number, -sys.float_info.max)
        query = sa.select(column).where(store_facets.c.resource == resources.c.id, store_facets.c.path == self.path)
        return sa.func.coalesce(query.correlate(resources).scalar_subquery(), least)

    def entry(self, key: str) -> Facet:
        """One entry of the map that this is the path of."""
        return Facet(self.kind, f"{self.path}.{key}")

    def _found(self, where: Sequence[sa.ColumnElement[bool]], ordered: bool) -> tuple[sa.ColumnElement[bool], Postings]:
        known = [store_facets.c.kind == self.kind, store_facets.c.path == self.path, *where]
        found = sa.exists().where(store_facets.c.resource == resources.c.id, *known)
        return found, Postings(store_facets.c.resource, known, ordered)


@dataclass(frozen=True)
class Field:
    """One thing of a message to compare or to order by.

    Args:
        type: text, number, bool, time (microseconds since 1970), an enum, many (texts), message, or any
            (a Struct's value of a type that only the message knows).
        get: its value in a message; None where the message has none.
        column: the column of `resources` that holds the same.
        facet: where the store indexes the same.
    """

    type: Literal["text", "number", "bool", "time", "many", "message", "any"] | EnumDescriptor
    get: Callable[[Any], Any]
    column: sa.Column[Any] | None = None
    facet: Facet | None = None


def field_at(kind: type[proto.Message], segments: Sequence[str]) -> Field:
    """The field at a path, whose names may be snake_case or camelCase.

    Raises:
        Unsupported: there is none, or it cannot be compared.
    """
    descriptor: Descriptor = kind.meta.pb.DESCRIPTOR
    found = _alias(kind, descriptor, segments) or _walk(descriptor, list(segments), lambda message: message)
    return found if found.column is not None else replace(found, facet=_facet(kind, segments, found))


def _facet(kind: type[proto.Message], segments: Sequence[str], found: Field) -> Facet | None:
    first, *rest = segments
    if found.type in ("any", "many") and facets.has(kind, first, len(rest)):
        return Facet(kind_of(kind), ".".join(segments))
    path = facets.path_of(kind, [_snake(first), *rest])
    return None if path is None else Facet(kind_of(kind), path)


def _alias(kind: type[proto.Message], descriptor: Descriptor, segments: Sequence[str]) -> Field | None:
    """Fields that only lists know: a column's, or `model` for a Model's id."""
    if len(segments) != 1:
        return None
    name = _snake(segments[0])
    own = name in descriptor.fields_by_name
    if own and name in ("name", "display_name", "schema_title", "uri"):
        return Field("text", operator.attrgetter(name), resources.c[name])
    if own and name in _TIMES:
        return Field("time", _walk(descriptor, [name], lambda message: message).get, _TIMES[name])
    if own and name == "state" and (enum := descriptor.fields_by_name[name].enum_type) is not None:
        return Field(enum, operator.attrgetter(name), resources.c.state)
    if not own and name in (_snake(kind.__name__), _snake(kind.__name__) + "_user_id"):
        return Field("text", _id_in(f"{kind.__name__[0].lower()}{kind.__name__[1:]}s"))
    if not own and name == "pipeline_name" and "pipeline_spec" in descriptor.fields_by_name:
        path = ["pipeline_spec", "pipelineInfo", "struct_value", "name", "string_value"]
        return _walk(descriptor, path, lambda message: message)
    return None


def _id_in(collection: str) -> Callable[[Any], Any]:
    # Not always the last segment: a Model's versions hang under its id.
    found = re.compile(rf"/{collection}/([^/@]+)").search

    def get(message: Any) -> str:
        match = found(message.name)
        return match[1] if match else names.id_of(message.name)

    return get


def _walk(descriptor: Descriptor, segments: list[str], get: Callable[[Any], Any]) -> Field:
    if descriptor.full_name == "google.protobuf.Struct":
        return _walk_struct(segments, get)
    if descriptor.full_name == "google.protobuf.Timestamp" and not segments:
        return Field("time", _then(get, lambda time: time.ToMicroseconds()))
    if not segments:
        return Field("message", get)
    found = descriptor.fields_by_name.get(segments[0]) or descriptor.fields_by_name.get(_snake(segments[0]))
    if found is None:
        raise Unsupported(f"{descriptor.name} has no field {segments[0]}")
    rest = segments[1:]
    if found.message_type is not None and found.message_type.GetOptions().map_entry:
        entries = _then(get, operator.attrgetter(found.name))
        return _walk_map(found.message_type.fields_by_name["value"], rest, entries)
    if found.is_repeated:
        return _walk_repeated(found, rest, get)
    if found.message_type is not None:
        return _walk(found.message_type, rest, _then(get, _submessage(found.name)))
    return _scalar(found, rest, _then(get, operator.attrgetter(found.name)))


def _walk_map(value: FieldDescriptor, segments: list[str], entries: Callable[[Any], Any]) -> Field:
    if not segments:
        return Field("many", entries)
    key, *rest = segments
    item = _then(entries, lambda mapping: mapping.get(key))
    if value.message_type is not None:
        return _walk(value.message_type, rest, item)
    return _scalar(value, rest, item)


def _walk_repeated(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> Field:
    if segments or found.type != FieldDescriptor.TYPE_STRING:
        raise Unsupported(f"comparing inside the repeated field {found.name} is not supported")
    return Field("many", _then(get, operator.attrgetter(found.name)))


def _walk_struct(segments: list[str], get: Callable[[Any], Any]) -> Field:
    """`metadata.<key>.<type_value>`, as the metadata reference documents it."""
    if not segments:
        return Field("many", _then(get, operator.attrgetter("fields")))
    key, *rest = segments
    value = _then(get, lambda struct: struct.fields.get(key))
    types: dict[str, Literal["text", "number", "bool"]]
    types = {"string_value": "text", "number_value": "number", "bool_value": "bool"}
    if not rest:
        return Field("any", value)
    chosen = _then(value, lambda it: getattr(it, rest[0]) if it.WhichOneof("kind") == rest[0] else None)
    if rest[0] == "struct_value":
        return _walk_struct(rest[1:], chosen)
    if rest[0] not in types or len(rest) > 1:
        raise Unsupported(
            f'after the key "{key}" say the type of its value: {", ".join(types)}, or struct_value and a key'
        )
    return Field(types[rest[0]], chosen)


def _scalar(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> Field:
    if segments:
        raise Unsupported(f"{found.name} has no field {segments[0]}")
    if found.enum_type is not None:
        return Field(found.enum_type, get)
    if found.type == FieldDescriptor.TYPE_STRING:
        return Field("text", get)
    if found.type == FieldDescriptor.TYPE_BOOL:
        return Field("bool", get)
    if found.type == FieldDescriptor.TYPE_BYTES:
        raise Unsupported(f"{found.name} holds bytes, which cannot be compared")
    return Field("number", get)


def _then(get: Callable[[Any], Any], go_on: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(message: Any) -> Any:
        value = get(message)
        return None if value is None else go_on(value)

    return both


def _submessage(name: str) -> Callable[[Any], Any]:
    return lambda message: getattr(message, name) if message.HasField(name) else None


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
