"""Filters, ordering and paging of lists, for any kind of resource.

The filter language is the part of AIP-160 that the Vertex AI reference documents for its lists; as there,
OR binds tighter than AND, and `*` in a text stands for any characters. What the store has a column or a facet
for is decided by the database, the rest on the message.

Sources: https://google.aip.dev/160, https://google.aip.dev/132#ordering, https://google.aip.dev/158,
https://cloud.google.com/vertex-ai/docs/ml-metadata/analyzing
"""

from __future__ import annotations

import base64
import hashlib
import json
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any, Generic, Literal

import lark
import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from localvertex import facets, names
from localvertex.store import Resource, Store, kind_of, parse, resources
from localvertex.store import facets as store_facets

DEFAULT_PAGE, MAX_PAGE = 100, 1000
MAX_DEPTH = 5
"""How deep parentheses may nest, as the metadata lists document it."""

PAGE_BYTES = 192 << 10
"""A page ends early when its messages have come to this much; a run with its details can be large."""

_SCAN, _READ = 200, 50
"""How many messages are read at a time when some of them will not pass, and when all will."""

_FEW, _MANY = 1000, 10_000
"""How many resources are looked up at a time by what an index says of them, and of how many it may be sorted."""

Related = Callable[[str], sa.Select[int]]

_GRAMMAR = r"""
    start: conjunction?
    conjunction: disjunction (_AND disjunction)*
    disjunction: _term (_OR _term)*
    _term: negation | group | call | comparison
    negation: _NOT _term
    group: "(" conjunction ")"
    call: NAME "(" STRING ")"
    comparison: path COMPARATOR value ("," value)*
    path: NAME ("." (NAME | STRING))*
    value: STRING | WORD

    _AND.2: /AND(?!\w)/
    _OR.2: /OR(?!\w)/
    _NOT.2: /NOT(?!\w)/
    COMPARATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | ":"
    NAME: /\w[\w-]*/
    WORD: /[\w*+.-][^\s(),"']*/
    STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
    %ignore /\s+/
"""
_PARSER = lark.Lark(_GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True)
_SPOKEN = {
    **{
        "NAME": "a field",
        "STRING": "a quoted text",
        "WORD": "a value",
        "COMPARATOR": "a comparison (= != < > <= >= :)",
    },
    **{"_AND": "AND", "_OR": "OR", "_NOT": "NOT", "LPAR": "'('", "RPAR": "')'", "COMMA": "','", "DOT": "'.'"},
    "$END": "the end",
}
_ORDERINGS: Mapping[str, Callable[[Any, Any], Any]] = {
    **{"=": operator.eq, ":": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
_EQUALITIES = ("=", "!=", ":")
_TIMES: Mapping[str, sa.Column[Any]] = {
    **{"create_time": resources.c.created, "update_time": resources.c.updated},
    **{"start_time": resources.c.started, "end_time": resources.c.ended},
}

Tree = lark.Tree[lark.Token]


@dataclass(frozen=True)
class Relations:
    """What filters may ask beyond a resource's own fields; each gives a query of the ids it holds for.

    Args:
        functions: `in_context("name")`.
        collections: `parent_contexts:"name"`.
    """

    functions: Mapping[str, Related] = field(default_factory=dict)
    collections: Mapping[str, Related] = field(default_factory=dict)


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
_AnyPostings = Sequence[Postings]


def listing(
    store: Store,
    kind: type[Resource],
    parent: str | None,
    filter: str = "",
    order_by: str = "",
    page_size: int = 0,
    page_token: str = "",
    *,
    where: Sequence[sa.ColumnElement[bool]] = (),
    relations: Relations | None = None,
    maximum: int = MAX_PAGE,
    page_bytes: int = PAGE_BYTES,
) -> tuple[list[Resource], str]:
    """One page of the resources of a kind, newest first unless ordered otherwise.

    Whatever is created or deleted meanwhile, pages repeat no resource and skip none that was there all along.

    Args:
        parent: only those directly under this resource name; None for all.
        order_by: `create_time desc, display_name`.
        page_size: at most this many; 0 for 100.
        page_token: where the page before said to go on; the filter and the order must be the same.
        where: more conditions, on the columns of `resources`.
        relations: what the filter may use beside the fields.
        maximum: page sizes above it mean this many.
        page_bytes: end the page when its messages have come to this much, though it be short (AIP-158).

    Returns:
        The resources, and the token of the next page, '' after the last.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and at which position.
    """
    condition = parse_filter(kind, filter, relations)
    order = _Order.parse(kind, order_by)
    size = _page_size(page_size, maximum)
    question = hashlib.sha256(json.dumps([kind_of(kind), parent, filter, order_by]).encode()).hexdigest()[:16]
    scan = _Scan(store, kind, condition, _under(parent, where))
    page: list[Resource] = []
    position: list[Any] = []
    weight = 0
    for keys, resource in order.walk(scan, _read_token(page_token, question, len(order.keys)), size + 1):
        weight += type(resource).pb(resource).ByteSize()
        if len(page) == size or (page and weight > page_bytes):
            return page, _write_token(question, position)
        page.append(resource)
        position = keys
    return page, ""


def matching(
    store: Store,
    kind: type[Resource],
    parent: str | None,
    filter: str,
    *,
    where: Sequence[sa.ColumnElement[bool]] = (),
    relations: Relations | None = None,
) -> Iterator[Resource]:
    """Every resource of a kind that passes a filter, newest first; the arguments are those of `listing`.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong with the filter, and at which position.
    """
    scan = _Scan(store, kind, parse_filter(kind, filter, relations), _under(parent, where))
    return (resource for _, resource in _Order.parse(kind, "").walk(scan, None, _SCAN))


def parse_filter(kind: type[proto.Message], filter: str, relations: Relations | None = None) -> Condition:
    """What a filter asks of a kind of resource.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and at which position (counted from 1).
    """
    try:
        tree = _PARSER.parse(filter)
    except lark.exceptions.UnexpectedInput as error:
        raise _syntax_error(filter, error) from None
    return _Compiler(kind, filter, relations or Relations()).join("and", tree.children)


def predicate(kind: type[proto.Message], filter: str) -> Callable[[Any], bool]:
    """What a filter asks, as a test of messages that no store holds.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong with the filter, and at which position.
    """
    condition = parse_filter(kind, filter)
    return lambda message: _decide(condition, kind.pb(message), {})


class _Compiler:
    """Turns a parsed filter into conditions on one kind of resource."""

    def __init__(self, kind: type[proto.Message], filter: str, relations: Relations) -> None:
        self._kind = kind
        self._filter = filter
        self._relations = relations
        self._depth = 0

    def join(self, operator: Literal["and", "or", "not"], trees: Sequence[Any]) -> Condition:
        parts = tuple(self._condition(tree) for tree in trees)
        return parts[0] if len(parts) == 1 and operator != "not" else Combination(operator, parts)

    def _condition(self, tree: Tree) -> Condition:
        match tree.data:
            case "conjunction":
                return self.join("and", tree.children)
            case "disjunction":
                return self.join("or", tree.children)
            case "negation":
                return self.join("not", tree.children)
            case "group":
                return self._group(tree)
            case "call":
                return self._call(tree)
            case _:
                return self._comparison(tree)

    def _group(self, tree: Tree) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(tree, f"parentheses nest deeper than {MAX_DEPTH} levels")
        condition = self.join("and", tree.children)
        self._depth -= 1
        return condition

    def _call(self, tree: Tree) -> Condition:
        name, argument = (str(child) for child in tree.children)
        known = self._relations.functions
        if name not in known:
            raise self._error(tree, f"{_kind(self._kind)} filters have no function {name}{_of(known)}")
        return _related(known[name], _unquote(argument))

    def _comparison(self, tree: Tree) -> Condition:
        path, comparator, *values = tree.children
        assert isinstance(path, lark.Tree)
        if len(values) > 1 and comparator != ":":
            raise self._error(tree, f"'{comparator}' takes one value; quote a value that holds commas")
        return self._all([self._leaf(path, str(comparator), value) for value in values])

    def _all(self, conditions: Sequence[Condition]) -> Condition:
        return conditions[0] if len(conditions) == 1 else Combination("and", tuple(conditions))

    def _leaf(self, path: Tree, comparator: str, value: Any) -> Condition:
        segments = [_unquote(str(segment)) for segment in path.children]
        text = _unquote(str(value.children[0]))
        if len(segments) == 1 and segments[0] in self._relations.collections:
            if comparator != ":":
                raise self._error(path, f"{segments[0]} supports only ':', not '{comparator}'")
            return _related(self._relations.collections[segments[0]], text)
        try:
            found = _field(self._kind, segments)
        except _Unsupported as problem:
            raise self._error(path, str(problem)) from None
        try:
            return found.compare(comparator, text)
        except _Unsupported as problem:
            raise self._error(value, f"{'.'.join(segments)} {problem}") from None

    def _error(self, tree: Tree, problem: str) -> exceptions.InvalidArgument:
        return _invalid(self._filter, tree.meta.start_pos, problem)


class _Unsupported(Exception):
    """What is wrong with a field or a value; the caller knows where."""


@dataclass(frozen=True)
class _Facet:
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

    def entry(self, key: str) -> _Facet:
        """One entry of the map that this is the path of."""
        return _Facet(self.kind, f"{self.path}.{key}")

    def _found(self, where: Sequence[sa.ColumnElement[bool]], ordered: bool) -> tuple[sa.ColumnElement[bool], Postings]:
        known = [store_facets.c.kind == self.kind, store_facets.c.path == self.path, *where]
        found = sa.exists().where(store_facets.c.resource == resources.c.id, *known)
        return found, Postings(store_facets.c.resource, known, ordered)


@dataclass(frozen=True)
class _Field:
    """One thing of a message to compare.

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
    facet: _Facet | None = None

    def compare(self, comparator: str, text: str) -> Condition:
        if comparator == ":" and text == "*":
            return self._present()
        match self.type:
            case "text":
                return self._compare_text(comparator, text)
            case "number":
                return self._compare_ordered(comparator, _number(text))
            case "time":
                return self._compare_ordered(comparator, _microseconds(text))
            case "bool":
                return self._compare_equal(comparator, _boolean(text))
            case "many":
                return self._has(comparator, text)
            case "any":
                raise _Unsupported("needs the type of its value after the key, as in metadata.loss.number_value")
            case "message":
                raise _Unsupported("is a message: it supports only ':*', or a comparison of one of its fields")
            case _:
                return self._compare_equal(comparator, _enum_number(self.type, text))

    def _present(self) -> Condition:
        if self.facet is not None and self.type in ("text", "number", "bool"):
            return self.facet.leaf(*([store_facets.c.text != ""] if self.type == "text" else []), ordered=False)
        if self.facet is not None and self.type == "any":
            return _any_type(self.facet)
        if self.type == "time" and self.column is not None:
            return Leaf(where=self.column > 0)
        return Leaf(test=lambda message: _is_present(self.get(message)))

    def _compare_text(self, comparator: str, text: str) -> Leaf:
        if "*" not in text:
            return self._compare_equal(comparator, text)
        _check(comparator, _EQUALITIES)
        matches = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL).fullmatch
        if comparator == "!=":
            return self._tested(lambda value: not matches(value))
        return self._tested(lambda value: matches(value) is not None, text)

    def _compare_equal(self, comparator: str, wanted: Any) -> Leaf:
        _check(comparator, _EQUALITIES)
        return self._compare_ordered(comparator, wanted)

    def _compare_ordered(self, comparator: str, wanted: Any) -> Leaf:
        compare = _ORDERINGS[comparator]
        if self.column is not None:
            return _compare_column(self.column, comparator, wanted, is_time=self.type == "time")
        if self.facet is not None and self.type in ("number", "bool"):
            return self.facet.leaf(compare(store_facets.c.number, float(wanted)), ordered=comparator in "=:")
        if self.facet is not None and len(wanted) < facets.MAX_TEXT:
            return self.facet.leaf(compare(store_facets.c.text, wanted), ordered=comparator in "=:")
        return self._tested(lambda value: bool(compare(value, wanted)))

    def _has(self, comparator: str, text: str) -> Condition:
        _check(comparator, (":",))
        if self.facet is not None:
            entry = self.facet.entry(text)
            if self.facet.path == "metadata" and len(entry.path) <= facets.MAX_PATH - facets.MAX_TYPE:
                return _any_type(entry)
            if self.facet.path == "labels" and len(entry.path) <= facets.MAX_PATH:
                return entry.leaf(ordered=False)
        return self._tested(lambda values: text in values)

    def _tested(self, test: Callable[[Any], bool], pattern: str | None = None) -> Leaf:
        """A leaf that only the message decides; a pattern is what the texts that pass look like."""

        def passes(message: Message) -> bool:
            value = self.get(message)
            return value is not None and test(value)

        if pattern is None:
            return self.facet.narrows(passes) if self.facet is not None else Leaf(test=passes)
        head = pattern.partition("*")[0]
        if self.facet is not None:
            return self.facet.narrows(passes, *_begins(store_facets.c.text, head[: facets.MAX_TEXT]))
        if self.column is None:
            return Leaf(test=passes)
        like = self.column.like("%".join(map(_like_escaped, pattern.split("*"))), escape="\\")
        where = [*_begins(self.column, head), like]
        return Leaf(test=passes, narrows=sa.and_(*where), postings=Postings(resources.c.id, where, ordered=False))


def _compare_column(column: sa.Column[Any], comparator: str, wanted: Any, *, is_time: bool) -> Leaf:
    # The columns of times hold seconds, made of whole microseconds by this same division, and 0 for no time.
    where = [_ORDERINGS[comparator](column, wanted / 1_000_000 if is_time else wanted)]
    if is_time:
        where.append(column > 0)
    # What differs from a value is most of everything, and no place to begin.
    postings = None if comparator == "!=" else Postings(resources.c.id, where, ordered=not is_time)
    return Leaf(where=sa.and_(*where), postings=postings)


def _any_type(facet: _Facet) -> Condition:
    """A facet of the metadata, whichever type its value has."""
    return Combination("or", tuple(facet.entry(type).leaf(ordered=False) for type in facets.TYPES))


def _begins(column: sa.Column[Any], head: str) -> list[sa.ColumnElement[bool]]:
    """What the texts that begin so have in common, in the words of an index."""
    if not head:
        return []
    last = ord(head[-1]) + 1
    after = [] if 0xD800 <= last < 0xE000 or last > 0x10FFFF else [column < head[:-1] + chr(last)]
    return [column >= head, *after]


def _related(relation: Related, name: str) -> Leaf:
    ids = relation(name)
    column = ids.selected_columns[0]
    whereclause = ids.whereclause
    assert whereclause is not None
    return Leaf(where=ids.where(column == resources.c.id).exists(), postings=Postings(column, [whereclause]))


def _field(kind: type[proto.Message], segments: Sequence[str]) -> _Field:
    """The field at a path, whose names may be snake_case or camelCase.

    Raises:
        _Unsupported: there is none, or it cannot be compared.
    """
    descriptor: Descriptor = kind.meta.pb.DESCRIPTOR
    found = _alias(kind, descriptor, segments) or _walk(descriptor, list(segments), lambda message: message)
    return found if found.column is not None else replace(found, facet=_facet(kind, segments, found))


def _facet(kind: type[proto.Message], segments: Sequence[str], found: _Field) -> _Facet | None:
    first, *rest = segments
    if found.type in ("any", "many") and facets.has(kind, first, len(rest)):
        return _Facet(kind_of(kind), ".".join(segments))
    path = facets.path_of(kind, [_snake(first), *rest])
    return None if path is None else _Facet(kind_of(kind), path)


def _alias(kind: type[proto.Message], descriptor: Descriptor, segments: Sequence[str]) -> _Field | None:
    """Fields that only lists know: a column's, or `model` for a Model's id."""
    if len(segments) != 1:
        return None
    name = _snake(segments[0])
    own = name in descriptor.fields_by_name
    if own and name in ("name", "display_name", "schema_title", "uri"):
        return _Field("text", operator.attrgetter(name), resources.c[name])
    if own and name in _TIMES:
        return _Field("time", _walk(descriptor, [name], lambda message: message).get, _TIMES[name])
    if own and name == "state" and (enum := descriptor.fields_by_name[name].enum_type) is not None:
        return _Field(enum, operator.attrgetter(name), resources.c.state)
    if not own and name in (_snake(kind.__name__), _snake(kind.__name__) + "_user_id"):
        return _Field("text", _id_in(f"{kind.__name__[0].lower()}{kind.__name__[1:]}s"))
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


def _walk(descriptor: Descriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if descriptor.full_name == "google.protobuf.Struct":
        return _walk_struct(segments, get)
    if descriptor.full_name == "google.protobuf.Timestamp" and not segments:
        return _Field("time", _then(get, lambda time: time.ToMicroseconds()))
    if not segments:
        return _Field("message", get)
    found = descriptor.fields_by_name.get(segments[0]) or descriptor.fields_by_name.get(_snake(segments[0]))
    if found is None:
        raise _Unsupported(f"{descriptor.name} has no field {segments[0]}")
    rest = segments[1:]
    if found.message_type is not None and found.message_type.GetOptions().map_entry:
        entries = _then(get, operator.attrgetter(found.name))
        return _walk_map(found.message_type.fields_by_name["value"], rest, entries)
    if found.is_repeated:
        return _walk_repeated(found, rest, get)
    if found.message_type is not None:
        return _walk(found.message_type, rest, _then(get, _submessage(found.name)))
    return _scalar(found, rest, _then(get, operator.attrgetter(found.name)))


def _walk_map(value: FieldDescriptor, segments: list[str], entries: Callable[[Any], Any]) -> _Field:
    if not segments:
        return _Field("many", entries)
    key, *rest = segments
    item = _then(entries, lambda mapping: mapping.get(key))
    if value.message_type is not None:
        return _walk(value.message_type, rest, item)
    return _scalar(value, rest, item)


def _walk_repeated(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if segments or found.type != FieldDescriptor.TYPE_STRING:
        raise _Unsupported(f"comparing inside the repeated field {found.name} is not supported")
    return _Field("many", _then(get, operator.attrgetter(found.name)))


def _walk_struct(segments: list[str], get: Callable[[Any], Any]) -> _Field:
    """`metadata.<key>.<type_value>`, as the metadata reference documents it."""
    if not segments:
        return _Field("many", _then(get, operator.attrgetter("fields")))
    key, *rest = segments
    value = _then(get, lambda struct: struct.fields.get(key))
    types: dict[str, Literal["text", "number", "bool"]]
    types = {"string_value": "text", "number_value": "number", "bool_value": "bool"}
    if not rest:
        return _Field("any", value)
    chosen = _then(value, lambda it: getattr(it, rest[0]) if it.WhichOneof("kind") == rest[0] else None)
    if rest[0] == "struct_value":
        return _walk_struct(rest[1:], chosen)
    if rest[0] not in types or len(rest) > 1:
        raise _Unsupported(
            f'after the key "{key}" say the type of its value: {", ".join(types)}, or struct_value and a key'
        )
    return _Field(types[rest[0]], chosen)


def _scalar(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if segments:
        raise _Unsupported(f"{found.name} has no field {segments[0]}")
    if found.enum_type is not None:
        return _Field(found.enum_type, get)
    if found.type == FieldDescriptor.TYPE_STRING:
        return _Field("text", get)
    if found.type == FieldDescriptor.TYPE_BOOL:
        return _Field("bool", get)
    if found.type == FieldDescriptor.TYPE_BYTES:
        raise _Unsupported(f"{found.name} holds bytes, which cannot be compared")
    return _Field("number", get)


def _then(get: Callable[[Any], Any], go_on: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(message: Any) -> Any:
        value = get(message)
        return None if value is None else go_on(value)

    return both


def _submessage(name: str) -> Callable[[Any], Any]:
    return lambda message: getattr(message, name) if message.HasField(name) else None


def _is_present(value: Any) -> bool:
    # Numbers, times and flags that are there count even when zero; texts and collections when not empty.
    return value is not None and not (hasattr(value, "__len__") and len(value) == 0)


def _check(comparator: str, supported: Sequence[str]) -> None:
    if comparator not in supported:
        raise _Unsupported(f"does not support '{comparator}', only {' '.join(supported)}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _Unsupported(f'is compared with a number, and "{text}" is none') from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise _Unsupported(f'is compared with true or false, not with "{text}"')
    return text == "true"


def _enum_number(enum: EnumDescriptor, text: str) -> int:
    if text not in enum.values_by_name:
        raise _Unsupported(f'has no value "{text}"{_of(enum.values_by_name)}')
    return int(enum.values_by_name[text].number)


def _microseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _Unsupported(f'is compared with an RFC 3339 time such as 2020-11-19T11:30:00Z, not with "{text}"')
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass(frozen=True)
class _Found:
    """Ids that an index gave, newest first; and whether these are all."""

    postings: _AnyPostings
    ids: Sequence[int]
    whole: bool


class _Scan(Generic[Resource]):
    """The resources of a kind that pass a condition, read from the store in the order of some columns.

    Without statistics a database cannot tell which of several conditions holds for few, and where to begin. So the
    indexes are asked first: the search begins with the condition whose newest thousand go back furthest.
    """

    def __init__(
        self,
        store: Store,
        kind: type[Resource],
        condition: Condition,
        where: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        self.store = store
        self.kind = kind
        self._condition = condition
        self._within = [resources.c.kind == kind_of(kind), *where]
        self._exact = _is_exact(condition)
        self._leaves = [] if self._exact else [leaf for leaf in _leaves(condition) if leaf.where is not None]

    def walk(
        self, keys: Sequence[_Key], after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """Resources with the values of their keys, beginning after a position."""
        newest_first = keys == _NEWEST_FIRST
        start = self._start(after[0] if newest_first and after is not None else None)
        if start is not None and newest_first:
            return self._from(start, batch)
        if start is not None and start.whole and len(start.ids) <= _FEW:
            return self._along(keys, after, batch, among=start.ids)
        return self._along(keys, after, batch)

    def _along(
        self, keys: Sequence[_Key], after: Sequence[Any] | None, batch: int, among: Sequence[int] | None = None
    ) -> Iterator[tuple[list[Any], Resource]]:
        """In the order of the keys, as many at a time as are wanted; only among some ids if they are given."""
        batch = self._batch(batch)
        # Along the index of the order, whatever others there are; or by the ids.
        where = [*self._within, _unplanned([_narrowed(self._condition)])]
        if among is not None:
            where = [resources.c.id.in_(among), _unplanned([*self._within, _narrowed(self._condition)])]
        order = [key.column.desc() if key.descends else key.column for key in keys if key.column is not None]
        query = sa.select(resources.c.id).where(*where).order_by(*order).limit(batch)
        while True:
            # Ids first: what is sorted on the way should not be whole messages.
            page = query if after is None else query.where(_beyond(keys, after))
            rows = self._read(keys, resources.c.id.in_(page.scalar_subquery()), order)
            for after, resource, decided in rows:
                if self._passes(resource, decided):
                    yield after, resource
            if len(rows) < batch:
                return

    def _from(self, found: _Found, batch: int) -> Iterator[tuple[list[Any], Resource]]:
        """Newest first, by the ids that an index gives."""
        batch = self._batch(batch)
        unplanned = _unplanned([*self._within, _narrowed(self._condition)])
        while True:
            for begin in range(0, len(found.ids), batch):
                where = sa.and_(resources.c.id.in_(found.ids[begin : begin + batch]), unplanned)
                for position, resource, decided in self._read(_NEWEST_FIRST, where, [resources.c.id.desc()]):
                    if self._passes(resource, decided):
                        yield position, resource
            if found.whole:
                return
            found = self._next(found.postings, found.ids[-1])

    def _read(
        self, keys: Sequence[_Key], where: sa.ColumnElement[bool], order: Sequence[Any]
    ) -> list[tuple[list[Any], Resource, list[Any]]]:
        columns = [key.column for key in keys if key.column is not None]
        verdicts = [leaf.where.label(f"leaf_{i}") for i, leaf in enumerate(self._leaves) if leaf.where is not None]
        query = sa.select(resources.c.body, *columns, *verdicts).where(where).order_by(*order)
        with self.store.read() as connection:
            rows = connection.execute(query).all()
        count = len(columns)
        return [(values[:count], parse(self.kind, body), values[count:]) for body, *values in rows]

    def _batch(self, wanted: int) -> int:
        return min(wanted, _READ) if self._exact else _SCAN

    def _start(self, below: int | None) -> _Found | None:
        """The condition to begin with and its first ids; None when no index can say."""
        best: _Found | None = None
        # Those whose index needs no sorting come first: with one of them, only fewer is worth sorting.
        parts = [_postings(part, self._within) for part in _conjuncts(self._condition)]
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
        with self.store.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()

    def _ids(self, postings: _AnyPostings, below: int | None, most: int, *, newest_first: bool) -> list[int]:
        query = _united(postings, below)
        if newest_first:
            query = query.order_by(sa.text("1 DESC"))
        with self.store.read() as connection:
            return list(connection.execute(query.limit(most)).scalars())

    def _passes(self, resource: Resource, decided: Sequence[Any]) -> bool:
        if self._exact:
            return True
        verdicts = {id(leaf): bool(verdict) for leaf, verdict in zip(self._leaves, decided, strict=True)}
        return _decide(self._condition, type(resource).pb(resource), verdicts)


def _decide(condition: Condition, message: Message, verdicts: Mapping[int, bool]) -> bool:
    if isinstance(condition, Leaf):
        return verdicts[id(condition)] if condition.test is None else condition.test(message)
    parts = (_decide(part, message, verdicts) for part in condition.parts)
    if condition.operator == "not":
        return not next(parts)
    return all(parts) if condition.operator == "and" else any(parts)


def _leaves(condition: Condition) -> Iterator[Leaf]:
    if isinstance(condition, Leaf):
        yield condition
    else:
        for part in condition.parts:
            yield from _leaves(part)


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    """What whatever passes the condition must pass, as far as indexes know of it."""
    if isinstance(condition, Combination) and condition.operator == "and":
        for part in condition.parts:
            yield from _conjuncts(part)
    elif _is_indexed(condition):
        yield condition


def _is_indexed(condition: Condition) -> bool:
    if isinstance(condition, Leaf):
        return condition.postings is not None
    return condition.operator == "or" and all(map(_is_indexed, condition.parts))


def _postings(condition: Condition, within: Sequence[sa.ColumnElement[bool]]) -> _AnyPostings:
    """The indexes that together say where an indexed condition holds."""
    if isinstance(condition, Combination):
        return [each for part in condition.parts for each in _postings(part, within)]
    found = condition.postings
    assert found is not None
    if found.column is resources.c.id:
        found = replace(found, where=[*within, *found.where])
    return [found]


def _needs_sorting(postings: _AnyPostings) -> bool:
    return not all(each.ordered for each in postings)


def _united(postings: _AnyPostings, below: int | None) -> Any:
    queries = [each.below(below) for each in postings]
    return queries[0] if len(queries) == 1 else sa.union(*queries)


def _unplanned(where: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """All these conditions, in words that no index answers to: the one by id is to be used."""
    return sa.case((sa.and_(*where), 1), else_=0) == 1


def _is_exact(condition: Condition) -> bool:
    return all(leaf.where is not None for leaf in _leaves(condition))


def _narrowed(condition: Condition) -> sa.ColumnElement[bool]:
    """What the database can tell: whatever passes the condition fulfils this."""
    if isinstance(condition, Leaf):
        known = condition.where if condition.where is not None else condition.narrows
        return sa.true() if known is None else known
    if condition.operator == "not":
        return sa.not_(_narrowed(condition.parts[0])) if _is_exact(condition) else sa.true()
    parts = [_narrowed(part) for part in condition.parts]
    return sa.and_(sa.true(), *parts) if condition.operator == "and" else sa.or_(sa.false(), *parts)


@dataclass(frozen=True)
class _Key:
    """One field to order by: a column, or what `get` finds in the message."""

    get: Callable[[Any], Any]
    column: sa.ColumnElement[Any] | None
    descends: bool = False


_BY_NAME = _Key(operator.attrgetter("name"), resources.c.name)
_OLDEST_FIRST = (_Key(operator.attrgetter("create_time"), resources.c.id),)
_NEWEST_FIRST = (_Key(operator.attrgetter("create_time"), resources.c.id, descends=True),)


@dataclass(frozen=True)
class _Order:
    """The order of a list; the last key is the id or the name, so that no two resources are equal."""

    keys: Sequence[_Key]

    @classmethod
    def parse(cls, kind: type[proto.Message], order_by: str) -> _Order:
        """The order that an `order_by` asks for.

        Raises:
            google.api_core.exceptions.InvalidArgument: naming the part that cannot be ordered by.
        """
        if not order_by.strip():
            return cls(_NEWEST_FIRST)
        keys = [_order_key(kind, part.strip()) for part in order_by.split(",")]
        if any(key.column is None for key in keys):
            return cls((*keys, _BY_NAME))
        # In the direction of the last key, so that an index gives the whole order.
        return cls((*keys, *(_NEWEST_FIRST if keys[-1].descends else _OLDEST_FIRST)))

    def walk(
        self, scan: _Scan[Resource], after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """What a scan finds, in this order, beginning after a position."""
        if all(key.column is not None for key in self.keys):
            yield from scan.walk(self.keys, after, batch)
            return
        # Only positions are held, not messages: a run's message can be large.
        positions = [
            [key.get(type(resource).pb(resource)) for key in self.keys]
            for _, resource in scan.walk(_NEWEST_FIRST, None, _SCAN)
        ]
        positions.sort(key=cmp_to_key(self._compare))
        if after is not None:
            positions = [position for position in positions if self._compare(position, after) > 0]
        for start in range(0, len(positions), batch):
            some = positions[start : start + batch]
            found = scan.store.find_all(scan.kind, [position[-1] for position in some])
            there = {str(resource.name): resource for resource in found}
            yield from ((position, there[position[-1]]) for position in some if position[-1] in there)

    def _compare(self, one: Sequence[Any], other: Sequence[Any]) -> int:
        for key, mine, theirs in zip(self.keys, one, other, strict=True):
            if mine != theirs:
                # A message without the field comes before all that have it.
                less = mine is None or (theirs is not None and mine < theirs)
                return -1 if less != key.descends else 1
        return 0


def _order_key(kind: type[proto.Message], part: str) -> _Key:
    path, _, direction = part.partition(" ")
    if direction.strip() not in ("", "asc", "desc"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": after a field comes "desc", "asc" or nothing.')
    try:
        found = _field(kind, path.split("."))
    except _Unsupported as problem:
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {problem}.') from None
    if found.type in ("many", "message", "any"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {path} has no order.')
    column = found.facet.order(found.type) if found.facet is not None else found.column
    return _Key(found.get, column, descends=direction.strip() == "desc")


def _beyond(keys: Sequence[_Key], position: Sequence[Any]) -> sa.ColumnElement[bool]:
    """A condition on `resources`: to come after a position in the order of the keys."""
    beyond: sa.ColumnElement[bool] = sa.false()
    for key, value in reversed(list(zip(keys, position, strict=True))):
        assert key.column is not None
        further = key.column < value if key.descends else key.column > value
        beyond = sa.or_(further, sa.and_(key.column == value, beyond))
    first, value = keys[0], position[0]
    assert first.column is not None
    # Says nothing new, but lets the database begin reading an index at the position.
    return sa.and_(first.column <= value if first.descends else first.column >= value, beyond)


def _under(parent: str | None, where: Sequence[sa.ColumnElement[bool]]) -> list[sa.ColumnElement[bool]]:
    return [*where] if parent is None else [resources.c.parent == parent, *where]


def _page_size(page_size: int, maximum: int) -> int:
    if page_size < 0:
        raise exceptions.InvalidArgument(f"page_size must be from 1 to {maximum}, not {page_size}.")
    return min(page_size or DEFAULT_PAGE, maximum)


def _write_token(question: str, position: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([question, *position]).encode()).decode()


def _read_token(token: str, question: str, length: int) -> list[Any] | None:
    if not token:
        return None
    try:
        asked, *position = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        asked, position = None, []
    if asked != question or len(position) != length:
        raise exceptions.InvalidArgument(
            "page_token does not belong to this list: send the filter and order_by of the call that gave it."
        )
    return list(position)


def _syntax_error(filter: str, error: lark.exceptions.UnexpectedInput) -> exceptions.InvalidArgument:
    expected = getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()
    spoken = ", ".join(sorted({_SPOKEN.get(name, name) for name in expected}))
    position = error.pos_in_stream
    if position is None or getattr(getattr(error, "token", None), "type", "") == "$END":
        position = len(filter)
    return _invalid(filter, position, f"expected {spoken}" if spoken else "unexpected text")


def _invalid(filter: str, position: int, problem: str) -> exceptions.InvalidArgument:
    near = filter[position : position + 30] or "the end"
    return exceptions.InvalidArgument(f"Invalid filter at position {position + 1} ({near}): {problem}.")


def _of(known: Mapping[str, Any]) -> str:
    return f"; there is: {', '.join(known)}" if known else ""


def _kind(kind: type[proto.Message]) -> str:
    return kind_of(kind)


def _like_escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[:1] in ("'", '"') else text
